"""The README beside an exported model: what it is, where it comes from, how to run it. Pure."""

import argparse

from corral.registry.gguf_header import Header


def readme(
    name: str, file: str, sha256: str, header: Header, args: argparse.Namespace, adapter: str
) -> str:
    """Markdown; every command in it is meant to be typed in this folder."""
    lora = f" --lora {adapter}" if adapter else ""
    merged = (
        f"{args.model.name} with the adapter {args.lora.name}" if args.lora else args.model.name
    )
    facts = {
        "file": f"`{file}`" + (f", adapter `{adapter}`" if adapter else ""),
        "sha256": f"`{sha256}`",
        "made from": merged + (f", quantised to {args.quantize}" if args.quantize else ""),
        "architecture": f"`{header.architecture}`",
        "context": f"{header.context_length or 'unknown'} tokens",
        "licence": args.licence or "not recorded; that of the base model holds",
    }
    rows = "\n".join(f"| {key} | {value} |" for key, value in facts.items())
    return f"""# {name}

{args.description or "A GGUF model exported by Corral."}

| | |
|---|---|
{rows}

## Run it

- llama.cpp: `llama-server --model {file}{lora}`
- Ollama: `ollama create {name.lower()} -f Modelfile`, then `ollama run {name.lower()}`
- LM Studio: `lms import {file} --user-repo corral/{name} --copy -y`
- GPT4All: copy `{file}` into its models folder; a model of another architecture than its list is refused there

The chat template is in the file (`tokenizer.chat_template`, Jinja); the Modelfile has it in Go's template language for Ollama.
"""
