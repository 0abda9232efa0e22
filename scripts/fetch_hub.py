"""Fetch from a model hub: llama.cpp's own downloader brings the bytes, this makes sure of them.

`llama download --hf-repo R --hf-file F` is kept: it fills the cache that it shares with
huggingface_hub, fetches shards side by side, goes on after a cut and after a kill by Range
(huggingface_hub 2.4 writes to a name of its own for each process and begins anew), and does not send
the token to another host on a redirect. Seen when it was run against a hub with faults, and so done
here, around it:
- what it fetched is not checked: a wrong or short file was accepted. Sizes are compared before,
  sha256 after; what is wrong is deleted and fetched once more.
- a shard missing from the repository was no error: the listing is checked first.
- a part that is already whole (killed before the rename), and one whose server ignores Range, made
  it fail for ever: the first is renamed, the second deleted.
- 429 ended it at once, or after two fixed waits: a request for one byte before each try meets the
  429 first, and `Patience` waits for its Retry-After.
- two at once append to one part: a file lock lets one work.
- no look at free space, no progress but on a terminal, no reason but a status: all here.
"""

import ctypes
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

import stage
from corral.errors import InvalidModel, StartupError, ToolError, UpstreamError
from corral.registry.disk import nearest
from corral.registry.hub import Hub
from corral.registry.hub_files import Listing, RepoFile, choose
from corral.registry.patience import BrokenOff, Patience
from corral.settings import HubAccess, child_environment
from fetch_cache import Cache, Wish, described
from fetch_place import (
    SPARE_BYTES,
    Fetched,
    cannot_write,
    check_space,
    free_bytes,
    hash_file,
)

