"""The container files obey their rules: hadolint's, and those that hadolint does not know."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
COMPOSE = sorted(DOCKER.glob("compose*.yaml"))
SECRET = re.compile(r"(?i)(password|passwd|secret|token|api_?key)S?\s*[=:]\s*\S+")
# Names and files of secrets are no secrets.
HARMLESS = re.compile(r"CORRAL_API_KEYS_FILE|/run/secrets/|id=pip|\$\{KEYS")


def instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction of a Dockerfile and what follows it, continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [(word.upper(), rest.strip()) for word, rest in found]


def stages(text: str) -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage by its name; those before the first FROM under ''."""
    found: dict[str, list[tuple[str, str]]] = {"": []}
    name = ""
    for word, rest in instructions(text):
        if word == "FROM":
            name = rest.split()[2]
            found[name] = []
        found[name].append((word, rest))
    return found


def dockerfile() -> str:
    return (DOCKER / "Dockerfile").read_text(encoding="utf-8")


def hadolint(path: Path) -> list[dict[str, Any]]:
    program = Path(sys.executable).with_name("hadolint")
    config = str(DOCKER / "hadolint.yaml")
    argv = [str(program), "--config", config, "--no-fail", "--format", "json", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    findings: list[dict[str, Any]] = json.loads(done.stdout)
    return findings


def unpinned(text: str) -> list[str]:
    """Images that a build or a service starts from without an exact tag."""
    names = re.findall(r"^ARG BASE=(\S*)$|^\s*image: (\S+)$", text, re.M)
    images = ["".join(pair) for pair in names]
    own = r"corral(-trainer)?:\$\{BACKEND:-cpu\}"
    return [
        i for i in images if not re.fullmatch(rf"{own}|[a-z./-]+:\d+\.[\w.-]+(@sha256:\w+)?", i)
    ]


def secrets(text: str) -> list[str]:
    return [line for line in text.splitlines() if SECRET.search(line) and not HARMLESS.search(line)]


# ---- Dockerfile --------------------------------------------------------------------------------


def test_hadolint_finds_nothing() -> None:
    assert hadolint(DOCKER / "Dockerfile") == []


def test_hadolint_finds_a_planted_fault(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text("FROM debian:latest\nRUN sudo true\n")
    assert {finding["code"] for finding in hadolint(path)} >= {"DL3004", "DL3007"}


def test_the_base_is_pinned() -> None:
    assert re.search(r"^ARG BASE=", dockerfile(), re.M)
    assert unpinned(dockerfile()) == []


@pytest.mark.parametrize("image", ["debian", "debian:latest", "debian:bookworm-slim"])
def test_an_unpinned_base_is_found(image: str) -> None:
    assert unpinned(f"ARG BASE={image}") == [image]


def test_every_stage_starts_from_the_base_or_from_another_stage() -> None:
    named = set(stages(dockerfile()))
    origins = {rest.split()[0] for word, rest in instructions(dockerfile()) if word == "FROM"}
    assert origins - named == {"${BASE}", "tools-${BACKEND}"}
    assert {f"tools-{backend}" for backend in ("cpu", "cuda", "vulkan")} <= named


@pytest.mark.parametrize("stage", ["corral", "trainer"])
def test_what_is_shipped_runs_without_rights(stage: str) -> None:
    given = stages(dockerfile())[stage]
    assert [rest for word, rest in given if word == "USER"] == ["10001:10001"]
    after = given[[word for word, _ in given].index("USER") :]
    assert "RUN" not in {word for word, _ in after}


def test_health_is_readiness() -> None:
    found = {
        name: dict(given).get("HEALTHCHECK", "") for name, given in stages(dockerfile()).items()
    }
    assert found["corral"].endswith('CMD ["python3", "/opt/corral/docker/healthcheck.py"]')
    assert found["trainer"] == "NONE"
    assert '"GET", "/ready"' in (DOCKER / "healthcheck.py").read_text(encoding="utf-8")


def test_pip_installs_only_what_is_pinned_and_hashed() -> None:
    installs = re.findall(r"install .*?(?=;|$)", dockerfile().replace("\\\n", " "), re.M)
    pip = [one for one in installs if "-r " in one or "--editable" in one]
    loose = [one for one in pip if "--require-hashes" not in one and '"$@"' not in one]
    assert len(pip) >= 4
    assert {one for one in loose if not one.startswith("install -r ")} == {
        "install --no-deps --editable ."
    }


def test_everything_that_is_copied_is_let_into_the_build() -> None:
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    roots = {line[1:] for line in allowed if line.startswith("!")}
    copies = [r.split() for w, r in instructions(dockerfile()) if w == "COPY" and "--from" not in r]
    needed = {source.strip("/").split("/")[0] for words in copies for source in words[:-1]}
    assert needed <= roots
    assert "*" in allowed


def test_both_images_carry_the_labels_that_serving_reads() -> None:
    for stage in ("corral", "trainer"):
        labels = " ".join(r for w, r in stages(dockerfile())[stage] if w == "LABEL")
        for name in ("version", "revision", "source", "licenses", "title"):
            assert f"org.opencontainers.image.{name}=" in labels
        assert 'corral.tree="${TREE}"' in labels
        assert 'corral.llama-cpp="${LLAMA_COMMIT}"' in labels


@pytest.mark.parametrize("path", [DOCKER / "Dockerfile", *COMPOSE], ids=lambda path: path.name)
def test_no_file_holds_a_secret(path: Path) -> None:
    assert secrets(path.read_text(encoding="utf-8")) == []


def test_a_planted_secret_is_found() -> None:
    assert secrets("ENV CORRAL_API_KEYS=abc")
    assert secrets("      HF_TOKEN: hf_x")


# ---- Compose -----------------------------------------------------------------------------------


def compose(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DOCKER / name).read_text(encoding="utf-8"))
    return document


@pytest.mark.parametrize("name", ["corral", "trainer"])
def test_a_service_can_do_nothing_it_need_not(name: str) -> None:
    service = compose("compose.yaml")["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["stop_grace_period"] == "10s"
    assert service["volumes"] == ["${VOLUME:-data}:/data"]
    assert not {"privileged", "user", "network_mode", "pid", "cap_add"} & set(service)


def test_only_the_gateway_is_published_and_on_loopback() -> None:
    services = compose("compose.yaml")["services"]
    address = "${HOST:-127.0.0.1}:${PORT:-8000}"
    assert services["corral"]["ports"] == [f"{address}:8000"]
    assert services["corral"]["environment"]["CORRAL_PUBLISHED"] == address
    assert "ports" not in services["trainer"]


def test_no_compose_file_names_an_unpinned_image() -> None:
    assert [unpinned(path.read_text(encoding="utf-8")) for path in COMPOSE] == [[], [], []]


def test_gpus_are_reserved_for_both() -> None:
    for service in compose("compose.cuda.yaml")["services"].values():
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}


def test_keys_come_from_a_file() -> None:
    document = compose("compose.keys.yaml")
    assert document["secrets"]["api_keys"]["file"].startswith("${KEYS:?")
    environment = document["services"]["corral"]["environment"]
    assert environment == {"CORRAL_API_KEYS_FILE": "/run/secrets/api_keys"}
