"""What is asked of llama-quantize, as its command line, and what is recorded of the result."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from corral.registry import manifest as manifests
from corral.registry.disk import hash_of
from corral.registry.manifest import BaseOf, Manifest, ManifestFile
from corral.registry.quant_types import QUANTIZE, QuantType
from llama_tools import LlamaTools
from quant_coverage import Coverage

COMMIT = re.compile(r"commit ([0-9a-f]{7,40})")


@dataclass(frozen=True)
class Options:
    """What decides the result; kept in the manifest."""

    pure: bool
    tensor_type: tuple[str, ...]
    output_tensor_type: str
    token_embedding_type: str
    leave_output_tensor: bool
    allow_requantize: bool

    def flags(self) -> list[str]:
        """As llama-quantize takes them."""
        flags = [f"--{name.replace('_', '-')}" for name, on in asdict(self).items() if on is True]
        for pattern in self.tensor_type:
            flags += ["--tensor-type", pattern]
        for name in ("output_tensor_type", "token_embedding_type"):
            if getattr(self, name):
                flags += [f"--{name.replace('_', '-')}", getattr(self, name)]
        return flags


@dataclass(frozen=True)
class Job:
    """One model, where its files go, and under which names."""

    tools: LlamaTools
    model: Path
    name: str
    out: Path
    options: Options
    threads: int | None
    replace: bool
    about: dict[str, Any]

    def target(self, kind: QuantType) -> Path:
        return self.out / f"{self.name}-{kind.name}.gguf"

    @property
    def imatrix(self) -> Path:
        return self.out / f"{self.name}.imatrix.gguf"

    def command(self, kind: QuantType, imatrix: Path | None, out: Path | None) -> list[str]:
        """llama-quantize's line; without `out` its own --dry-run, which tells the size."""
        flags = self.options.flags()
        if imatrix is not None and kind.uses_imatrix:
            flags += ["--imatrix", str(imatrix)]
        where = [str(self.model), str(out)] if out else ["--dry-run", str(self.model)]
        count = [str(self.threads)] if self.threads else []
        return self.tools.argv(QUANTIZE, *flags, *where, kind.name, *count)


def record(
    job: Job,
    kind: QuantType,
    imatrix: Path | None,
    found: Coverage,
    sums: tuple[str, str],
    said: str,
) -> None:
    """Write the manifest beside the file."""
    target, used = job.target(kind), imatrix if kind.uses_imatrix else None
    base_sha, digest = sums
    files = [ManifestFile(name=target.name, sha256=digest, bytes=target.stat().st_size)]
    if used is not None and used.parent == job.out:
        size = used.stat().st_size
        files.append(ManifestFile(name=used.name, role="imatrix", sha256=hash_of(used), bytes=size))
    commit = COMMIT.search(said)
    made = Manifest(
        name=target.stem,
        files=tuple(files),
        base=BaseOf(name=job.name, sha256=base_sha),
        llama_cpp_commit=commit[1] if commit else "",
        settings={
            "quantize": {"type": kind.name, **asdict(job.options)},
            "imatrix": {"file": used.name, "sha256": hash_of(used)} if used else None,
        },
        metrics={"quantize": found.as_json()},
        **{"source": {"made_by": "quantize"}, **job.about},
    )
    manifests.write(made, job.out)
