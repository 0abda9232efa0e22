"""Make a tokenizer like that of the bundled model: `python scripts/tiny_tokenizer.py --out build/tokenizer.model`.

A SentencePiece BPE model with byte fallback, put together so that copying is a copy of tokens: a piece is
either letters only or JSON punctuation that holds a quotation mark, digits and spaces stand alone. `Courts` is then the
same tokens after a space, after a quotation mark and at the start of a text.

The bundled one, models/tokenizer.model, is frozen: the weights know its ids. It came from this program when the generators of
scripts/synthetic were younger, so a run today gives other pieces.
"""

import argparse
import io
import json
import re
from collections import Counter
from pathlib import Path
from random import Random

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as proto

from synthetic import lexicon
from synthetic.domains import COMMON
from synthetic.tasks import Tasks

MODELS = Path(__file__).resolve().parents[1] / "models"
TEMPLATE, FROZEN = MODELS / "chat_template.jinja", MODELS / "tokenizer.model"
VOCABULARY = 2048
CONTROL = [
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<tools>",
    "</tools>",
    "<tool_call>",
    "</tool_call>",
]
CONTROL += ["<tool_response>", "</tool_response>", "<think>", "</think>"]
SAMPLE_EXAMPLES = 40_000
LETTERS = re.compile(r"[^\W\d_]+")
# Every prefix of a piece is a piece, so that merging from the left always arrives; ▁ is a space.
JSON_PIECES = (
    '[] \\" {" "} [{" "] [" "}, "}] "}} ": ", ":▁ ",▁ ":▁" ",▁" ":" "," ":[ ":{ ":[" ":{" ":[{" ":▁[ ":▁{ ":▁[" ":▁{" ":▁[{ '
    '":▁[{" "},▁ "},▁{ "},▁{" "},{ "},{" "}], "}],▁ "}],▁" "}]," "], "],▁ "],▁" "]," [], []," [],▁ [],▁" '
    '{\\" [{\\" \\": \\":▁ \\":▁\\" \\", \\",▁ \\",▁\\" \\"} \\"} \\"}] \\":▁[ \\":▁{ \\":▁[{ \\":▁[{\\" \\"}, \\"},▁ \\"},▁{ \\"},▁{\\" \\"}], \\"}],▁ '
    "[[ [[▁ [[▁# [[▁## [[▁##▁ ▁## ▁##▁ ▁##▁] ▁##▁]] ## ]] -- ..."
).split()
ALPHABET = "".join(chr(c) for c in range(33, 127)) + lexicon.ACCENTED + lexicon.MARKS

# A dictionary counts each word once, so the words of COMMON are weighted here.
COMMON_WEIGHT = 3000


def words(examples: int) -> Counter[str]:
    """Letter runs of sample conversations with their counts."""
    tasks, counts = Tasks(Random("tokenizer"), lexicon.load()), Counter[str]()
    for _ in range(examples):
        example = tasks.draw()
        text = example.text + json.dumps([example.messages, example.tools], ensure_ascii=False)
        counts.update(LETTERS.findall(text.replace("\\n", " ")))
    for word in COMMON.split():
        counts[word] += COMMON_WEIGHT
        counts[word.capitalize()] += COMMON_WEIGHT // 4
    return counts


def letter_pieces(count: int) -> list[str]:
    """The `count` best multi-letter BPE pieces, best first."""
    table = "".join(
        f"{word}\t{n}\n" for word, n in sorted(words(SAMPLE_EXAMPLES).items()) if len(word) > 1
    )
    table_file, model = Path("build/tiny/words.tsv"), io.BytesIO()
    table_file.parent.mkdir(parents=True, exist_ok=True)
    table_file.write_text(table, encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(table_file), input_format="tsv", model_writer=model, model_type="bpe", vocab_size=count + 400,
        character_coverage=0.9999, add_dummy_prefix=False, normalization_rule_name="identity", num_threads=1,
        hard_vocab_limit=False, minloglevel=1,
    )  # fmt: skip
    trained = proto.ModelProto.FromString(model.getvalue())
    pieces = [
        p.piece
        for p in trained.pieces
        if p.type == p.NORMAL and len(p.piece) > 1 and "▁" not in p.piece
    ]
    return pieces[:count]


def build() -> proto.ModelProto:
    """The whole model: unknown, controls, bytes, JSON pieces, letter pieces, single characters; 2,048 in all."""
    model = proto.ModelProto()
    model.trainer_spec.model_type = proto.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.vocab_size = VOCABULARY
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = False
    model.normalizer_spec.remove_extra_whitespaces = False
    model.normalizer_spec.escape_whitespaces = True
    piece_type = proto.ModelProto.SentencePiece
    model.pieces.add(piece="<unk>", score=0, type=piece_type.UNKNOWN)
    for marker in CONTROL:
        model.pieces.add(piece=marker, score=0, type=piece_type.CONTROL)
    for byte in range(256):
        model.pieces.add(piece=f"<0x{byte:02X}>", score=0, type=piece_type.BYTE)
    json_pieces = list(dict.fromkeys(JSON_PIECES))
    singles = ["▁", *dict.fromkeys(ALPHABET)]
    letters = letter_pieces(VOCABULARY - len(model.pieces) - len(json_pieces) - len(singles))
    for rank, piece in enumerate([*json_pieces, *letters, *singles]):
        model.pieces.add(piece=piece, score=-rank, type=piece_type.NORMAL)
    if len(model.pieces) != VOCABULARY:
        raise SystemExit(f"the tokenizer has {len(model.pieces)} pieces, not {VOCABULARY}")
    return model


def place(folder: Path) -> None:
    """Put the frozen tokenizer into `folder`, with the configuration that the pinned converter reads."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(FROZEN.read_bytes())
    config = {
        "tokenizer_class": "LlamaTokenizer", "add_prefix_space": False, "add_bos_token": False, "add_eos_token": False,
        "bos_token": "<s>", "eos_token": "<|im_end|>", "unk_token": "<unk>", "pad_token": "</s>", "legacy": False,
        "chat_template": TEMPLATE.read_text(encoding="utf-8").strip(),
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(
        json.dumps(config, indent=1, ensure_ascii=False), encoding="utf-8"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="SentencePiece model to write")
    out = parser.parse_args().out
    out.write_bytes(build().SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
