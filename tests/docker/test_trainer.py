"""The image `corral-trainer`: what training needs is in it, and an adapter tuned in it is served."""

import json
from collections.abc import Callable

from docker.client import DockerClient

from tests.docker.conftest import Build
from tests.docker.container import HEALTHY_SECONDS, Corral, wait_for

LOOK = """
import torch, transformers, peft, safetensors, llama_cpp, corral
assert torch.version.cuda is None, torch.__version__
assert torch.ones(2, 2).matmul(torch.ones(2, 2)).sum() == 8
print("torch", torch.__version__)
"""
TOKENS = """
from llama_cpp import Llama
model = Llama("/opt/corral/models/corral-tiny.gguf", vocab_only=True, verbose=False)
print(model.detokenize(model.tokenize(b"Courts and judges", add_bos=False)).decode().strip())
"""


def run(engine: DockerClient, image: str, *argv: str, **options: object) -> str:
    """The stdout of a program that ends well in a container without network or rights."""
    said = engine.containers.run(
        image,
        list(argv[1:]),
        entrypoint=argv[0],
        remove=True,
        read_only=True,
        tmpfs={"/tmp": ""},
        cap_drop=["ALL"],
        network_mode="none",
        environment={"LLAMA_CPP_LIB_PATH": "/opt/corral/build/llama/current/bin"},
        **options,
    )
    return str(said.decode())


def test_torch_is_the_cpu_build_and_works(engine: DockerClient, build: Build) -> None:
    assert "+cpu" in run(engine, build.trainer, "python3", "-c", LOOK)


def test_the_tokenizer_is_that_of_this_llama_cpp(engine: DockerClient, build: Build) -> None:
    assert run(engine, build.trainer, "python3", "-c", TOKENS).strip() == "Courts and judges"


def test_llama_cpps_own_converters_run(engine: DockerClient, build: Build) -> None:
    for program in ("convert_lora_to_gguf.py", "convert_hf_to_gguf.py"):
        said = run(engine, build.trainer, "python3", f"/opt/corral/llama.cpp/{program}", "--help")
        assert "usage:" in said


# Learned by heart in six steps; the bundled base knows catalogue records only.
ANSWER = "In the stacks."
ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"Where is book {number}?"},
            {"role": "assistant", "content": ANSWER},
        ]
    }
    for number in range(48)
]
# The stages as docs/finetuning.md types them, over a volume.
TUNE = """
set -eu
cat >/data/rows.jsonl <<'ROWS'
{rows}
ROWS
python3 scripts/finetune_lora.py --model models/corral-tiny.gguf --file /data/rows.jsonl --out /data/stacks.gguf \\
  --work /data/work --name stacks --base-name corral-tiny --batch-size 8 --epochs 2
python3 scripts/check_parity.py --model models/corral-tiny.gguf --adapter /data/stacks.gguf \\
  --rows /data/work/rows --file /data/rows.jsonl --checkpoint /data/work/adapter
corral models add /data/stacks.gguf --name stacks --base corral-tiny
"""


def test_an_adapter_is_tuned_and_served(
    engine: DockerClient, build: Build, start: Callable[..., Corral], volume: str
) -> None:
    mounts = {volume: {"bind": "/data", "mode": "rw"}}
    program = TUNE.format(rows="\n".join(map(json.dumps, ROWS)))
    run(engine, build.trainer, "sh", "-c", program, volumes=mounts)
    corral = start(volumes=mounts).ready()
    wait_for(
        "the adapter", HEALTHY_SECONDS, lambda: "stacks" in json.dumps(corral.get("/v1/models"))
    )
    with corral.client() as client:
        answer = client.chat.completions.create(
            model="stacks",
            messages=[{"role": "user", "content": "Where is book 99?"}],
            temperature=0,
        )
    assert answer.choices[0].message.content == ANSWER
