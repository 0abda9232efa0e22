"""Fetch one file from a URL whose sha256 is known. Goes on after a cut and after a kill.

By the HTTP client of huggingface_hub, not by `llama download --model-url`: that one asks HEAD first,
which addresses signed for GET refuse, and sends HF_TOKEN to whatever host the URL names. No token is
sent from here. The file stays in data/downloads, under its checksum, for a week, so that a second pull needs
no second download.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from filelock import FileLock, Timeout
from huggingface_hub import get_session, hf_raise_for_status
from huggingface_hub.errors import HfHubHTTPError

import stage
from corral.errors import BadRequest, CorralError, InvalidModel, NotFound, UpstreamError
from corral.registry.catalog import SHARD
from corral.registry.hub import probe_url
from corral.registry.patience import Patience
from fetch_place import Fetched, Part, cannot_write, check_space, hash_file

SHA256 = re.compile(r"[0-9a-fA-F]{64}\Z")
TIMEOUT = 60.0
KEPT_SECONDS = 7 * 24 * 3600
POLL_SECONDS = 0.2
HINT = "set CORRAL_DATA to a folder on a larger disk"


def fetch(
    url: str, sha256: str, downloads: Path, patience: Patience, reporter: stage.Reporter
) -> Fetched:
    """The file, checked. Blocks while another process fetches the same."""
    address = checked_url(url, sha256)
    name = Path(unquote(address.path)).name or "model.gguf"
    job = _Job(url, sha256.lower(), downloads, name, address.hostname or "")
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        tidy(downloads)
        with job.alone(reporter):
            fetched = job.get(patience, reporter)
    except OSError as error:
        cannot_write(downloads, error, "CORRAL_DATA")
    part = Part(job.ready, name, sha256=job.sha256, shared=True)
    # Without the query: it may hold a signature.
    source = {"kind": "url", "url": f"{address.scheme}://{address.netloc}{address.path}"}
    return Fetched((part,), source, fetched_bytes=fetched)


def checked_url(url: str, sha256: str) -> SplitResult:
    """The address; BadRequest says what is wrong with it."""
    try:
        address = urlsplit(url)
        usable = address.scheme in ("http", "https") and bool(address.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise BadRequest(f"`{url}` is no http(s) address", param="url")
    if address.username is not None:
        raise BadRequest("--url holds a user name or password; leave it out", param="url")
    if not SHA256.match(sha256):
        raise BadRequest(
            "--url needs --sha256 with the 64 hexadecimal digits of the file's checksum: nothing else "
            "tells a damaged or exchanged file",
            param="sha256",
        )
    if SHARD.match(Path(address.path).stem):
        raise BadRequest(
            f"`{Path(address.path).name}` is one shard of a model: pull the repository with --hf-repo, or "
            "download all shards into one folder and pull the first FILE",
            param="url",
        )
    return address


def tidy(downloads: Path) -> None:
    """Delete what was last written over a week ago."""
    for path in downloads.iterdir():
        if path.is_file() and time.time() - path.stat().st_mtime > KEPT_SECONDS:
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Job:
    url: str
    sha256: str
    downloads: Path
    name: str
    host: str

    @property
    def ready(self) -> Path:
        """The finished file."""
        return self.downloads / self.sha256

    @property
    def part(self) -> Path:
        """What there is of it."""
        return self.downloads / f"{self.sha256}.part"

    @contextmanager
    def alone(self, reporter: stage.Reporter) -> Iterator[None]:
        """Held by one fetch of this file; the others wait and say so."""
        lock = FileLock(self.downloads / f"{self.sha256}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            reporter.message(f"another pull is fetching {self.name}; waiting for it")
            lock.acquire(poll_interval=POLL_SECONDS)
        try:
            yield
        finally:
            lock.release()

    def get(self, patience: Patience, reporter: stage.Reporter) -> int:
        """Make `ready` the whole file; how many bytes had to be fetched."""
        if self.ready.is_file() and hash_file(self.ready) == self.sha256:
            return 0
        before = self._have()
        for last in (False, True):
            self._fill(patience, reporter)
            found = hash_file(self.part)
            if found == self.sha256:
                fetched = self._have() - before
                self.part.rename(self.ready)
                return max(fetched, 0)
            size, before = self._have(), 0
            self.part.unlink()
            if not last:
                reporter.message(
                    f"{self.name} has the sha256 {found}; fetching it again", "warning"
                )
        raise InvalidModel(
            f"{self.name} from {self.host} has the sha256 {found} ({size:,} bytes), not {self.sha256}; "
            "fetched twice: the address serves another file, or the checksum is of another one",
            param="sha256",
        )

    def _fill(self, patience: Patience, reporter: stage.Reporter) -> None:
        size = patience.ask(lambda: probe_url(self.url, 0), self._explain).size
        if size is not None and self._have() > size:
            self.part.unlink()
        if size is not None and self._have() == size:
            return
        check_space(f"`{self.name}`", (size or 0) - self._have(), self.downloads, HINT)
        patience.ask(lambda: self._stream(size, reporter), self._explain, self._have)

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _stream(self, size: int | None, reporter: stage.Reporter) -> None:
        have = self._have()
        if size is not None and have >= size:
            return
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with get_session().stream("GET", self.url, headers=headers, timeout=TIMEOUT) as response:
            hf_raise_for_status(response)
            resumed = response.status_code == 206
            with self.part.open("ab" if resumed else "wb") as file:
                for chunk in response.iter_raw():
                    file.write(chunk)
                    file.flush()  # a kill loses nothing that came
                    reporter.progress(file.tell(), size, "bytes", self.name)

    def _explain(self, error: Exception) -> CorralError:
        if not isinstance(error, HfHubHTTPError):
            reason = str(error) or type(error).__name__
            return UpstreamError(
                f"fetching {self.name} from {self.host} broke off: {reason}; what came is kept, run it "
                "again to go on"
            )
        status = error.response.status_code
        if status in (401, 403, 404, 410):
            return NotFound(
                f"{self.host} answered {status} for {self.name}; check the address (a signed one may "
                "have run out)"
            )
        return UpstreamError(f"{self.host} answered {status} for {self.name}; try again later")
