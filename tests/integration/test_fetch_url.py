"""Fetching one file by its address and checksum, and one that is already here."""

import hashlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import fetch_url
from corral.errors import (
    BadRequest,
    CorralError,
    DiskFullError,
    InvalidModel,
    NotFound,
    StoreError,
    UpstreamError,
)
from tests.fakes.gguf_file import gguf, write_model
from tests.fakes.hub_fetch import Fetcher, fetcher
from tests.fakes.hub_repos import repo
from tests.fakes.hub_server import TOKEN, HubServer

REPO, FILE = "org/tiny-GGUF", "tiny-Q4_0.gguf"
MODEL = gguf(elements=500_000)
SHA256 = hashlib.sha256(MODEL).hexdigest()
SIZE = len(MODEL)


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer(repo(REPO, {FILE: MODEL})) as server:
        yield server
        server.release.set()


@pytest.fixture
def fetch(tmp_path: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> Fetcher:
    return fetcher(tmp_path, hub, monkeypatch, TOKEN)


def address(hub: HubServer) -> str:
    """By way of a redirect to the other host."""
    return f"{hub.url}/{REPO}/resolve/main/{FILE}?download=true"


def words(fetch: Fetcher, sha256: str = SHA256) -> list[str]:
    return ["--url", address(fetch.hub), "--sha256", sha256, "--attempts", "2"]


def refused(kind: type[CorralError], fetch: Fetcher, *given: str) -> str:
    """The message that the fetch ends with."""
    with pytest.raises(CorralError) as caught:
        fetch.run(*given)
    assert type(caught.value) is kind, caught.value.message
    return caught.value.message


def part(folder: Path) -> Path:
    return folder / "data" / "downloads" / f"{SHA256}.part"


def test_a_file_comes_by_its_address(fetch: Fetcher) -> None:
    fetch.run(*words(fetch))
    assert (fetch.out / FILE).read_bytes() == MODEL
    source = fetch.manifest().source
    assert source == {"kind": "url", "url": address(fetch.hub).partition("?")[0], "quant": "Q4_0"}


def test_no_token_goes_to_an_address(fetch: Fetcher) -> None:
    fetch.run(*words(fetch))
    assert {sent for _, sent in fetch.hub.credentials} == {""}


def test_the_second_time_nothing_is_downloaded(fetch: Fetcher) -> None:
    fetch.run(*words(fetch, SHA256.upper()))
    assert fetch.run(*words(fetch), "--name", "other")["fetched_bytes"] == 0
    assert fetch.hub.requests["blob"] == 1


def test_what_was_damaged_since_is_fetched_again(fetch: Fetcher) -> None:
    fetch.run(*words(fetch))
    ready = fetch.folder / "data" / "downloads" / SHA256
    ready.chmod(0o644)
    damaged = bytearray(MODEL)
    damaged[-1] ^= 1
    ready.write_bytes(damaged)
    result = fetch.run(*words(fetch))
    assert result["fetched_bytes"] == SIZE
    assert (fetch.out / FILE).read_bytes() == MODEL


def test_a_cut_download_goes_on_where_it_was(fetch: Fetcher) -> None:
    fetch.hub.order("blob", 1, cut_after=300_000)
    fetch.run(*words(fetch))
    assert (fetch.out / FILE).read_bytes() == MODEL
    assert fetch.hub.ranges[FILE] == ["bytes=0-0", "", "bytes=300000-"]


def test_a_download_killed_at_a_third_is_resumed(fetch: Fetcher) -> None:
    third = SIZE * 3 // 10
    fetch.hub.order("blob", 1, hold_after=third)
    child = fetch.start(*words(fetch))
    end = time.monotonic() + 60
    while not (part(fetch.folder).exists() and part(fetch.folder).stat().st_size == third):
        assert time.monotonic() < end
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    fetch.hub.release.set()
    assert fetch.run(*words(fetch))["fetched_bytes"] == SIZE - third
    assert (fetch.out / FILE).read_bytes() == MODEL
    assert fetch.hub.ranges[FILE][-1] == f"bytes={third}-"


def test_a_server_that_ignores_ranges_begins_anew(fetch: Fetcher) -> None:
    part(fetch.folder).parent.mkdir(parents=True)
    part(fetch.folder).write_bytes(MODEL[:1000])
    for where in ("probe", "blob"):
        fetch.hub.order(where, no_ranges=True)
    fetch.run(*words(fetch))
    assert (fetch.out / FILE).read_bytes() == MODEL


def test_a_part_of_something_else_is_found_by_the_checksum(fetch: Fetcher) -> None:
    part(fetch.folder).parent.mkdir(parents=True)
    part(fetch.folder).write_bytes(b"x" * 1000)
    fetch.run(*words(fetch))
    assert (fetch.out / FILE).read_bytes() == MODEL


def test_another_file_than_the_checksum_says(fetch: Fetcher) -> None:
    wanted = "0" * 64
    assert refused(InvalidModel, fetch, *words(fetch, wanted)) == (
        f"{FILE} from 127.0.0.1 has the sha256 {SHA256} ({SIZE:,} bytes), not {wanted}; fetched twice: "
        "the address serves another file, or the checksum is of another one"
    )
    assert fetch.hub.requests["blob"] == 2


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_address_that_is_refused(fetch: Fetcher, status: int) -> None:
    fetch.hub.order("probe", status=status)
    assert refused(NotFound, fetch, *words(fetch)) == (
        f"127.0.0.1 answered {status} for {FILE}; check the address (a signed one may have run out)"
    )


def test_a_server_in_trouble(fetch: Fetcher) -> None:
    fetch.hub.order("blob", status=500)
    assert refused(UpstreamError, fetch, *words(fetch)) == (
        f"127.0.0.1 answered 500 for {FILE}; try again later"
    )


def test_a_server_that_always_breaks_off(fetch: Fetcher) -> None:
    fetch.hub.order("blob", cut_after=0)
    message = refused(UpstreamError, fetch, *words(fetch))
    assert message.startswith(f"fetching {FILE} from 127.0.0.1 broke off: ")
    assert message.endswith("what came is kept, run it again to go on")


def test_no_room(fetch: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fetch_place.free_bytes", lambda folder: 1000)
    downloads = fetch.folder / "data" / "downloads"
    assert refused(DiskFullError, fetch, *words(fetch)) == (
        f"fetching `{FILE}` needs {SIZE + 64 * 1024 * 1024:,} bytes in {downloads}, 1,000 are free: make "
        "room there, or set CORRAL_DATA to a folder on a larger disk"
    )
    assert fetch.hub.requests["blob"] == 0


def test_a_data_directory_that_cannot_be_written(
    fetch: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = fetch.folder / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("CORRAL_DATA", str(blocked / "data"))
    message = refused(StoreError, fetch, *words(fetch))
    assert "Not a directory; make it writable, or set CORRAL_DATA to a folder that is" in message


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///etc/passwd", "`file:///etc/passwd` is no http(s) address"),
        ("http:///x.gguf", "`http:///x.gguf` is no http(s) address"),
        ("http://[x/y.gguf", "`http://[x/y.gguf` is no http(s) address"),
        ("http://u:p@h/x.gguf", "--url holds a user name or password; leave it out"),
        (
            "http://h/x-00001-of-00003.gguf",
            "`x-00001-of-00003.gguf` is one shard of a model: pull the repository with --hf-repo, or "
            "download all shards into one folder and pull the first FILE",
        ),
    ],
)
def test_addresses_that_cannot_be(fetch: Fetcher, url: str, message: str) -> None:
    assert refused(BadRequest, fetch, "--url", url, "--sha256", SHA256) == message


@pytest.mark.parametrize("sha256", [(), ("--sha256", "abc")])
def test_an_address_needs_a_checksum(fetch: Fetcher, sha256: tuple[str, ...]) -> None:
    assert refused(BadRequest, fetch, "--url", "http://h/x.gguf", *sha256) == (
        "--url needs --sha256 with the 64 hexadecimal digits of the file's checksum: nothing else tells "
        "a damaged or exchanged file"
    )


def test_downloads_are_kept_for_a_week(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for path, age in ((old, fetch_url.KEPT_SECONDS + 60), (new, 60)):
        path.write_text("x")
        os.utime(path, (time.time() - age,) * 2)
    fetch_url.tidy(tmp_path)
    assert (old.exists(), new.exists()) == (False, True)


# ---- files here ------------------------------------------------------------------------------------


def test_a_file_here_is_copied(fetch: Fetcher) -> None:
    source = write_model(fetch.folder / "my model.gguf")
    assert fetch.run(source, "--sha256", hashlib.sha256(source.read_bytes()).hexdigest())
    placed = fetch.out / "my-model.gguf"
    assert placed.read_bytes() == source.read_bytes()
    assert placed.stat().st_ino != source.stat().st_ino
    assert fetch.manifest().source == {"kind": "file", "file": "my model.gguf", "quant": ""}


def test_all_shards_of_a_file_here_come(fetch: Fetcher) -> None:
    names = [f"m-{n:05}-of-00002.gguf" for n in (1, 2)]
    for name in names:
        write_model(fetch.folder / name)
    fetch.run(fetch.folder / names[1])
    assert [file.name for file in fetch.manifest().files] == names


def test_a_shard_of_a_file_here_is_missing(fetch: Fetcher) -> None:
    here = write_model(fetch.folder / "m-00001-of-00002.gguf")
    assert refused(InvalidModel, fetch, str(here)) == (
        f"{here}: the shard m-00002-of-00002.gguf is missing; put all 2 into one folder"
    )


def test_a_file_here_is_not_what_the_checksum_says(fetch: Fetcher) -> None:
    here = write_model(fetch.folder / "m.gguf")
    found = hashlib.sha256(here.read_bytes()).hexdigest()
    assert refused(InvalidModel, fetch, str(here), "--sha256", "0" * 64) == (
        f"{here} has the sha256 {found}, not {'0' * 64}; get it again"
    )


def test_a_file_that_is_not_here(fetch: Fetcher) -> None:
    assert refused(BadRequest, fetch, "/nowhere/m.gguf") == (
        "/nowhere/m.gguf is no file; give the path of a GGUF file"
    )


def test_a_file_here_that_is_no_gguf(fetch: Fetcher) -> None:
    here = fetch.folder / "m.gguf"
    here.write_bytes(b"PK\3\4 a zip file")
    assert "is no GGUF" in refused(InvalidModel, fetch, str(here))
    assert not list(fetch.out.glob("*"))


def test_a_disk_that_is_full_all_at_once(fetch: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetch_url._Job, "_stream", full)
    assert refused(DiskFullError, fetch, *words(fetch)) == (
        f"the disk of {fetch.folder / 'data' / 'downloads'} is full: make room there, or set CORRAL_DATA to "
        "a folder on a larger disk"
    )
