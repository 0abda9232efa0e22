"""Everything that must stop `corral serve`, each with a message that says what to do."""

import re
import socket
from pathlib import Path
from typing import Any

import pytest

from corral import preflight
from corral.errors import CorralError, SettingsError, StartupError
from corral.registry.scan import scan
from corral.settings import Settings
from tests.fakes.gguf_file import gguf, write_model


def settings(tmp_path: Path, **more: Any) -> Settings:
    binary = tmp_path / "bin/llama-server"
    binary.parent.mkdir(exist_ok=True)
    binary.touch(0o755)
    given = {
        "data_dir": tmp_path / "data",
        "bundled_models_dir": tmp_path / "bundled",
        "llama_bin_dir": tmp_path / "bin",
        "port": 0,
        **more,
    }
    return Settings.model_validate(given)


def check(given: Settings) -> None:
    preflight.check(given, scan(given))


def test_a_sound_set_up_passes(tmp_path: Path) -> None:
    check(settings(tmp_path))
    assert (tmp_path / "data").is_dir()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "gpu-box"])
def test_other_machines_need_a_key(tmp_path: Path, host: str) -> None:
    with pytest.raises(SettingsError, match=r"no API key is set.*openssl rand"):
        check(settings(tmp_path, host=host))
    check(settings(tmp_path, host=host, api_keys=["k"]))


def test_where_a_container_is_published_decides(tmp_path: Path) -> None:
    inside = "0.0.0.0"
    check(settings(tmp_path, host=inside, published="127.0.0.1:9000"))
    check(settings(tmp_path, host=inside, published="[::1]:9000"))
    for published in ("0.0.0.0:9000", "192.0.2.7:80", "[::]:9000"):
        with pytest.raises(SettingsError, match=re.escape(f"host {published} would let")):
            check(settings(tmp_path, host=inside, published=published))
        check(settings(tmp_path, host=inside, published=published, api_keys=["k"]))


def test_a_published_address_that_lies_about_a_loopback_host_is_open(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no API key is set"):
        check(settings(tmp_path, host="127.0.0.1", published="0.0.0.0:8000"))


@pytest.mark.parametrize("published", ["127.0.0.1", ":8000", "::1:8000", "http://127.0.0.1:8000"])
def test_a_published_address_has_a_host_and_a_port(tmp_path: Path, published: str) -> None:
    with pytest.raises(ValueError, match="must look like"):
        settings(tmp_path, published=published)


def test_a_data_directory_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a container whose volume is a folder of somebody else's."""
    given = settings(tmp_path)
    monkeypatch.setattr("corral.preflight.os.access", lambda path, mode: path != given.data_dir)
    with pytest.raises(
        StartupError, match=r"is not writable for user \d+; it belongs to user \d+\."
    ):
        check(given)


def test_llama_server_must_be_built(tmp_path: Path) -> None:
    with pytest.raises(
        StartupError, match=r"is missing: llama\.cpp is not built\. Run `make build`"
    ):
        check(settings(tmp_path, llama_bin_dir=tmp_path / "empty"))


def test_llama_server_must_be_executable(tmp_path: Path) -> None:
    given = settings(tmp_path)
    (tmp_path / "bin/llama-server").chmod(0o644)
    with pytest.raises(StartupError, match="is not executable"):
        check(given)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is missing"), (gguf()[:99], "truncated"), (b"x" * 9, "no GGUF")],
)
def test_the_bundled_model_must_be_sound(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    write_model(tmp_path / "bundled/good.gguf")
    (tmp_path / "bundled/models.toml").write_text(
        "[models.good]\nfile = 'good.gguf'\n[models.bad]\nfile = 'bad.gguf'"
    )
    if content is not None:
        (tmp_path / "bundled/bad.gguf").write_bytes(content)
    with pytest.raises(StartupError, match=f"{message}.*git checkout -- models/"):
        check(settings(tmp_path))


def test_a_bad_file_of_the_users_own_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "data/models").mkdir(parents=True)
    (tmp_path / "data/models/bad.gguf").write_bytes(b"x" * 9)
    check(settings(tmp_path))


def test_an_alias_must_lead_to_a_model(tmp_path: Path) -> None:
    write_model(tmp_path / "data/models/m.gguf")
    with pytest.raises(
        SettingsError, match="`a` points at `lost`, which is no model here; there are: `m`"
    ):
        check(settings(tmp_path, aliases={"a": "lost"}))
    check(settings(tmp_path, aliases={"a": "m"}))


def test_no_more_is_preloaded_than_fits(tmp_path: Path) -> None:
    write_model(tmp_path / "data/models/m.gguf")
    write_model(tmp_path / "data/models/n.gguf")
    with pytest.raises(SettingsError, match="names 2 base models, but `models_max` is 1"):
        check(settings(tmp_path, preload=["m", "n"], models_max=1))
    check(settings(tmp_path, preload=["m", "m", "other"], models_max=1))


def test_the_data_directory_must_be_usable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartupError, match="cannot be made"):
        check(settings(tmp_path, data_dir=tmp_path / "file/data"))


def test_a_taken_port_says_how_to_choose_another(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StartupError, match=f"port {port} .* is taken.*lsof.*--port {port + 1}"):
            preflight.bind(settings(tmp_path, port=port))


def test_an_address_that_is_not_here_is_told(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"cannot listen on 192\.0\.2\.7"):
        preflight.bind(settings(tmp_path, host="192.0.2.7"))


def test_a_free_port_is_bound(tmp_path: Path) -> None:
    with preflight.bind(settings(tmp_path)) as listener:
        assert listener.getsockname()[1] > 0


def test_every_refusal_is_a_message_not_a_traceback() -> None:
    assert issubclass(StartupError, CorralError)
    assert issubclass(SettingsError, CorralError)
