"""The tokenizer inside a GGUF file, by llama.cpp itself: what serving uses, not a second one.

llama-cpp-python (the `data` group) is installed without a llama.cpp of its own and loads the
libraries that Corral built. Only the vocabulary is read, so a 40 GB model opens in a moment.
"""

import ctypes
from pathlib import Path
from typing import Any, Self

from corral.errors import InvalidModel, ToolError
from corral.settings import use_llama_libraries


def _llama_cpp(libraries: Path | None) -> Any:
    """The bindings, over the libraries in that folder. The first caller in a process decides."""
    if libraries is not None:
        use_llama_libraries(libraries)
    try:
        import llama_cpp
    except (ImportError, RuntimeError, OSError, FileNotFoundError) as error:
        raise ToolError(
            f"cannot load llama.cpp for counting tokens ({error}); build it with make build and "
            "install the data group: pip install 'corral[data]'"
        ) from None
    return llama_cpp


class Tokenizer:
    """Text to tokens and back. One thread at a time."""

    def __init__(self, model: Path, libraries: Path | None = None) -> None:
        if not model.is_file():
            raise InvalidModel(f"{model} is no file; give a GGUF file", param="model")
        self._api = _llama_cpp(libraries)
        self._messages: list[str] = []
        # llama.cpp keeps the pointer, so the callback must live as long as this object.
        self._log = self._api.llama_log_callback(self._take_message)
        self._api.llama_log_set(self._log, ctypes.c_void_p())
        self._api.llama_backend_init()
        params = self._api.llama_model_default_params()
        params.vocab_only = True
        self._model = self._api.llama_model_load_from_file(str(model).encode(), params)
        self._api.llama_log_set(self._api.llama_log_callback(_ignore), ctypes.c_void_p())
        if not self._model:
            why = next(
                (line for line in self._messages if "error" in line),
                "no GGUF that llama.cpp can read",
            )
            raise InvalidModel(f"cannot read the vocabulary of {model}: {why}", param="model")
        self._vocab = self._api.llama_model_get_vocab(self._model)
        eos = self._api.llama_vocab_eos(self._vocab)
        self.eos: int | None = eos if eos >= 0 else None

    def _take_message(self, level: int, text: bytes, data: Any) -> None:
        self._messages.append(text.decode(errors="replace").strip())

    def encode(self, text: str, *, special: bool = True, markers: bool = True) -> list[int]:
        """Tokens as llama-server makes them of a rendered prompt: with `markers` role markers whole,
        and with `special` the beginning-of-text token where the model wants one."""
        raw = text.encode()
        room = len(raw) + 8
        tokens = (self._api.llama_token * room)()
        count = self._api.llama_tokenize(self._vocab, raw, len(raw), tokens, room, special, markers)
        if count < 0:
            room = -count
            tokens = (self._api.llama_token * room)()
            count = self._api.llama_tokenize(
                self._vocab, raw, len(raw), tokens, room, special, markers
            )
        return list(tokens[:count])

    def piece(self, token: int) -> bytes:
        """The bytes that a token stands for; of a control token, its name."""
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            size = self._api.llama_token_to_piece(self._vocab, token, buffer, room, 0, True)
            if size >= 0:
                return buffer.raw[:size]
            room = -size

    def ends_turn(self, token: int) -> bool:
        """Whether generation stops at this token."""
        return bool(self._api.llama_vocab_is_eog(self._vocab, token))

    def close(self) -> None:
        """Free the vocabulary."""
        if self._model:
            self._api.llama_model_free(self._model)
            self._model = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _ignore(level: int, text: bytes, data: Any) -> None:
    """llama.cpp's own chatter goes nowhere."""
