"""Fetching from a hub, with llama.cpp's real downloader and a hub with faults."""

import hashlib
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fetch_hub
import fetch_place
from corral.errors import (
    AuthenticationError,
    BadRequest,
    CorralError,
    DiskFullError,
    InvalidModel,
    NotFound,
    PermissionDenied,
    RateLimited,
    StoreError,
    ToolError,
    UpstreamError,
)
from tests.fakes.gguf_file import gguf
from tests.fakes.hub_fetch import Fetcher, fetcher
from tests.fakes.hub_repos import HubFile, repo
from tests.fakes.hub_server import TOKEN, HubServer

REPO, FILE = "org/tiny-GGUF", "tiny-Q4_0.gguf"
MODEL = gguf({"general.license": "mit"}, elements=500_000)
SHA256 = hashlib.sha256(MODEL).hexdigest()
SIZE = len(MODEL)
# What the downloader's file stream may still hold back of what came, bytes: smaller writes are gathered.
HELD_BACK = 1024


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer(repo(REPO, {FILE: MODEL, "README.md": b"# tiny"})) as server:
        yield server
        server.release.set()


@pytest.fixture
def fetch(tmp_path: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> Fetcher:
    return fetcher(tmp_path, hub, monkeypatch)


def until(met: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def refused(kind: type[CorralError], fetch: Fetcher, *words: str) -> str:
    """The message that the fetch ends with."""
    with pytest.raises(CorralError) as caught:
        fetch.run("--hf-repo", REPO, "--attempts", "2", *words)
    assert type(caught.value) is kind, caught.value.message
    return caught.value.message.replace(fetch.hub.url, "HUB")


# ---- what comes ------------------------------------------------------------------------------------


def test_a_model_comes_whole_with_its_manifest(fetch: Fetcher) -> None:
    result = fetch.run("--hf-repo", REPO)
    assert (fetch.out / FILE).read_bytes() == MODEL
    assert (result["name"], result["bytes"], result["fetched_bytes"]) == ("tiny-Q4_0", SIZE, SIZE)
    manifest = fetch.manifest()
    assert manifest.files[0].sha256 == SHA256
    assert manifest.licence == "apache-2.0"
    commit = fetch.hub.repos[REPO].commit
    assert manifest.source == {
        "kind": "huggingface",
        "repo": REPO,
        "commit": commit,
        "files": [FILE],
        "quant": "Q4_0",
        "endpoint": fetch.hub.url,
    }


def test_the_file_is_a_read_only_link_to_the_cache(fetch: Fetcher) -> None:
    fetch.run("--hf-repo", REPO)
    placed = (fetch.out / FILE).stat()
    cached = fetch.part(REPO, FILE).with_suffix("").stat()
    assert (placed.st_ino, stat.S_IMODE(placed.st_mode)) == (cached.st_ino, 0o444)


def test_the_second_time_nothing_is_downloaded(fetch: Fetcher) -> None:
    fetch.run("--hf-repo", REPO)
    sent = fetch.hub.sent[FILE]
    assert fetch.run("--hf-repo", REPO, "--name", "other")["fetched_bytes"] == 0
    assert fetch.hub.sent[FILE] == sent


def test_progress_is_told_in_bytes(fetch: Fetcher) -> None:
    fetch.hub.order("blob", 1, hold_after=SIZE // 2)
    fetch.hub.release.set()
    fetch.run("--hf-repo", REPO)
    told = [event for event in fetch.told("progress") if event["text"] == FILE]
    assert told[-1] == {
        "type": "progress", "done": SIZE, "total": SIZE, "unit": "bytes", "text": FILE,
    }  # fmt: skip


def test_all_shards_come(fetch: Fetcher) -> None:
    names = [f"big-Q8_0-{n:05}-of-00003.gguf" for n in (1, 2, 3)]
    shards = {
        f"Q8_0/{name}": gguf({"split.count": 3, "split.no": n}) for n, name in enumerate(names)
    }
    fetch.hub.repos[REPO] = repo(REPO, shards)
    assert fetch.run("--hf-repo", f"{REPO}:q8_0")["name"] == "big-Q8_0"
    assert [file.name for file in fetch.manifest().files] == names
    assert [(fetch.out / name).read_bytes() for name in names] == list(shards.values())


def test_a_missing_shard_is_seen_before_the_first_byte(fetch: Fetcher) -> None:
    names = [f"big-{n:05}-of-00003.gguf" for n in (1, 3)]
    fetch.hub.repos[REPO] = repo(REPO, dict.fromkeys(names, MODEL))
    assert refused(InvalidModel, fetch) == (
        f"`{REPO}` lacks 1 of the 3 shards of `big-00001-of-00003.gguf`, first "
        "`big-00002-of-00003.gguf`: the upload is not complete; take another file or repository"
    )
    assert not fetch.hub.sent


@pytest.mark.parametrize("wanted", [True, False])
def test_a_vision_projector_comes_beside_its_model(fetch: Fetcher, wanted: bool) -> None:
    projector = gguf({"general.architecture": "clip"})
    fetch.hub.repos[REPO] = repo(REPO, {FILE: MODEL, "mmproj-tiny-F16.gguf": projector})
    fetch.run("--hf-repo", REPO, *([] if wanted else ["--no-mmproj"]))
    found = [(file.name, file.role) for file in fetch.manifest().files]
    assert found == [(FILE, "weights"), ("mmproj-tiny-F16.gguf", "mmproj")][: 1 + wanted]
    assert (fetch.out / "mmproj-tiny-F16.gguf").exists() == wanted


def test_an_adapter_names_its_base(fetch: Fetcher) -> None:
    header = {"general.type": "adapter", "general.base_model.0.name": "Corral Tiny"}
    fetch.hub.repos[REPO] = repo(REPO, {"lora.gguf": gguf(dict(header))})
    assert fetch.run("--hf-repo", REPO)["kind"] == "adapter"
    manifest = fetch.manifest()
    assert (manifest.base and manifest.base.name, manifest.files[0].role) == (
        "Corral-Tiny",
        "adapter",
    )


def test_a_file_that_git_itself_holds_is_checked_too(fetch: Fetcher) -> None:
    class Small(HubFile):
        is_lfs = False

    fetch.hub.repos[REPO].files = {FILE: Small(FILE, MODEL)}
    fetch.run("--hf-repo", REPO)
    assert fetch.manifest().files[0].sha256 == SHA256


# ---- what goes wrong on the way --------------------------------------------------------------------


def test_a_cut_download_goes_on_where_it_was(fetch: Fetcher) -> None:
    fetch.hub.order("blob", 3, cut_after=300_000)
    fetch.run("--hf-repo", REPO)
    assert (fetch.out / FILE).read_bytes() == MODEL
    ranges = [wanted for wanted in fetch.hub.ranges[FILE] if wanted.endswith("-")]
    assert ranges == ["bytes=300000-", "bytes=600000-", "bytes=900000-"]
    assert any("broke off: download failed: Failed to read" in said for said in fetch.messages())


def test_a_download_killed_at_a_third_is_resumed(fetch: Fetcher) -> None:
    third = SIZE * 3 // 10
    fetch.hub.order("blob", 1, hold_after=third)
    part = fetch.part(REPO, FILE)
    child = fetch.start("--hf-repo", REPO)
    until(lambda: part.exists() and part.stat().st_size > third - HELD_BACK)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    # llama.cpp's downloader ends with the script: nobody may append to the part now.
    until(lambda: not list(running("--hf-repo", REPO)))
    fetch.hub.release.set()
    have = part.stat().st_size
    assert third - HELD_BACK < have <= third
    result = fetch.run("--hf-repo", REPO)
    assert (fetch.out / FILE).read_bytes() == MODEL
    assert fetch.hub.ranges[FILE][-1] == f"bytes={have}-"
    assert result["fetched_bytes"] == SIZE - have


def running(*words: str) -> Iterator[int]:
    """Processes of `llama download` with these words."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if "download" in line and set(words) <= set(line):
            yield int(folder.name)


def test_two_pulls_at_once_make_one_download(fetch: Fetcher) -> None:
    fetch.hub.order("blob", 1, hold_after=SIZE // 3)
    first = fetch.start("--hf-repo", REPO, events="1.jsonl")
    until(lambda: fetch.hub.sent[FILE] > 1)
    second = fetch.start("--hf-repo", REPO, events="2.jsonl")
    until(lambda: any("waiting for it" in said for said in fetch.messages("2.jsonl")))
    fetch.hub.release.set()
    assert [child.communicate()[1] for child in (first, second)] == ["", ""]
    assert (first.returncode, second.returncode) == (0, 0)
    assert fetch.hub.requests["blob"] == 1
    for events in ("1.jsonl", "2.jsonl"):
        assert (fetch.folder / f"out-{events}" / FILE).read_bytes() == MODEL
    assert fetch.told("result", "2.jsonl")[0]["data"]["fetched_bytes"] == 0


def test_a_part_that_is_already_whole_is_taken(fetch: Fetcher) -> None:
    part = fetch.part(REPO, FILE)
    part.parent.mkdir(parents=True)
    part.write_bytes(MODEL)
    fetch.run("--hf-repo", REPO)
    assert (fetch.out / FILE).read_bytes() == MODEL
    assert not fetch.hub.sent


def test_a_server_that_cannot_resume_begins_anew(fetch: Fetcher) -> None:
    part = fetch.part(REPO, FILE)
    part.parent.mkdir(parents=True)
    part.write_bytes(MODEL[:1000])
    for where in ("probe", "blob"):
        fetch.hub.order(where, no_ranges=True)
    fetch.run("--hf-repo", REPO)
    assert (fetch.out / FILE).read_bytes() == MODEL
    assert f"the server of {FILE} cannot resume; fetching it from its first byte" in (
        fetch.messages()
    )


def test_a_part_of_something_else_is_found_by_the_checksum(fetch: Fetcher) -> None:
    part = fetch.part(REPO, FILE)
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    fetch.run("--hf-repo", REPO)
    assert (fetch.out / FILE).read_bytes() == MODEL
    assert "fetching it again" in fetch.messages()[-1]


def test_429_is_waited_for_as_long_as_it_says(fetch: Fetcher) -> None:
    for where in ("info", "probe"):
        fetch.hub.order(where, 1, status=429, headers={"Retry-After": "1"})
    fetch.run("--hf-repo", REPO)
    waits = [said for said in fetch.messages() if said.endswith("asking again in 1 s")]
    assert len(waits) == 2
    assert fetch.waited == [1, 1]


def test_a_hub_that_stumbles_is_asked_again(fetch: Fetcher) -> None:
    for where in ("info", "probe", "blob_head"):
        fetch.hub.order(where, 1, status=503)
    fetch.run("--hf-repo", REPO)
    assert (fetch.out / FILE).read_bytes() == MODEL


# ---- what ends it, with the exact message ----------------------------------------------------------


def test_429_without_end(fetch: Fetcher) -> None:
    fetch.hub.order("info", status=429, headers={"Retry-After": "1"})
    assert refused(RateLimited, fetch) == (
        f"HUB answered 429 (too many requests) about `{REPO}`; it asks to wait 1 s; a token in "
        "HF_TOKEN raises the limit"
    )
    assert fetch.hub.requests["info"] == 2
    assert fetch.waited == [1]


def test_429_that_asks_for_an_hour_is_not_waited_for(fetch: Fetcher) -> None:
    fetch.hub.order("info", status=429, headers={"Retry-After": "3600"})
    assert "it asks to wait 3600 s" in refused(RateLimited, fetch)
    assert fetch.hub.requests["info"] == 1


def test_500_without_end(fetch: Fetcher) -> None:
    fetch.hub.order("info", status=500)
    assert refused(UpstreamError, fetch) == f"HUB answered 500 about `{REPO}`; try again later"


def test_no_hub_at_all(fetch: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    message = refused(UpstreamError, fetch)
    assert message.startswith(f"no answer about `{REPO}` from http://127.0.0.1:9: ")
    assert message.endswith(
        "check the connection and HF_ENDPOINT, or take what is in the cache (`--offline`)"
    )


def test_a_downloader_that_never_gets_through(fetch: Fetcher) -> None:
    fetch.hub.order("blob_head", status=500)
    message = refused(ToolError, fetch)
    assert message.startswith(f"fetching {FILE} of `{REPO}` broke off: Download 'HUB/{REPO}/")
    assert message.endswith(
        "failed with status code: 500; what came is kept, run it again to go on"
    )


@pytest.mark.parametrize("token", ["", TOKEN])
def test_an_unknown_repository(
    tmp_path: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    fetch = fetcher(tmp_path, hub, monkeypatch, token)
    with pytest.raises(NotFound) as caught:
        fetch.run("--hf-repo", "org/none")
    assert caught.value.message == (
        f"{hub.url} shows no model repository `org/none` ({404 if token else 401}): check the spelling "
        "(`corral models search WORDS`); if it is private, set HF_TOKEN to a token that may read it"
    )


def test_a_token_that_is_refused(
    tmp_path: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.order("info", status=401)
    assert refused(AuthenticationError, fetcher(tmp_path, hub, monkeypatch, TOKEN)) == (
        f"HUB answered 401 about `{REPO}`: the token in HF_TOKEN was refused; set HF_TOKEN, or the "
        "file that HF_TOKEN_PATH names, to a valid one (HUB/settings/tokens)"
    )


def test_a_gated_repository_without_a_token(fetch: Fetcher) -> None:
    fetch.hub.repos[REPO].gated = "manual"
    assert refused(PermissionDenied, fetch) == (
        f"`{REPO}` is gated: ask for access at HUB/{REPO}, then set HF_TOKEN to a token of that account"
    )


def test_a_gated_repository_that_does_not_let_in(
    tmp_path: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[REPO].gated, hub.allowed = "manual", False
    assert refused(PermissionDenied, fetcher(tmp_path, hub, monkeypatch, TOKEN)) == (
        f"`{REPO}` is gated and the account of the token in HF_TOKEN is not let in: ask for access at "
        f"HUB/{REPO}, then try again"
    )


def test_the_token_opens_a_gated_repository_and_goes_to_no_other_host(
    tmp_path: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[REPO].gated = "manual"
    fetch = fetcher(tmp_path, hub, monkeypatch, TOKEN)
    fetch.run("--hf-repo", REPO)
    by_server: dict[str, set[str]] = {"hub": set(), "storage": set()}
    for server, sent in hub.credentials:
        by_server[server].add(sent)
    assert by_server == {"hub": {f"Bearer {TOKEN}"}, "storage": {""}}
    written = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in written if TOKEN.encode() in path.read_bytes()] == []


def test_a_file_that_is_not_there(fetch: Fetcher) -> None:
    assert refused(NotFound, fetch, "--hf-file", "other.gguf") == (
        f"`other.gguf` is not there in `{REPO}`; there are: `{FILE}`"
    )


def test_a_quantisation_that_is_not_there(fetch: Fetcher) -> None:
    with pytest.raises(NotFound) as caught:
        fetch.run("--hf-repo", f"{REPO}:Q5_K_M")
    assert caught.value.message == f"`{REPO}` has no Q5_K_M; there are: `{FILE}`"


def test_wrong_content_is_fetched_twice_and_refused(fetch: Fetcher) -> None:
    fetch.hub.order("blob", corrupt=True)
    wrong = hashlib.sha256(MODEL[:-1] + b"\x01").hexdigest()
    assert refused(InvalidModel, fetch) == (
        f"{FILE} of `{REPO}` has the sha256 {wrong}, the hub lists {SHA256}; fetched twice: the hub, or "
        "a proxy before it, serves another file than it lists"
    )
    assert fetch.hub.requests["blob"] == 2
    assert not list(fetch.cache.rglob(f"*{SHA256}*gguf*"))


def test_wrong_content_once_is_mended(fetch: Fetcher) -> None:
    fetch.hub.order("blob", 1, corrupt=True)
    fetch.run("--hf-repo", REPO)
    assert (fetch.out / FILE).read_bytes() == MODEL


def test_a_transfer_that_says_it_is_shorter(fetch: Fetcher) -> None:
    fetch.hub.order("blob", shorter=1000)
    assert refused(InvalidModel, fetch) == (
        f"{FILE} of `{REPO}` has {SIZE - 1000:,} bytes, the hub lists {SIZE:,}; fetched twice: the hub, "
        "or a proxy before it, serves another file than it lists"
    )


def test_a_transfer_that_says_it_is_longer_is_whole_all_the_same(fetch: Fetcher) -> None:
    fetch.hub.order("blob", longer=1000)
    fetch.run("--hf-repo", REPO)
    assert (fetch.out / FILE).read_bytes() == MODEL


@pytest.mark.parametrize("lie", [-1000, 1000])
def test_a_hub_that_lies_about_the_size_is_found_out_first(fetch: Fetcher, lie: int) -> None:
    fetch.hub.repos[REPO].files[FILE].listed_size = SIZE + lie
    assert refused(InvalidModel, fetch) == (
        f"{FILE} of `{REPO}`: the hub lists {SIZE + lie:,} bytes and would send {SIZE:,}; nothing was "
        "fetched. Take another file, or tell the hub's keeper"
    )
    assert fetch.hub.requests["blob"] == 0


def test_no_room_is_said_before_the_first_byte(fetch: Fetcher) -> None:
    huge = 10**15
    fetch.hub.repos[REPO].files[FILE].listed_size = huge
    message = refused(DiskFullError, fetch)
    needed = huge + fetch_place.SPARE_BYTES
    start = f"fetching `{REPO}` needs {needed:,} bytes in {fetch.cache}, "
    assert message.startswith(start)
    assert message.endswith(
        " are free: make room there, or set HF_HUB_CACHE to a folder on a larger disk, or take a "
        "smaller quantisation"
    )
    assert fetch.hub.requests["probe"] == 0


def test_a_disk_that_fills_up_on_the_way(fetch: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch.hub.order("blob_head", status=500)  # what stops the downloader does not matter
    left = iter([10**12])
    for module in (fetch_place, fetch_hub):
        monkeypatch.setattr(module, "free_bytes", lambda folder: next(left, 0))
    assert "0 are free: make room there" in refused(DiskFullError, fetch)


def test_a_cache_that_cannot_be_written(fetch: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = fetch.folder / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("HF_HUB_CACHE", str(blocked / "hub"))
    message = refused(StoreError, fetch)
    assert message.startswith(f"{blocked / 'hub'}")
    assert message.endswith(
        "cannot be written: Not a directory; make it writable, or set HF_HUB_CACHE to a folder that is"
    )


def test_an_output_folder_that_cannot_be_made(fetch: Fetcher) -> None:
    fetch.folder.joinpath("out").write_text("in the way")
    assert "make it writable, or set --out to a folder that is" in refused(StoreError, fetch)


@pytest.mark.parametrize(
    "path", ["../../evil.gguf", "/etc/evil.gguf", "a//b.gguf", "x/../../evil.gguf"]
)
def test_a_path_that_leads_out_of_the_cache(fetch: Fetcher, path: str) -> None:
    fetch.hub.repos[REPO] = repo(REPO, {path: MODEL})
    message = refused(InvalidModel, fetch)
    assert message.startswith(
        f"`{REPO}` lists the file {path!r} with the checksum '{SHA256}': not a"
    )
    assert not fetch.hub.sent


def test_a_checksum_that_leads_out_of_the_cache(fetch: Fetcher) -> None:
    fetch.hub.repos[REPO].files[FILE].listed_sha256 = "../../../evil"
    assert "with the checksum '../../../evil'" in refused(InvalidModel, fetch)


@pytest.mark.parametrize(
    "name",
    ["nope", "../x/y", "/etc/passwd", "a/b/c", "a/..", "org/-x", "a b/c", "org/x:Q4 0", "/", ""],
)
def test_malformed_repository_names(fetch: Fetcher, name: str) -> None:
    with pytest.raises(BadRequest) as caught:
        fetch.run(f"--hf-repo={name}")
    expected = (
        f"`{name}` is no repository name: write OWNER/NAME or OWNER/NAME:QUANT (letters, digits, `_`, "
        "and `.` or `-` between them)"
    )
    nothing = "name one thing to fetch: --hf-repo OWNER/NAME, --url URL, or FILE"
    assert caught.value.message == (expected if name else nothing)
    assert not fetch.hub.requests


@pytest.mark.parametrize("name", ["..", "../x", "a/b", "/abs", ".hidden"])
def test_malformed_model_names(fetch: Fetcher, name: str) -> None:
    assert refused(BadRequest, fetch, "--name", name) == (
        f"`{name}` is no model name: letters, digits, `.`, `_`, `-`, up to 200, the first a letter or "
        "digit"
    )


# ---- offline ---------------------------------------------------------------------------------------


def test_offline_takes_what_is_in_the_cache(fetch: Fetcher) -> None:
    fetch.run("--hf-repo", REPO)
    asked = dict(fetch.hub.requests)
    fetch.run("--hf-repo", REPO, "--offline")
    assert fetch.hub.requests == asked
    assert fetch.manifest().files[0].sha256 == SHA256
    assert fetch.manifest().licence == "mit"  # from the file: nobody else can be asked


def test_offline_without_the_model(fetch: Fetcher) -> None:
    assert refused(NotFound, fetch, "--offline") == (
        f"`{REPO}` is not in the cache {fetch.cache}; fetch it once without --offline, or set "
        "HF_HUB_CACHE to the cache that has it"
    )
    assert not fetch.hub.requests


def test_offline_without_the_file(fetch: Fetcher) -> None:
    fetch.run("--hf-repo", REPO)
    assert refused(NotFound, fetch, "--offline", "--hf-file", "b.gguf") == (
        f"offline, in the cache {fetch.cache}: `b.gguf` is not there in `{REPO}`; there are: `{FILE}`"
    )


def test_a_script_that_fails_prints_one_line_and_no_token(fetch: Fetcher) -> None:
    fetch.hub.repos[REPO].gated, fetch.hub.allowed = "manual", False
    child = fetch.start("--hf-repo", REPO, token=TOKEN)
    said = child.communicate()[1]
    assert child.returncode == 1
    assert said.startswith(f"error: `{REPO}` is gated and the account")
    assert said.count("\n") == 1
    assert TOKEN not in said