POLL_SECONDS = 0.2
LARGER_DISK = "set HF_HUB_CACHE to a folder on a larger disk, or take a smaller quantisation"
# Where llama.cpp says what went wrong with a transfer.
PULLING = " common_pull_file: "
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class Download:
    """One fetch from one hub."""

    def __init__(
        self, access: HubAccess, llama: Path, patience: Patience, reporter: stage.Reporter
    ) -> None:
        self._access, self._llama = access, llama
        self._patience, self._reporter = patience, reporter
        self._hub = Hub(access, patience)
        self._cache = Cache(access.cache, "", "")
        self._all: tuple[RepoFile, ...] = ()
        self._told = -1

    def fetch(self, wish: Wish, out: Path) -> Fetched:
        """The files of the model, whole and checked, in the cache. Blocks while another fetches them."""
        if not self._llama.is_file():
            raise StartupError(f"{self._llama} is not there; `make build-cpu` builds llama.cpp")
        listing = self._hub.listing(wish.repo)
        choice = choose(listing, wish.file, wish.quant, mmproj=wish.mmproj)
        self._reporter.message(f"{listing.repo}: {', '.join(file.path for file in choice.files)}")
        self._cache = Cache(self._access.cache, listing.repo, listing.commit)
        self._all = choice.files
        fetched = 0
        try:
            for group in choice.groups:
                with self._alone(group):
                    self._check_room(listing.repo, out)
                    before = self._here(group)
                    self._get(listing, group)
                    fetched += max(0, self._here(group) - before)
        except OSError as error:
            cannot_write(self._access.cache, error, "HF_HUB_CACHE")
        return described(self._cache, listing, choice, self._access.endpoint, fetched)

    def _here(self, files: tuple[RepoFile, ...]) -> int:
        return sum(self._cache.size(file) for file in files)

    def _check_room(self, repo: str, out: Path) -> None:
        """Room for what is still to come, and for a second copy where the store is on another disk."""
        cache = self._access.cache
        total = sum(file.size for file in self._all)
        missing = max(0, total - self._here(self._all))
        check_space(f"`{repo}`", missing, cache, LARGER_DISK)
        if nearest(cache).stat().st_dev != nearest(out).stat().st_dev:
            check_space(f"`{repo}`", total, out, "set CORRAL_DATA to a folder on a larger disk")

    @contextmanager
    def _alone(self, group: tuple[RepoFile, ...]) -> Iterator[None]:
        """Held by one fetch of these files; the others wait and say so."""
        folder = self._cache.root / ".locks" / self._cache.folder.name
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{group[0].etag}.corral.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self._reporter.message(
                f"another pull is fetching {group[0].name}; waiting for it ({lock.lock_file})"
            )
            lock.acquire(poll_interval=POLL_SECONDS)
        try:
            yield
        finally:
            lock.release()

    def _get(self, listing: Listing, group: tuple[RepoFile, ...]) -> None:
        """Fetch until every file is here and is what the hub says, or there is no hope of it."""
        dropped: set[str] = set()
        while True:
            self._patience.ask(
                lambda: self._try(listing, group),
                lambda error: ToolError(
                    f"fetching {group[0].path} of `{listing.repo}` broke off: {error}; what came is kept, "
                    "run it again to go on"
                ),
                lambda: self._here(group),
            )
            problems = ((file, self._problem(file)) for file in group)
            wrong, problem = next(((f, said) for f, said in problems if said), (None, ""))
            if wrong is None:
                return
            self._cache.drop(wrong)
            if wrong.path in dropped:
                raise InvalidModel(
                    f"{wrong.path} of `{listing.repo}` {problem}; fetched twice: the hub, or a proxy "
                    "before it, serves another file than it lists"
                )
            dropped.add(wrong.path)
            self._reporter.message(f"{wrong.path} {problem}; fetching it again", "warning")

    def _try(self, listing: Listing, group: tuple[RepoFile, ...]) -> None:
        """One run of llama.cpp's downloader; BrokenOff when it may be tried again."""
        missing = [file for file in group if not self._cache.ready(file).exists()]
        if not missing:
            return
        for file in missing:
            self._clear_the_way(listing, file)
        reason = self._run(listing.repo, group[0].path)
        missing = [file for file in missing if not self._cache.ready(file).exists()]
        if reason is None and missing:
            raise UpstreamError(
                f"`{listing.repo}` changed while {missing[0].path} was fetched; run it again"
            )
        if reason is not None:
            left = sum(file.size - self._cache.size(file) for file in missing)
            if free_bytes(self._access.cache) < min(left, SPARE_BYTES):
                check_space(f"`{listing.repo}`", left, self._access.cache, LARGER_DISK)
            raise BrokenOff(reason)

    def _clear_the_way(self, listing: Listing, file: RepoFile) -> None:
        """Ask for one byte where the download would go on, and mend what would stop it."""
        part = self._cache.part(file)
        have = part.stat().st_size if part.exists() else 0
        if have == file.size > 0:
            part.rename(self._cache.blob(file))  # checked with the others, afterwards
            return
        if have > file.size:
            part.unlink()
            have = 0
        answer = self._hub.probe(listing.repo, listing.commit, file.path, have)
        if answer.size is not None and answer.size != file.size:
            raise InvalidModel(
                f"{file.path} of `{listing.repo}`: the hub lists {file.size:,} bytes and would send "
                f"{answer.size:,}; nothing was fetched. Take another file, or tell the hub's keeper"
            )
        if answer.status == 200 and have:
            self._reporter.message(
                f"the server of {file.path} cannot resume; fetching it from its first byte",
                "warning",
            )
            part.unlink()

    def _run(self, repo: str, path: str) -> str | None:
        """Run the downloader to its end, telling the progress; None, or why it failed."""
        argv = [str(self._llama), "download", "--hf-repo", repo, "--hf-file", path, "--no-mmproj"]
        environment = child_environment(self._access.environment())
        with tempfile.TemporaryFile() as said:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env=environment,
                preexec_fn=die_with_parent if LIBC else None,
            )
            try:
                while child.poll() is None:
                    self._tell()
                    with_patience(child)
            finally:
                child.kill()
                child.wait()
            self._tell()
            said.seek(0)
            lines = said.read().decode("utf-8", "replace").split("\n")
        return None if child.returncode == 0 else last_reason(lines, child.returncode)

    def _tell(self) -> None:
        total = sum(file.size for file in self._all)
        done = min(self._here(self._all), total)
        if done != self._told:
            self._told = done
            self._reporter.progress(done, total, "bytes", self._all[0].name)

    def _problem(self, file: RepoFile) -> str:
        """What is wrong with a finished file; empty when nothing is."""
        path = self._cache.ready(file)
        size = path.stat().st_size
        if size != file.size:
            return f"has {size:,} bytes, the hub lists {file.size:,}"
        kind = "sha256" if file.sha256 else "git"
        found = hash_file(
            path,
            lambda done: self._reporter.progress(done, size, "bytes", f"checking {file.name}"),
            kind,
        )
        return "" if found == file.etag else f"has the {kind} {found}, the hub lists {file.etag}"


def die_with_parent() -> None:
    """In the child: the kernel ends it when this script ends, however it ends."""
    assert LIBC is not None
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def with_patience(child: subprocess.Popen[bytes]) -> None:
    """Wait for the child, but not long."""
    try:
        child.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return


def last_reason(lines: list[str], status: int) -> str:
    """Why the downloader failed, in its words: what it says of the connection, else its last line."""
    said = [line.strip() for line in lines if line.strip()]
    if not said:
        return f"llama download ended with status {status} and said nothing"
    broken = [line.rpartition(PULLING)[2] for line in said if PULLING in line]
    return (broken or [said[-1].removeprefix("error: ")])[-1]
