"""Build, purely, the command line of llama-server in router mode."""

from dataclasses import dataclass, field
from pathlib import Path

from corral.settings import Settings

BINARY = "llama-server"
HOST = "127.0.0.1"
# llama-server holds one thread per connection. Its default is a few, and it adds more only when none
# sleeps: of a burst of requests some then wait until the first streams have ended. 256 cost 11 MB.
HTTP_THREADS = 256
# The router has no limit of its own: it does not see which instance is in use, runtime/instances.py
# does. Not 0, its word for none: with that it refuses to load a model as it starts.
MORE_THAN_EVER = 1_000_000
# llama-server makes its compute buffers anew with each change of adapters. glibc would raise this limit with the
# first one freed and keep the next ones in a heap full of holes: 40 MiB more after 30 requests over eight
# adapters of a 150 M base.
LARGE_BLOCK = 1024 * 1024


@dataclass(frozen=True)
class Endpoint:
    """Where one start of llama-server listens, and the key that it and its instances ask for."""

    port: int
    key: str = field(repr=False)

    @property
    def url(self) -> str:
        """Base URL, without a trailing slash."""
        return f"http://{HOST}:{self.port}"


def router_argv(settings: Settings, presets: Path, port: int) -> list[str]:
    """The argv of the router. Its flags reach every instance too, so only what holds for all."""
    return [
        str(settings.llama_bin_dir / BINARY),
        "--host", HOST,
        "--port", str(port),
        "--models-preset", str(presets),
        "--models-max", str(MORE_THAN_EVER),
        "--threads-http", str(HTTP_THREADS),
        "--no-ui",
        "--no-slots",
        "--offline",
        "--cors-origins", "localhost",
        "--no-cors-credentials",
        # At 2 and above llama-server repeats requests that it cannot parse, prompts and all: so never.
        "--verbosity", "1",
        "--log-colors", "off",
        "--log-prefix",
        "--log-timestamps",
    ]  # fmt: skip


def router_environment(endpoint: Endpoint, empty_cache: Path) -> dict[str, str]:
    """What the router needs in its environment; its instances inherit the key from there.

    The model cache points at an empty folder, or the router would list and offer whatever other
    programs have downloaded.
    """
    return {
        "LLAMA_API_KEY": endpoint.key,
        "LLAMA_CACHE": str(empty_cache),
        "MALLOC_MMAP_THRESHOLD_": str(LARGE_BLOCK),
    }
