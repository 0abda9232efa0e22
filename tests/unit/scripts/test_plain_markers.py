"""The copy of a model whose role markers are plain tokens."""

from pathlib import Path

from gguf import GGUFReader, GGUFWriter

from plain_markers import copy, other_case, plain

NAMES = ["<unk>", "<|im_start|>", "<|im_end|>", "user", "<s>"]
KINDS = [2, 3, 3, 1, 3]


def model(path: Path) -> Path:
    writer = GGUFWriter(path, "llama")
    writer.add_token_list(NAMES)
    writer.add_token_types(KINDS)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_control_tokens_become_plain_ones_of_another_name_and_the_model_stays(
    tmp_path: Path,
) -> None:
    original = model(tmp_path / "m.gguf")
    before = original.read_bytes()
    (tmp_path / "work").mkdir()
    made, markers = copy(original, tmp_path / "work")
    assert markers == {
        "<|im_start|>": "<|IM_START|>", "<|im_end|>": "<|IM_END|>", "<s>": "<S>",
    }  # fmt: skip
    fields = GGUFReader(made).fields
    assert fields["tokenizer.ggml.token_type"].contents() == [2, 4, 4, 1, 4]
    assert fields["tokenizer.ggml.tokens"].contents() == [
        "<unk>", "<|IM_START|>", "<|IM_END|>", "user", "<S>",
    ]  # fmt: skip
    assert original.read_bytes() == before
    assert made.stat().st_size == len(before)


def test_a_text_is_written_with_the_longest_marker_first() -> None:
    assert plain("<s>a<s>x", {"<s>": "<S>", "<s>x": "<S>X"}) == "<S>a<S>X"


def test_a_name_stays_as_long_in_every_script() -> None:
    marker = "<｜end▁of▁sentence｜>ß".encode()
    assert len(other_case(marker)) == len(marker)
    assert other_case(marker) != marker
