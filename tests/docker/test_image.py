"""What is in the images: sizes, labels, the list of parts, and the code that runs on this processor."""

import io
import json
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from docker.client import DockerClient

from tests.docker.conftest import Build
from tests.docker.container import Corral, output

ROOT = Path(__file__).resolve().parents[2]
MB = 1000**2
# The base is left out of both. The model takes 14 MB of the first, numpy (through gguf) 70.
MOST_MB = 350
MOST_LLAMA_MB = 60
SBOM = "/usr/share/sbom/corral.cdx.json"
# What ggml's variants need, by the names of /proc/cpuinfo; GGML_CPU_ALL_VARIANTS in ggml/src/CMakeLists.txt.
AVX = ["avx"]
AVX2 = [*AVX, "f16c", "fma", "avx2", "bmi2"]
AVX512 = [*AVX2, "avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"]
VNNI = "avx512_vnni"
VARIANTS = {
    "x64": [],
    "sse42": ["sse4_2"],
    "sandybridge": AVX,
    "ivybridge": [*AVX, "f16c"],
    "piledriver": [*AVX, "f16c", "fma"],
    "haswell": AVX2,
    "skylakex": AVX512,
    "cannonlake": [*AVX512, "avx512vbmi"],
    "cascadelake": [*AVX512, VNNI],
    "icelake": [*AVX512, "avx512vbmi", VNNI],
    "cooperlake": [*AVX512, VNNI, "avx512_bf16"],
    "zen4": [*AVX512, "avx512vbmi", VNNI, "avx512_bf16"],
    "alderlake": [*AVX2, "avx_vnni"],
    "sapphirerapids": [*AVX512, "avx512vbmi", VNNI, "avx512_bf16", "amx_tile", "amx_int8"],
}
MODULE = re.compile(r"libggml-cpu-(\w+)\.so")


def layers(engine: DockerClient, image: str, base: str) -> dict[str, int]:
    """Bytes of each layer over the base, by the instruction that made it."""
    below = len(engine.images.get(base).attrs["RootFS"]["Layers"])
    filled = [row for row in engine.images.get(image).history() if row["Size"]]
    return {row["CreatedBy"]: row["Size"] for row in filled[: len(filled) - below]}


def test_the_image_is_small(engine: DockerClient, build: Build) -> None:
    found = layers(engine, build.corral, build.base)
    for made_by, size in found.items():
        print(f"{size / MB:7.1f} MB  {made_by[:110]}")
    assert sum(found.values()) <= MOST_MB * MB
    (llama,) = (size for made_by, size in found.items() if "/build/llama/current" in made_by)
    assert llama <= MOST_LLAMA_MB * MB


def best_variant(flags: set[str]) -> str:
    """The variant with the most features among those that a processor with these flags can run."""
    able = [name for name, needed in VARIANTS.items() if flags >= set(needed)]
    return max(able, key=lambda name: len(VARIANTS[name]))


def test_the_choice_of_a_variant_follows_the_flags() -> None:
    assert best_variant(set()) == "x64"
    assert best_variant({"sse4_2", *AVX2}) == "haswell"
    assert best_variant({"sse4_2", *AVX512, VNNI, "avx512vbmi"}) == "icelake"


def test_llama_cpp_runs_its_best_code_for_this_processor(start: Callable[..., Corral]) -> None:
    corral = start().ready()
    (line,) = re.findall(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.M)[:1]
    maps = corral.run("sh", "-c", "cat /proc/[0-9]*/maps")
    assert set(MODULE.findall(maps)) == {best_variant(set(line.split()))}
    assert "libggml-cuda" not in maps


def test_every_variant_is_there(start: Callable[..., Corral]) -> None:
    files = start().run("ls", "/opt/corral/build/llama/current/bin")
    assert set(MODULE.findall(files)) == set(VARIANTS)


@pytest.mark.parametrize("which", ["corral", "trainer"])
def test_the_labels_say_what_it_is(engine: DockerClient, build: Build, which: str) -> None:
    labels = engine.images.get(getattr(build, which)).labels
    tree = subprocess.run(
        ["scripts/build_image.sh", "--tree"], cwd=build.tree, capture_output=True, check=True
    )
    commit = subprocess.run(
        ["scripts/llama_source.sh", "--commit"], cwd=ROOT, capture_output=True, check=True
    )
    assert labels["corral.tree"] == tree.stdout.decode().strip()
    assert labels["corral.llama-cpp"] == commit.stdout.decode().strip()
    assert labels["corral.backend"] == "cpu"
    assert labels["org.opencontainers.image.base.name"] == build.base
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version is not None
    assert labels["org.opencontainers.image.version"] == version[1]


def sbom(engine: DockerClient, image: str) -> dict[str, Any]:
    """Copied out: of an output this long the engine's log may lack the end."""
    container = engine.containers.create(image)
    try:
        chunks, _ = container.get_archive(SBOM)
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            member = archive.extractfile(Path(SBOM).name)
            assert member is not None
            document: dict[str, Any] = json.load(member)
    finally:
        container.remove(v=True)
    return document


def pinned(*groups: str) -> set[str]:
    """`name==version` of every requirement that holds on this platform and Python."""
    from packaging.requirements import Requirement

    found = set()
    for group in groups:
        text = (ROOT / "requirements" / f"{group}.txt").read_text().replace("\\\n", " ")
        for line in re.findall(r"^[a-z0-9].*$", text, re.M):
            one = Requirement(line.partition(" --hash")[0])
            if one.marker is None or one.marker.evaluate():
                found.add(f"{one.name}{one.specifier}")
    return found


@pytest.mark.parametrize(
    ("which", "groups"), [("corral", ["base"]), ("trainer", ["base", "train", "torch-cpu"])]
)
def test_the_list_of_parts_is_whole(
    engine: DockerClient, build: Build, which: str, groups: list[str]
) -> None:
    image = getattr(build, which)
    document = sbom(engine, image)
    assert document["bomFormat"] == "CycloneDX"
    beside = build.tree / "build" / "images" / f"{image.replace(':', '-')}.cdx.json"
    assert json.loads(beside.read_text()) == document
    kinds = {kind: parts(document, kind) for kind in ("pypi", "deb/debian", "github", "generic")}
    python = {name.replace("_", "-").replace(".", "-").lower() for name in kinds["pypi"]}
    needed = {one.partition("==")[0].replace(".", "-") for one in pinned(*groups)}
    assert needed - python == set()
    assert {"libc6", "libssl3", "tini", "python3.11"} <= kinds["deb/debian"]
    assert "ggml-org/llama.cpp" in kinds["github"]
    assert {"corral-tiny.gguf", "corral-tiny-folio.gguf"} <= kinds["generic"]


def parts(document: dict[str, Any], kind: str) -> set[str]:
    purls = (part.get("purl", "") for part in document["components"])
    begin = f"pkg:{kind}/"
    return {
        p.removeprefix(begin).partition("@")[0].partition("?")[0]
        for p in purls
        if p.startswith(begin)
    }


def test_nothing_that_only_builds_is_shipped(engine: DockerClient, build: Build) -> None:
    look = "command -v gcc g++ cmake git pip curl; ls -d /mnt/* /opt/pip /wheels; true"
    assert output(engine, build.corral, "-c", look, entrypoint="sh") == ""
