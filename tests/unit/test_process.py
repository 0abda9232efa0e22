"""The log that llama-server appends to stays bounded."""

from pathlib import Path

from corral.runtime.process import free_port, rotate, truncate


def test_a_log_over_its_size_is_cut_to_its_newer_half(tmp_path: Path) -> None:
    log = tmp_path / "log"
    writer = log.open("ab", buffering=0)
    writer.write(b"a" * 1000 + b"b" * 500)
    truncate(log, 1000)
    assert log.read_bytes() == b"b" * 500
    writer.write(b"c")
    writer.close()
    assert log.read_bytes() == b"b" * 500 + b"c"


def test_a_log_within_its_size_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    truncate(log, 10)
    rotate(log, 10)
    log.write_bytes(b"x" * 10)
    truncate(log, 10)
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
