"""What llama.cpp itself says of a model's memory and of its sizes in other types.

Both tools read headers only, so a file that is on another machine is stood in for by its header
before a hole of the right length (`stand_in`). Runs programs; blocks for up to some seconds.
"""

import math
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from corral import settings as settings_module
from corral.errors import ToolError
from corral.registry.fit import MIB, Candidate, Need
from corral.registry.remote_header import RemoteHeader

FIT_PARAMS = "llama-fit-params"
QUANTIZE = "llama-quantize"
SECONDS = 300
# From the best to the smallest: what people choose among.
TYPES = (
    "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "IQ4_XS", "Q3_K_M", "IQ3_XS",
    "Q2_K", "IQ2_XS", "IQ1_M",
)  # fmt: skip
# `CUDA0 13 20 6`, `Host 13 20 6`: device, then MiB of weights, KV cache and compute buffers.
DEVICE_LINE = re.compile(r"^\S+ (\d+) (\d+) (\d+) *$", re.M)
# `[ 43/ 47] blk.4.attn_v.weight - [ 256, 128, 1, 1], type = f32, size = 0.12 MiB -> 0.03 MiB (q6_K)`
TENSOR_LINE = re.compile(
    r"\] \S+ +- \[([\d, ]+)\], type = +(\w+), +size = +[\d.]+ MiB(?: -> +[\d.]+ MiB \((\w+)\))?"
)


def measured_need(bin_dir: Path, model: Path, context: int, slots: int, weights: int) -> Need:
    """The KV cache and compute buffers by llama-fit-params, the weights as given; ToolError."""
    argv = [
        *(str(bin_dir / FIT_PARAMS), "--model", str(model), "--fit-print", "on", "--offline"),
        *("--ctx-size", str(context * slots), "--parallel", str(slots)),
    ]
    devices = DEVICE_LINE.findall(_output(argv))
    if not devices:
        raise ToolError(f"{FIT_PARAMS} printed no memory for {model}")
    # It rounds each figure down to a whole MiB.
    kv_cache, compute = (sum(int(device[i]) for device in devices) * MIB + MIB // 2 for i in (1, 2))
    return Need(weights, kv_cache, compute, FIT_PARAMS)


def quantised(bin_dir: Path, model: Path, types: Iterable[str] = TYPES) -> list[Candidate]:
    """The size of `model` in each type, tensor by tensor as llama-quantize would store it."""
    return [_in_type(bin_dir, model, name) for name in types]


def _in_type(bin_dir: Path, model: Path, name: str) -> Candidate:
    printed = _output([str(bin_dir / QUANTIZE), "--dry-run", str(model), name])
    tensors = TENSOR_LINE.findall(printed)
    if not tensors:
        raise ToolError(f"{QUANTIZE} --dry-run listed no tensor of {model}")
    size = sum(_bytes(extents, after or before) for extents, before, after in tensors)
    return Candidate(name, size, needs_imatrix="will require an imatrix" in printed)


def _bytes(extents: str, kind: str) -> int:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    block, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind.upper()]]
    first, *others = (int(extent) for extent in extents.split(","))
    return math.prod(others) * (first // int(block)) * int(size)


def stand_in(shards: Sequence[tuple[str, RemoteHeader]], folder: Path) -> Path:
    """Write each shard's header before a hole into `folder`; the first one's path.

    OSError where the file system takes no file of that length.
    """
    for name, remote in shards:
        with (folder / Path(name).name).open("wb") as file:
            file.write(remote.head)
            file.truncate(remote.header.size)
    return folder / Path(shards[0][0]).name


def _output(argv: list[str]) -> str:
    """stdout and stderr of a tool; ToolError with its last line when it fails."""
    try:
        done = subprocess.run(
            argv,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
            env=settings_module.child_environment({}),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"{argv[0]} cannot run: {error}; `make build` builds it") from error
    if done.returncode != 0:
        last = (done.stdout.strip().splitlines() or ["it printed nothing"])[-1]
        raise ToolError(f"{Path(argv[0]).name} failed with {done.returncode}: {last}")
    return done.stdout
