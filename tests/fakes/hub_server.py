"""A model hub that is a real HTTP server, with a second one on another host for large files.

It speaks what llama.cpp's downloader and huggingface_hub use: search, model info, refs, tree, and
`resolve` with HEAD, GET, Range and the redirect of large files to a storage host. Faults are
ordered beforehand; bytes, ranges and Authorization headers are recorded.
"""

import json
import sys
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.fakes.hub_repos import HubFile, HubRepo

# `head` and `get` are of the hub's resolve route, `blob` is a GET of the storage host, `probe` one of
# a single byte there.
Where = Literal["search", "info", "refs", "tree", "head", "get", "blob", "blob_head", "probe"]
CHUNK = 64 * 1024
HOLD_SECONDS = 60.0
TOKEN = "hf_" + "t" * 34


@dataclass
class Fault:
    """What goes wrong in the next `times` requests to one place.

    `status` answers that instead. `cut_after` breaks off after so many bytes of the body.
    `longer` and `shorter` lie in Content-Length by so many bytes. `corrupt` flips the last byte.
    `hold_after` stops there until `release` is set. `no_ranges` ignores Range.
    """

    where: Where
    times: int = 10**9
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    longer: int = 0
    shorter: int = 0
    corrupt: bool = False
    hold_after: int | None = None
    no_ranges: bool = False


NONE = Fault("get")


class HubServer:
    """Start it with `with`; `url` is the hub, `storage_url` the other host.

    `token` is asked for where a repository is gated; `allowed` says whether it opens gated ones.
    """

    def __init__(self, *repos: HubRepo, token: str = TOKEN, allowed: bool = True) -> None:
        self.repos = {repo.name: repo for repo in repos}
        self.token, self.allowed = token, allowed
        self.faults: list[Fault] = []
        self.requests: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.ranges: dict[str, list[str]] = defaultdict(list)
        # (which server, Authorization header or nothing), in order.
        self.credentials: list[tuple[str, str]] = []
        # Set when a held transfer may go on.
        self.release = threading.Event()
        self.lock = threading.Lock()
        self._hub = _Server(("127.0.0.1", 0), _handler(self, "hub"))
        self._storage = _Server(("127.0.0.1", 0), _handler(self, "storage"))
        self.url = f"http://127.0.0.1:{self._hub.server_port}"
        self.storage_url = f"http://localhost:{self._storage.server_port}"

    def __enter__(self) -> Self:
        for server in (self._hub, self._storage):
            # The default poll of 0.5 s is how long a shutdown takes.
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in (self._hub, self._storage):
            server.shutdown()
            server.server_close()

    def order(self, where: Where, times: int = 10**9, **fault: Any) -> None:
        """Let something go wrong; faults of one place come in the order they were asked for."""
        self.faults.append(Fault(where, times, **fault))

    def fault(self, where: Where) -> Fault:
        """What is to go wrong now, used up by this call."""
        with self.lock:
            for fault in self.faults:
                if fault.where == where and fault.times > 0:
                    fault.times -= 1
                    return fault
        return NONE

    def find(self, sha256: str) -> HubFile | None:
        """The large file of that content."""
        files = (file for repo in self.repos.values() for file in repo.files.values())
        return next((file for file in files if file.sha256 == sha256), None)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away, or is killed, is no error here."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _handler(hub: HubServer, name: str) -> type[BaseHTTPRequestHandler]:
    routes = _Hub if name == "hub" else _Storage
    return type("Handler", (routes,), {"hub": hub, "server_name": name})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer
    server_name: str

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.hub.credentials.append((self.server_name, self.headers.get("Authorization", "")))
        url = urlsplit(self.path)
        try:
            self.route(unquote(url.path), parse_qs(url.query))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def route(self, path: str, query: dict[str, list[str]]) -> None:
        raise NotImplementedError

    def answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def failed(self, fault: Fault) -> bool:
        """Whether a status was ordered; it is sent then."""
        if fault.status:
            self.answer(fault.status, {"error": "a fault to order"}, fault.headers)
        return bool(fault.status)

    def file(self, file: HubFile, headers: dict[str, str], fault: Fault) -> None:
        """Send a file or the part of it that was asked for."""
        data = file.content
        if fault.corrupt:
            data = data[:-1] + bytes([data[-1] ^ 1])
        wanted = "" if fault.no_ranges else self.headers.get("Range", "")
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        if self.command == "GET":
            self.hub.ranges[file.path].append(self.headers.get("Range", ""))
        if start >= len(data) > 0:
            self.answer(416, {"error": "range"}, {"Content-Range": f"bytes */{len(data)}"})
            return
        last = wanted.partition("-")[2]
        body = data[start : int(last) + 1 if last else None]
        declared = len(body) + fault.longer - fault.shorter
        self.send_response(206 if wanted else 200)
        if wanted:
            end = start + len(body) - 1
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(data)}")
        for key, value in {"Accept-Ranges": "bytes", "ETag": f'"{file.etag}"', **headers}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(declared))
        self.end_headers()
        if self.command == "GET":
            self._send(file.path, body[:declared], fault)

    def _send_part(self, path: str, body: bytes) -> None:
        for at in range(0, len(body), CHUNK):
            part = body[at : at + CHUNK]
            self.wfile.write(part)
            with self.hub.lock:
                self.hub.sent[path] += len(part)

    def _send(self, path: str, body: bytes, fault: Fault) -> None:
        end = len(body) if fault.cut_after is None else min(fault.cut_after, len(body))
        hold = end if fault.hold_after is None else min(fault.hold_after, end)
        self._send_part(path, body[:hold])
        if hold < end:
            self.hub.release.wait(HOLD_SECONDS)
            self._send_part(path, body[hold:end])
        if end < len(body) or fault.longer:
            self.close_connection = True


