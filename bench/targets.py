"""The programs that are compared: how each is started, asked, and whose CPU counts as its own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

KEY = "bench"
READY_SECONDS = 120


@dataclass(frozen=True)
class Target:
    """Something that answers at `url`. `front` are the processes before the model's instance; what
    they use is the price of this way. Empty where nothing is in front. `exact`: its streams have as
    many tokens as were asked for."""

    name: str
    url: str
    model: str
    front: tuple[int, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    exact: bool = True

    def cpu(self) -> float:
        """Seconds of CPU that its front processes have used so far."""
        return sum(_cpu(pid) for pid in self.front)


def _cpu(pid: int) -> float:
    # The process's own clock, as clock_getcpuclockid(3) makes it: nanoseconds, where /proc has hundredths.
    return time.clock_gettime(~pid << 3 | 2)


def free_port() -> int:
    """A loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Programs:
    """Child processes, each with a log in `folder`; all ended with their children at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Programs":
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)
        for child in self._children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)

    def start(self, name: str, argv: list[str], url: str, **variables: str) -> int:
        """Start a program and wait until `url` answers with 200; its process id."""
        log = self._folder / f"{name}.log"
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("CORRAL", "LLAMA_"))
        }
        with log.open("wb") as output:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment | variables,
                start_new_session=True,
            )
        self._children.append(child)
        deadline = time.monotonic() + READY_SECONDS
        while not _answers(url):
            if child.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"error: {name} did not start; {log} says why")
            time.sleep(0.2)
        return child.pid


def _answers(url: str) -> bool:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {KEY}"})
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def descendants(pid: int) -> Iterator[int]:
    """`pid` and all that it has started and that still runs."""
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from descendants(int(child))


def is_instance(pid: int) -> bool:
    """Whether this is what answers in the end: an instance with a model, or the synthetic one."""
    argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    if b"bench.synthetic" in argv:
        return True
    return argv[0].endswith(b"llama-server") and b"--models-preset" not in argv


@dataclass(frozen=True)
class Model:
    """What is served: a GGUF, and how its instances are run, the same for every target."""

    path: Path
    slots: int
    ctx: int
    threads: int

    def options(self) -> dict[str, str]:
        """For llama-server, as preset keys."""
        return {
            "model": str(self.path),
            "ctx-size": str(self.ctx * self.slots),
            "parallel": str(self.slots),
            "threads": str(self.threads),
            "cache-ram": "0",
        }

    def flags(self) -> list[str]:
        """The same as command-line flags."""
        return [part for key, value in self.options().items() for part in (f"--{key}", value)]


class Contest:
    """Starts the contenders for one model, or for the synthetic upstream."""

    def __init__(self, programs: Programs, folder: Path, bin_dir: Path) -> None:
        self._programs, self._folder = programs, folder
        self._llama = str(bin_dir / "llama-server")
        self._bin_dir = bin_dir

    def direct(self, model: Model) -> Target:
        """One instance, nothing in front."""
        port = free_port()
        argv = [self._llama, "--port", str(port), "--threads-http", "256", "--no-ui", "--offline"]
        argv += ["--alias", "tiny", "--verbosity", "1", *model.flags()]
        self._programs.start("direct", argv, f"http://127.0.0.1:{port}/health")
        return Target("direct", f"http://127.0.0.1:{port}/v1", "tiny")

    def router(self, model: Model) -> Target:
        """llama.cpp's own router before an instance of its own."""
        port = free_port()
        presets = self._folder / "router.ini"
        lines = [f"{key} = {value}" for key, value in model.options().items()]
        presets.write_text(
            "version = 1\n\n[tiny]\n" + "\n".join(lines) + "\nload-on-startup = true\n"
        )
        argv = [self._llama, "--port", str(port), "--models-preset", str(presets)]
        argv += ["--threads-http", "256", "--no-ui", "--offline", "--verbosity", "1"]
        pid = self._programs.start("router", argv, f"http://127.0.0.1:{port}/health")
        return Target("router", f"http://127.0.0.1:{port}/v1", "tiny", (pid,))

    def corral(self, bin_dir: Path | None, model: Model, name: str = "corral") -> Target:
        """Corral with everything on: an API key, metrics, the log. Its router counts as its own."""
        port, data = free_port(), self._folder / name
        (data / "models").mkdir(parents=True)
        (data / "models/tiny.gguf").symlink_to(model.path)
        settings = {
            "CORRAL_DATA": str(data),
            "CORRAL_LLAMA_BIN_DIR": str(bin_dir or self._bin_dir),
            "CORRAL_BUNDLED_MODELS_DIR": str(data / "none"),
            "CORRAL_ALIASES": "",
            "CORRAL_DEFAULT_MODEL": "tiny",
            "CORRAL_PRELOAD": "tiny",
            "CORRAL_API_KEYS": KEY,
            "CORRAL_SLOTS": str(model.slots),
            "CORRAL_CTX_SIZE": str(model.ctx),
            "CORRAL_THREADS": str(model.threads),
            "CORRAL_PROMPT_CACHE_MIB": "0",
            "CORRAL_WORKER_COUNT": "0",
        }
        argv = [sys.executable, "-m", "corral", "serve", "--port", str(port)]
        url = f"http://127.0.0.1:{port}"
        pid = self._programs.start(name, argv, url + "/ready", **settings)
        front = tuple(child for child in descendants(pid) if not is_instance(child))
        return Target(name, url + "/v1", "tiny", front, {"Authorization": f"Bearer {KEY}"})

    def litellm(self, program: Path, upstream: Target) -> Target:
        """LiteLLM's proxy, as its documentation starts it, before `upstream`."""
        port = free_port()
        config = self._folder / f"litellm-{port}.yaml"
        config.write_text(
            "model_list:\n  - model_name: tiny\n    litellm_params:\n"
            f"      model: openai/{upstream.model}\n      api_base: {upstream.url}\n"
            f"      api_key: any\ngeneral_settings:\n  master_key: sk-{KEY}\n"
        )
        argv = [str(program), "--config", str(config), "--port", str(port), "--host", "127.0.0.1"]
        url = f"http://127.0.0.1:{port}"
        pid = self._programs.start("litellm", argv, url + "/health/liveliness")
        headers = {"Authorization": f"Bearer sk-{KEY}"}
        return Target("litellm", url + "/v1", "tiny", tuple(descendants(pid)), headers)

    def bindings(self, python: Path, model: Model) -> Target:
        """llama-cpp-python's server. The model runs in its process, so no CPU is counted as the price
        of a front; it does not know `ignore_eos`, so its answers may be shorter."""
        port = free_port()
        argv = [str(python), "-m", "llama_cpp.server", "--model", str(model.path)]
        argv += ["--port", str(port), "--n_ctx", str(model.ctx), "--n_threads", str(model.threads)]
        argv += ["--model_alias", "tiny", "--verbose", "false"]
        url = f"http://127.0.0.1:{port}/v1"
        self._programs.start(
            "llama-cpp-python", argv, url + "/models", LLAMA_CPP_LIB_PATH=str(self._bin_dir)
        )
        return Target("llama-cpp-python", url, "tiny", exact=False)

    def synthetic(self) -> tuple[Target, Path]:
        """The upstream without a model, and a folder where it is `llama-server`."""
        port, folder = free_port(), self._folder / "synthetic-bin"
        folder.mkdir()
        program = folder / "llama-server"
        root = Path(__file__).resolve().parents[1]
        program.write_text(
            f'#!/bin/sh\nPYTHONPATH={root} exec {sys.executable} -m bench.synthetic "$@"\n'
        )
        program.chmod(0o755)
        argv = [str(program), "--port", str(port)]
        self._programs.start("synthetic", argv, f"http://127.0.0.1:{port}/health")
        return Target("direct", f"http://127.0.0.1:{port}/v1", "tiny@1"), folder
