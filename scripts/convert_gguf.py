"""Convert a Hugging Face folder (safetensors) or a PEFT LoRA to GGUF with llama.cpp's own converter.

    python scripts/convert_gguf.py build/tiny/hf --name my-model --out build/gguf

Writes OUT/NAME.gguf and its manifest, whole or not at all. Of a model, tokenizer and chat template
are compared afterwards, token by token, with Hugging Face's own; a difference is an error that shows
the first one, unless --allow-token-differences keeps it in the manifest instead. A LoRA needs the
base's name (--base-name) and its config (--base DIR, where it does not say itself). Needs the train
and data groups. Code from the folder is never run.
"""

import argparse
import importlib.util
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import stage
import token_check
from corral.errors import BadRequest, Conflict, InvalidModel, ToolError
from corral.registry import manifest as manifests
from corral.registry.catalog import allowed_name
from corral.registry.disk import hash_of, put_in_place
from corral.registry.gguf_header import read_header
from corral.registry.manifest import BaseOf, Manifest, ManifestFile
from hf_folder import HfFolder, inspect
from llama_tools import LlamaTools, make_room, printed
from token_check import Difference

SOURCE_SCRIPT = Path(__file__).with_name("llama_source.sh")
MODEL_CONVERTER, LORA_CONVERTER = "convert_hf_to_gguf.py", "convert_lora_to_gguf.py"
OUTTYPES = ("auto", "f32", "f16", "bf16", "q8_0")
NEEDED = ("torch", "transformers", "safetensors")
# From 16 to 32 bits at most.
GROWTH = {"f32": 2.0}


def check_groups() -> None:
    """ToolError unless what the converter imports is installed."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ToolError(
            f"converting needs {', '.join(missing)}, which is not installed here; install it with: "
            "make setup-train"
        )


def llama_source(given: Path | None, *, fetch: bool) -> Path:
    """The pinned llama.cpp source tree, fetched where it is not there."""
    if given is not None:
        return given
    command = ["bash", str(SOURCE_SCRIPT), *([] if fetch else ["--path"])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ToolError(f"no llama.cpp source: {done.stderr.strip()[-500:]}")
    return Path(done.stdout.strip().splitlines()[-1])


def command(args: argparse.Namespace, found: HfFolder, source: Path, out: Path) -> list[str]:
    """The converter's line."""
    script = source / (LORA_CONVERTER if found.is_adapter else MODEL_CONVERTER)
    argv = [sys.executable, str(script), str(found.path), "--outfile", str(out)]
    argv += ["--outtype", args.outtype]
    if not found.is_adapter:
        return [*argv, "--model-name", args.name]
    return [*argv, "--base", str(args.base or found.base)]


def check_base(args: argparse.Namespace, found: HfFolder) -> None:
    """BadRequest unless an adapter's base is known, by name and by config."""
    if not found.is_adapter:
        return
    if not args.base_name:
        raise BadRequest(
            "a LoRA needs the name of the model here that it was trained over: --base-name",
            param="base_name",
        )
    folder = args.base or Path(found.base)
    if not (folder / "config.json").is_file():
        raise BadRequest(
            f"the LoRA's base is `{found.base or 'not said'}`, and {folder} has no config.json; give "
            "the folder with the base's config.json (no weights needed): --base DIR",
            param="base",
        )


def differences(args: argparse.Namespace, folder: Path, gguf: Path) -> list[Difference]:
    """What tokenizer and chat template of the two sides do not agree on."""
    from transformers import AutoTokenizer

    from corral.datasets.template_server import Request, TemplateServer
    from corral.datasets.tokenizer import Tokenizer

    tools = LlamaTools(args.bin)
    theirs = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)

    def theirs_ids(text: str) -> list[int]:
        return [int(token) for token in theirs(text, add_special_tokens=False)["input_ids"]]

    def theirs_text(chat: list[dict[str, Any]]) -> str:
        return str(theirs.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))

    with ExitStack() as stack:
        ours = stack.enter_context(Tokenizer(gguf, tools.folder))

        def ours_ids(text: str) -> list[int]:
            return ours.encode(text, special=False)

        found = token_check.compare(theirs_ids, ours_ids)
        if theirs.chat_template and "tokenizer.chat_template" in read_header(gguf).metadata:
            server = stack.enter_context(TemplateServer(gguf, tools.path("llama-server")))
            chats, rendered = token_check.compare_chats(
                theirs_text, lambda chat: server.render([Request(chat, ask=True)])[0]
            )
            found += chats + token_check.compare(theirs_ids, ours_ids, rendered)
        elif theirs.chat_template:
            found.append(Difference("chat template", "the GGUF has none", (), ()))
    served = token_check.pieces_of(folder)
    return [each for each in found if served is None or not served.explains(each)]