class _Hub(_Handler):
    def route(self, path: str, query: dict[str, list[str]]) -> None:
        if path == "/api/models":
            self._search(query)
        elif path.startswith("/api/models/"):
            self._api(path.removeprefix("/api/models/"), query)
        else:
            self._resolve(path.lstrip("/"))

    def _search(self, query: dict[str, list[str]]) -> None:
        self.hub.requests["search"] += 1
        if self.failed(self.hub.fault("search")):
            return
        words = query.get("search", [""])[0].lower()
        tags = set(query.get("filter", []))
        found = [
            repo.info(with_sizes=False)
            for repo in self.hub.repos.values()
            if words in repo.name.lower() and tags <= set(repo.tags)
        ]
        found.sort(key=lambda info: -int(info["downloads"]))
        self.answer(200, found[: int(query.get("limit", ["1000"])[0])])

    def _api(self, rest: str, query: dict[str, list[str]]) -> None:
        owner, name, *more = rest.split("/")
        what = more[0] if more else "info"
        where: Where = what if what in ("refs", "tree") else "info"  # type: ignore[assignment]
        self.hub.requests[where] += 1
        if self.failed(self.hub.fault(where)):
            return
        repo = self._repo(f"{owner}/{name}")
        if repo is None:
            return
        if where == "refs":
            self.answer(200, repo.refs())
        elif where == "tree":
            self.answer(200, repo.tree())
        else:
            self.answer(200, repo.info(with_sizes="blobs" in query))

    def _repo(self, name: str) -> HubRepo | None:
        """The repository; without one the hub says so, to a stranger as 401."""
        repo = self.hub.repos.get(name)
        if repo is None:
            known = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
            code = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
            self.answer(404 if known else 401, {"error": "Repository not found"}, code)
        return repo

    def _resolve(self, path: str) -> None:
        owner, name, word, _, *parts = [*path.split("/"), "", "", ""][: max(4, path.count("/") + 1)]
        where: Where = "head" if self.command == "HEAD" else "get"
        self.hub.requests[where] += 1
        fault = self.hub.fault(where)
        if self.failed(fault):
            return
        repo = self._repo(f"{owner}/{name}") if word == "resolve" else None
        if repo is None or self._locked(repo):
            return
        file = repo.files.get("/".join(parts))
        if file is None:
            self.answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        headers = {"X-Repo-Commit": repo.commit}
        if not file.is_lfs:
            self.file(file, headers, fault)
            return
        self.answer(302, {}, headers | self._linked(file))

    def _linked(self, file: HubFile) -> dict[str, str]:
        return {
            "X-Linked-Size": str(file.size),
            "X-Linked-ETag": f'"{file.sha256}"',
            "Location": f"{self.hub.storage_url}/blob/{file.sha256}/{quote(file.path)}?signature=s3cret",
        }

    def _locked(self, repo: HubRepo) -> bool:
        """Whether the repository is gated for this caller; the refusal is sent then."""
        known = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        if not repo.gated or (known and self.hub.allowed):
            return False
        code = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to it is restricted"}
        self.answer(403 if known else 401, {"error": "Access to it is restricted"}, code)
        return True


class _Storage(_Handler):
    def route(self, path: str, query: dict[str, list[str]]) -> None:
        where: Where = "blob_head" if self.command == "HEAD" else "blob"
        first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        if where == "blob" and first and first == last:
            where = "probe"
        self.hub.requests[where] += 1
        fault = self.hub.fault(where)
        if self.failed(fault):
            return
        file = self.hub.find(path.split("/")[2])
        if file is None:
            self.answer(404, {"error": "no such blob"})
            return
        self.file(file, {}, fault)
