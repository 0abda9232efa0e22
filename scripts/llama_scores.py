"""Probabilities that llama.cpp itself gives to tokens: the libraries that serve, not a second implementation.

By the bindings, in this process, because llama-server tells no probabilities of a given text. Works
for every GGUF that is served: quantised, with an adapter or without.
"""

import ctypes
from pathlib import Path
from typing import Any, Self

import numpy as np

from corral.errors import InvalidModel, ToolError
from corral.settings import use_llama_libraries

_BATCH = 256  # tokens decoded at once; their logits are vocabulary × 4 bytes each


class Scorer:
    """One model, with an adapter that can be switched. One thread at a time; use with `with`."""

    def __init__(
        self, model: Path, libraries: Path, adapter: Path | None = None, context: int = 4096
    ) -> None:
        use_llama_libraries(libraries)
        import llama_cpp

        self._api: Any = llama_cpp
        # llama.cpp keeps the pointer, so the callback must live as long as this object.
        self._log = self._api.llama_log_callback(lambda level, text, data: None)
        self._api.llama_log_set(self._log, ctypes.c_void_p())
        self._load_backends()
        self._api.llama_backend_init()
        self._model = self._api.llama_model_load_from_file(
            str(model).encode(), self._api.llama_model_default_params()
        )
        if not self._model:
            raise InvalidModel(f"llama.cpp cannot load {model}", param="model")
        params = self._api.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = context, _BATCH, _BATCH, 1
        self._context = self._api.llama_init_from_model(self._model, params)
        if not self._context:
            raise ToolError(f"llama.cpp has no memory for a context of {context} over {model}")
        self._vocabulary = self._api.llama_vocab_n_tokens(
            self._api.llama_model_get_vocab(self._model)
        )
        self._adapter = self._load_adapter(adapter) if adapter else None
        self.use_adapter(adapter is not None)

    def _load_backends(self) -> None:
        """Where they are modules, as in the images: llama.cpp itself would look beside Python."""
        library = self._api.llama_cpp._lib
        if not library.ggml_backend_dev_count():
            library.ggml_backend_load_all_from_path(str(Path(library._name).parent).encode())

    def _load_adapter(self, path: Path) -> Any:
        adapter = self._api.llama_adapter_lora_init(self._model, str(path).encode())
        if not adapter:
            raise InvalidModel(f"llama.cpp cannot apply {path} to this model", param="adapter")
        return adapter

    def use_adapter(self, on: bool) -> None:
        """Apply the adapter from now on, or not."""
        if self._adapter is None:
            return
        adapters = (self._api.llama_adapter_lora_p_ctypes * 1)(self._adapter)
        scales = (ctypes.c_float * 1)(1.0)
        if self._api.llama_set_adapters_lora(self._context, adapters, int(on), scales):
            raise ToolError("llama.cpp did not take the adapter")

    def logprobs(self, ids: np.ndarray, learned: np.ndarray) -> np.ndarray:
        """log p of every learned token but a first one, given all before it."""
        self._api.llama_memory_clear(self._api.llama_get_memory(self._context), True)
        wanted: np.ndarray = np.append(learned[1:], False)
        found = list[float]()
        for begin in range(0, len(ids), _BATCH):
            part = ids[begin : begin + _BATCH]
            found += self._decode(begin, part, wanted[begin : begin + _BATCH], ids)
        made: np.ndarray = np.array(found)
        return made

    def _decode(
        self, begin: int, part: np.ndarray, wanted: np.ndarray, ids: np.ndarray
    ) -> list[float]:
        batch = self._api.llama_batch_init(len(part), 0, 1)
        try:
            batch.n_tokens = len(part)
            for at, token in enumerate(part.tolist()):
                batch.token[at], batch.pos[at] = token, begin + at
                batch.n_seq_id[at], batch.seq_id[at][0] = 1, 0
                batch.logits[at] = bool(wanted[at])
            if self._api.llama_decode(self._context, batch):
                raise ToolError(
                    f"llama.cpp could not decode {begin + len(part)} tokens; is the row longer than the context?"
                )
            return [
                self._logprob(int(at), int(ids[begin + at + 1])) for at in np.flatnonzero(wanted)
            ]
        finally:
            self._api.llama_batch_free(batch)

    def _logprob(self, at: int, token: int) -> float:
        pointer = self._api.llama_get_logits_ith(self._context, int(at))
        logits = np.ctypeslib.as_array(pointer, (self._vocabulary,)).astype(np.float64)
        top = logits.max()
        return float(logits[token] - top - np.log(np.exp(logits - top).sum()))

    def close(self) -> None:
        """Free model and context; does nothing the second time."""
        if self._context:
            self._api.llama_free(self._context)
            self._context = None
        if self._model:
            self._api.llama_model_free(self._model)
            self._model = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
