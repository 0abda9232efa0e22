"""What is set aside before a llama-server starts, and where it listens."""

from pathlib import Path

from corral.runtime.process import free_port, rotate


def test_at_start_a_log_within_its_size_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    rotate(log, 10)
    log.write_bytes(b"x" * 10)
    rotate(log, 10)
    assert log.read_bytes() == b"x" * 10


def test_at_start_a_large_log_is_set_aside(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 11)
    rotate(log, 10)
    assert not log.exists()
    assert (tmp_path / "log.1").read_bytes() == b"x" * 11


def test_free_ports_are_loopback_ports() -> None:
    assert 1024 <= free_port() <= 65535
