"""The image `corral-trainer`: what training needs is in it. test_compose.py trains with it."""

from docker.client import DockerClient

from tests.docker.conftest import Build
from tests.docker.container import output

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


def run(engine: DockerClient, image: str, *argv: str) -> str:
    """The stdout of a program that ends well in a container without network or rights."""
    return output(
        engine,
        image,
        *argv[1:],
        entrypoint=argv[0],
        read_only=True,
        tmpfs={"/tmp": ""},
        cap_drop=["ALL"],
        network_mode="none",
        environment={"LLAMA_CPP_LIB_PATH": "/opt/corral/build/llama/current/bin"},
    )


def test_torch_is_the_cpu_build_and_works(engine: DockerClient, build: Build) -> None:
    assert "+cpu" in run(engine, build.trainer, "python3", "-c", LOOK)


def test_the_tokenizer_is_that_of_this_llama_cpp(engine: DockerClient, build: Build) -> None:
    assert run(engine, build.trainer, "python3", "-c", TOKENS).strip() == "Courts and judges"


def test_llama_cpps_own_converters_run(engine: DockerClient, build: Build) -> None:
    for program in ("convert_lora_to_gguf.py", "convert_hf_to_gguf.py"):
        said = run(engine, build.trainer, "python3", f"/opt/corral/llama.cpp/{program}", "--help")
        assert "usage:" in said