def convert(args: argparse.Namespace, found: HfFolder, reporter: stage.Reporter) -> dict[str, Any]:
    """Convert, check, put in place; the result."""
    target = args.out / f"{args.name}.gguf"
    if target.exists() and not args.replace:
        raise Conflict(f"{target} exists already; give --replace or another --out", param="out")
    needed = int(found.bytes * GROWTH.get(args.outtype, 1.0)) + 64 * 1024 * 1024
    make_room(args.out, needed, f"converting {found.path.name}")
    # The converter writes into names that end in .gguf only.
    part = args.out / f".{args.name}.part.gguf"
    source = llama_source(args.llama_source, fetch=True)
    reporter.message(f"converting {found.path} ({found.bytes / 1e6:,.1f} MB)")
    try:
        LlamaTools(args.bin, log=args.events is not None).run(command(args, found, source, part))
        header = read_header(part)
        different = [] if found.is_adapter else differences(args, found.path, part)
        if different and not args.allow_token_differences:
            raise InvalidModel(refusal(found.path, different), code="token_differences")
        put_in_place(part, target)
    finally:
        part.unlink(missing_ok=True)
    if different:
        reporter.message(f"{len(different)} texts differ; first: {different[0]}", level="warning")
    record(args, found, target, different)
    return {
        "name": args.name,
        "kind": "adapter" if found.is_adapter else "base",
        "path": str(target),
        "sha256": hash_of(target),
        "bytes": target.stat().st_size,
        "architecture": header.architecture,
        "texts_compared": 0
        if found.is_adapter
        else len(token_check.TEXTS) + len(token_check.CHATS),
        "token_differences": [str(difference) for difference in different],
    }


def refusal(folder: Path, different: list[Difference]) -> str:
    """The first difference, how many there are, and what to do."""
    return (
        f"the tokenizer of {folder} did not survive: {len(different)} of "
        f"{len(token_check.TEXTS) + 2 * len(token_check.CHATS)} checks differ; first {different[0]}. "
        "What is trained on it would not be what is served. To keep the file all the same: "
        "--allow-token-differences"
    )


def record(
    args: argparse.Namespace, found: HfFolder, target: Path, different: list[Difference]
) -> None:
    """Write the manifest beside the file."""
    role = "adapter" if found.is_adapter else "weights"
    size = target.stat().st_size
    file = ManifestFile(name=target.name, role=role, sha256=hash_of(target), bytes=size)
    made = Manifest(
        name=args.name,
        kind="adapter" if found.is_adapter else "base",
        files=(file,),
        base=BaseOf(name=args.base_name) if found.is_adapter else None,
        llama_cpp_commit=commit(),
        source={"made_by": "convert", "folder": found.path.name},
        settings={"convert": {"outtype": args.outtype}},
        metrics={"convert": {"token_differences": [str(d) for d in different]}},
    )
    manifests.write(made, args.out)


def commit() -> str:
    """The pinned commit; empty where the script that knows it is not there."""
    done = subprocess.run(["bash", str(SOURCE_SCRIPT), "--commit"], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def main(args: argparse.Namespace, reporter: stage.Reporter) -> None:
    kind = "adapter" if (args.dir / "adapter_config.json").is_file() else "base"
    if not allowed_name(args.name, kind):
        raise BadRequest(
            f"`{args.name}` is no model name: letters, digits, `.`, `_`, `-`, up to 200",
            param="name",
        )
    found = inspect(args.dir)
    check_base(args, found)
    if args.dry_run:
        source = llama_source(args.llama_source, fetch=False)
        print(printed(command(args, found, source, args.out / f"{args.name}.gguf")))
        return
    check_groups()
    reporter.result(convert(args, found, reporter))


def arguments() -> argparse.ArgumentParser:
    parser = stage.parser(__doc__)
    add = parser.add_argument
    add("dir", type=Path, help="folder with config.json, or adapter_config.json for a LoRA")
    add("--name", required=True, help="name of the model")
    add("--out", type=Path, required=True, help="folder for the GGUF")
    add("--outtype", choices=OUTTYPES, default="auto", help="type of the weights (default auto)")
    add("--base", type=Path, help="of a LoRA: folder with its base's config.json")
    add("--base-name", default="", help="of a LoRA: the base's name here")
    add("--allow-token-differences", action="store_true", help="record them, do not fail")
    add("--llama-source", type=Path, help="llama.cpp's source (default: the pinned one)")
    add("--bin", type=Path, help="folder of llama.cpp's programs (default: the build's)")
    add("--replace", action="store_true", help="write over a file that is there")
    add("--dry-run", action="store_true", help="print the converter's command only")
    return parser


if __name__ == "__main__":
    stage.run(main, arguments().parse_args())
