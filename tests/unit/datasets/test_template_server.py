"""Where the private server's socket is put."""

import socket
import tempfile
from pathlib import Path

import pytest

from corral.datasets.template_server import TemplateServer


@pytest.mark.parametrize("length", [10, 60, 67, 68, 200])
def test_the_socket_can_be_bound_however_long_tmpdir_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        long = Path(folder) / ("x" * length)
        long.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(long))
        file = tmp_path / "there"
        file.touch()
        server = TemplateServer(file, file)
        try:
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(server._socket))
            assert len(str(server._socket)) <= 103
        finally:
            server.close()
        assert not server._socket.parent.exists()
