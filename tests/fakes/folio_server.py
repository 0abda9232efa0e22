"""A FOLIO gateway that is a real HTTP server: logins, paging, CQL, names, and faults to order.

It speaks what Okapi and Eureka (Kong) speak to a reading client: Okapi answers a bad token with
text, Eureka with JSON. A system older than 2023 has only `/authn/login`.
"""

import json
import re
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from tests.fakes.folio_records import TABLES

TENANT, USER, PASSWORD = "diku", "cataloguer", "s3cret pass"
Flavour = Literal["okapi", "eureka", "old"]
Answer = tuple[int, Any, dict[str, str]]


class FolioServer:
    """Start it with `with`; `url` is where it is.

    `faults[(path, offset)]` is a list of statuses answered there before the page itself, each
    (status, headers). `token_uses` requests are good for one token. `forbidden` paths answer 403.
    """

    def __init__(
        self,
        tables: dict[str, tuple[str, list[dict[str, Any]]]] | None = None,
        *,
        flavour: Flavour = "okapi",
        token_uses: int = 10**9,
        forbidden: frozenset[str] = frozenset(),
    ) -> None:
        self.tables = {**TABLES, **(tables or {})}
        self.flavour = flavour
        self.token_uses = token_uses
        self.forbidden = forbidden
        self.faults: dict[tuple[str, int], list[tuple[int, dict[str, str]]]] = {}
        self.login_faults: list[int] = []
        self.requests: Counter[str] = Counter()
        self.records_sent = 0
        self.logged_out = 0
        self.logins = 0
        self._token = ""
        self._uses = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        # The default poll of 0.5 s is how long a shutdown takes.
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def login(self, path: str, body: dict[str, Any], tenant: str) -> Answer:
        if path == "/authn/login-with-expiry" and self.flavour == "old":
            return 404, f"No suitable module found for path {path}", {}
        if self.login_faults:
            return self.login_faults.pop(0), "not now", {}
        if tenant != TENANT or body != {"username": USER, "password": PASSWORD}:
            return 422, {"errors": [{"message": "Password does not match"}]}, {}
        self.logins += 1
        self._token, self._uses = f"token-{self.logins}", 0
        if path == "/authn/login":
            return 201, {"okapiToken": self._token}, {"x-okapi-token": self._token}
        later = (datetime.now(UTC) + timedelta(minutes=10)).strftime("%Y-%m-%dT%H:%M:%SZ")
        cookies = {
            "Set-Cookie": f"folioAccessToken={self._token}; Path=/; HttpOnly; SameSite=None",
            "set-cookie": f"folioRefreshToken=refresh-{self._token}; Path=/authn; HttpOnly",
        }
        return 201, {"accessTokenExpiration": later, "refreshTokenExpiration": later}, cookies

    def get(self, path: str, params: dict[str, str], tenant: str, token: str) -> Answer:
        refused = self._refused(path, tenant, token)
        if refused:
            return refused
        faults = self.faults.get((path, int(params.get("offset", 0))))
        if faults and params.get("limit") != "0":
            status, headers = faults.pop(0)
            return status, "a fault to order", headers
        if path not in self.tables:
            return 404, f"No suitable module found for path {path}", {}
        key, records = self.tables[path]
        try:
            found = search(records, params.get("query", "cql.allRecords=1"))
        except ValueError as error:
            return 400, f"CQL Parsing Error: {error}", {}
        offset, limit = int(params.get("offset", 0)), int(params.get("limit", 10))
        page = found[offset : offset + limit]
        self.records_sent += len(page)
        return 200, {key: page, "totalRecords": len(found)}, {}

    def _refused(self, path: str, tenant: str, token: str) -> Answer | None:
        self._uses += 1
        if token != self._token or not token or self._uses > self.token_uses or tenant != TENANT:
            said = {"message": "Unauthorized"} if self.flavour == "eureka" else "Token missing"
            return 401, said, {}
        if path in self.forbidden:
            return 403, "Access requires permission: some.collection.get", {}
        return None


def search(records: list[dict[str, Any]], query: str) -> list[dict[str, Any]]:
    """The little CQL that is needed. Raises ValueError for any other."""
    condition, sort = re.fullmatch(r"(.*?)(\s+sortby id)?", query.strip(), re.I | re.S).groups()  # type: ignore[union-attr]
    if condition != "cql.allRecords=1":
        match = re.fullmatch(r'(\w+)\s*==\s*(?:\(([^)]*)\)|"([^"]*)"|(\S+))', condition)
        if not match:
            raise ValueError(f"cannot parse {condition!r}")
        field, *values = match.groups()
        wanted = set(re.split(r"\s+or\s+", next(value for value in values if value is not None)))
        records = [record for record in records if _matches(record.get(field), wanted)]
    # Without an order, PostgreSQL gives rows as it likes.
    return (
        sorted(records, key=lambda record: str(record["id"])) if sort else list(reversed(records))
    )


def _matches(value: Any, wanted: set[str]) -> bool:
    return any(item in wanted for item in value) if isinstance(value, list) else value in wanted


def _handler(server: FolioServer) -> type[BaseHTTPRequestHandler]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            path = urlsplit(self.path).path
            with lock:
                server.requests[path] += 1
                if path == "/authn/logout":
                    server.logged_out += 1
                    answer: Answer = (204, "", {})
                else:
                    tenant = self.headers.get("x-okapi-tenant", "")
                    answer = server.login(path, json.loads(body), tenant)
            self._send(answer)

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            token = re.search(r"folioAccessToken=([^;]+)", self.headers.get("cookie", ""))
            with lock:
                server.requests[parts.path] += 1
                answer = server.get(
                    parts.path,
                    dict(parse_qsl(parts.query)),
                    self.headers.get("x-okapi-tenant", ""),
                    token[1] if token else "",
                )
            self._send(answer)

        def _send(self, answer: Answer) -> None:
            status, body, headers = answer
            text = isinstance(body, str)
            data = body.encode() if text else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if text else "application/json")
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if status != 204:
                self.wfile.write(data)

    return Handler
