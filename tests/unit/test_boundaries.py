"""What a client cannot reach: llama-server's own levers, files by name, its risky flags."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from corral.app import create_app
from corral.gateway.passed import PASSED
from corral.runtime.command import Endpoint, router_argv, router_environment
from corral.settings import Settings
from tests.fakes.asgi import call
from tests.fakes.llama_routes import routes

# Answered by Corral itself, of those whose path llama-server has too.
OWN = {
    ("GET", "/health"),
    ("GET", "/metrics"),
    ("GET", "/models"),
    ("GET", "/v1/models"),
}
OFFERED = {("POST", path) for passed in PASSED for path in passed.paths} | OWN
# Flags that run programs, fetch, read or write files, or show what others ask.
RISKY = (
    "--tools", "--tools-runtime", "--mcp-servers-config", "--mcp-servers-json", "--ui-mcp-proxy",
    "--webui-mcp-proxy", "--ui", "--webui", "--path", "--props", "--slots", "--slot-save-path",
    "--media-path", "--log-prompts-dir", "--metrics", "--agent", "--api-key", "--api-key-file",
    "--lookup-cache-dynamic",
)  # fmt: skip


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    folder = tmp_path_factory.mktemp("app")
    given = {"data_dir": folder, "bundled_models_dir": folder / "none", "aliases": {}}
    return create_app(Settings.model_validate(given))


@pytest.mark.parametrize(("method", "path"), routes())
async def test_of_llama_servers_routes_only_the_table_is_offered(
    app: FastAPI, method: str, path: str
) -> None:
    answer = await call(app, method, path.replace(":id_slot", "0"), b"{}")
    if (method, path) in OFFERED:
        # Here without a model.
        assert answer.status in (200, 400) or answer.error["code"] == "model_not_found"
    else:
        assert answer.status in (404, 405)
        assert answer.error["code"] in ("not_found", "method_not_allowed", "model_not_found")


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/nothing", "/docs"])
async def test_no_browser_guesses_what_an_answer_is(app: FastAPI, path: str) -> None:
    assert (await call(app, "GET", path)).headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("level", ["debug", "info"])
def test_no_risky_flag_is_ever_on(level: str) -> None:
    argv = router_argv(Settings.model_validate({"log_level": level}), Path("/p"), 1)
    assert not set(argv) & set(RISKY)
    assert argv[argv.index("--host") + 1] == "127.0.0.1"
    for off in ("--no-ui", "--no-slots", "--offline", "--no-cors-credentials"):
        assert off in argv
    assert "secret" not in " ".join(argv)
    endpoint = Endpoint(1, "secret")
    assert router_environment(endpoint, Path("/c"))["LLAMA_API_KEY"] == "secret"
    assert "secret" not in repr(endpoint)


# ---- names never become paths ------------------------------------------------------------------


class Opened:
    """The files that this process opens, while it is `on`."""

    on = False
    paths: ClassVar[list[str]] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if Opened.on and event in ("open", "os.listdir", "os.scandir", "os.remove", "os.rename"):
        Opened.paths.append(str(arguments[0]))


@pytest.fixture(scope="module")
def watched() -> Iterator[type[Opened]]:
    """A hook of the interpreter's: it sees every way to open a file, and cannot be removed."""
    sys.addaudithook(_note)
    yield Opened
    Opened.on = False


NAMED = (
    ("GET", "/v1/models/{}"),
    ("GET", "/v1/files/{}"),
    ("GET", "/v1/files/{}/content"),
    ("DELETE", "/v1/files/{}"),
    ("POST", "/v1/uploads/{}/cancel"),
    ("GET", "/v1/fine_tuning/jobs/{}"),
    ("GET", "/v1/fine_tuning/jobs/{}/events"),
    ("GET", "/corral/v1/jobs/{}"),
)
MARK = "corralcanary"
HOSTILE = st.lists(
    st.sampled_from(["..", "/", "\\", "~", "%2e", "\0", ".", "etc", "passwd", "file-", ":", " ", "\n"]),
    max_size=8,
).map("".join)  # fmt: skip


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(before=HOSTILE, after=HOSTILE)
@example(before="../../../../../../", after="")
@example(before="/etc/", after="/../passwd")
@example(before="", after="\0.gguf")
async def test_no_name_in_a_request_becomes_a_path(
    app: FastAPI, watched: type[Opened], before: str, after: str
) -> None:
    name = before + MARK + after
    body = f'{{"model": {json.dumps(name)}}}'.encode()
    watched.paths = []
    watched.on = True
    try:
        for method, pattern in NAMED:
            for path in (pattern.format(name), pattern.format(quote(name, safe=""))):
                answer = await call(app, method, path)
                # 307: the same name without a slash at its end.
                assert answer.status in (307, 400, 404, 405), (method, path, answer.body)
        for passed in PASSED:
            answer = await call(app, "POST", passed.paths[0], body)
            assert answer.status in (400, 404)
    finally:
        watched.on = False
    assert not [path for path in watched.paths if MARK in path]
