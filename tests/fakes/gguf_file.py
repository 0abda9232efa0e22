"""Write small GGUF files for tests: real headers, one tensor, no meaning."""

import struct
from pathlib import Path

STRING, UINT32, ARRAY = 8, 4, 9
F32 = 0

Value = str | int | list[str]


def text(value: str) -> bytes:
    """A GGUF string."""
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def metadata(key: str, value: Value) -> bytes:
    """One key and its value."""
    if isinstance(value, str):
        return text(key) + struct.pack("<I", STRING) + text(value)
    if isinstance(value, int):
        return text(key) + struct.pack("<II", UINT32, value)
    items = b"".join(text(item) for item in value)
    return text(key) + struct.pack("<IIQ", ARRAY, STRING, len(value)) + items


def gguf(values: dict[str, Value] | None = None, elements: int = 8) -> bytes:
    """A whole file: `values` over a llama's usual metadata, one F32 tensor."""
    base: dict[str, Value] = {
        "general.architecture": "llama",
        "llama.context_length": 4096,
        "tokenizer.ggml.tokens": ["<s>", "a", "b"],
        "tokenizer.chat_template": "{{ messages }}",
    }
    entries = {**base, **(values or {})}
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(entries))
    head += b"".join(metadata(key, value) for key, value in entries.items())
    head += text("token_embd.weight") + struct.pack("<IQIQ", 1, elements, F32, 0)
    padding = b"\0" * (-len(head) % 32)
    return head + padding + b"\0" * (4 * elements)


def write_model(path: Path, values: dict[str, Value] | None = None) -> Path:
    """A base model at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gguf(values))
    return path


def write_adapter(path: Path, base: str) -> Path:
    """A LoRA adapter over `base` at `path`."""
    return write_model(path, {"general.type": "adapter", "general.base_model.0.name": base})
