"""`corral serve` that must not start: one message, the right status, nothing left running."""

import socket
from pathlib import Path

import pytest

from tests.fakes.served import serve


@pytest.mark.parametrize(
    ("variables", "message", "status"),
    [
        ({"CORRAL_ALIASES": "a=lost"}, "`a` points at `lost`, which is no model here", 2),
        ({"CORRAL_LLAMA_BIN_DIR": "/nowhere"}, "Run `make build`", 1),
    ],
)
def test_a_wrong_set_up_is_one_message(
    tmp_path: Path, variables: dict[str, str], message: str, status: int
) -> None:
    with serve(tmp_path, **variables) as served:
        assert served.ended() == status
        served._reader.join(5)
    assert message in served.stderr
    assert served.stderr.count("\n") == 1
    assert "Traceback" not in served.stderr


def test_a_taken_port_is_one_message(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        with serve(tmp_path, port=port) as served:
            assert served.ended() == 1
            served._reader.join(5)
    assert f"port {port} on 127.0.0.1 is taken" in served.stderr
    assert "--port" in served.stderr


def test_a_corrupt_file_of_the_users_own_is_told_and_the_rest_served(tmp_path: Path) -> None:
    models = tmp_path / "data/models"
    models.mkdir(parents=True)
    (models / "torn.gguf").write_bytes(b"GGUF\3\0\0\0")
    with serve(tmp_path) as served:
        assert served.url
        assert "not served: model file" in served.stderr
        assert "tiny, tuned" in served.stderr
