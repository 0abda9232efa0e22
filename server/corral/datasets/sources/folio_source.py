"""A FOLIO system over HTTP, by way of folioclient: Okapi and Eureka alike.

folioclient logs in with `/authn/login-with-expiry`, which both gateways have, sends the token as
its cookie, and logs in again when it expires or is refused. What is added here: tries again after
429, 5xx and broken connections, and errors that say what to do.
"""

import time
from collections.abc import Callable
from random import Random
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from corral.datasets.sources.optional import load
from corral.datasets.sources.retry import PASSING, Passing, Patience, asked_wait, persist
from corral.errors import (
    AuthenticationError,
    BadRequest,
    NotFound,
    PermissionDenied,
    UpstreamError,
)


class Login(msgspec.Struct, frozen=True):
    """Who asks where. The password appears in no text of this object."""

    url: str
    tenant: str
    user: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.url!r}, {self.tenant!r}, {self.user!r}, '**********')"


def check_url(url: str) -> str:
    """The address without a slash at its end. Raises BadRequest."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadRequest(
            f"{url!r} is no address of a FOLIO gateway; it looks like https://okapi.example.org",
            param="url",
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise BadRequest(
            "the address may hold no user, password, query or fragment; see --user and "
            "--password-file",
            param="url",
        )
    return url.rstrip("/")


class FolioSource:
    """An open session. `get` is all it can do: nothing is ever written to FOLIO."""

    def __init__(
        self,
        login: Login,
        *,
        timeout: float = 60,
        patience: Patience | None = None,
        sleep: Callable[[float], None] = time.sleep,
        report: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.login = login
        self.timeout = timeout
        self.requests = 0
        self._patience = patience or Patience()
        self._sleep = sleep
        self._report = report
        self._random = Random()
        self._library = load("folioclient")
        self._client: Any = None

    def __enter__(self) -> Self:
        self._client = self._persist(self._connect, f"login to {self.login.url}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            # Logs out, so that no session stays open in FOLIO.
            self._client.__exit__(kind, error, trace)
        except (self._library.FolioError, load("httpx").HTTPError):
            self._report("could not log out of FOLIO; the session ends by itself")

    def get(self, path: str, params: dict[str, Any]) -> dict[str, Any]:
        """One answer, as parsed. Raises PermissionDenied, NotFound, BadRequest, UpstreamError."""

        def attempt() -> dict[str, Any]:
            self.requests += 1
            answer = self._translated(lambda: self._client.folio_get(path, query_params=params))
            if not isinstance(answer, dict):
                raise Passing("the answer is no JSON object")
            return answer

        answer: dict[str, Any] = self._persist(attempt, f"GET {path}")
        return answer

    def _persist(self, attempt: Callable[[], Any], what: str) -> Any:
        return persist(
            attempt,
            what,
            patience=self._patience,
            sleep=self._sleep,
            random=self._random,
            report=self._report,
        )

    def _connect(self) -> Any:
        login = self.login

        def connect() -> Any:
            client = self._library.FolioClient(
                login.url, login.tenant, login.user, login.password, timeout=self.timeout
            )
            return client.__enter__()

        return self._translated(connect, logging_in=True)

    def _translated(self, call: Callable[[], Any], *, logging_in: bool = False) -> Any:
        """`call`'s value, with folioclient's errors, all of them kinds of httpx's, as ours."""
        httpx = load("httpx")
        try:
            return call()
        except httpx.HTTPStatusError as error:
            self._refuse(error.response, logging_in)
        except httpx.RequestError as error:
            raise Passing(f"no answer ({type(error).__name__}: {error})") from None
        except (ValueError, KeyError) as error:
            # A login without cookie or JSON: not FOLIO, or one that is just starting.
            raise UpstreamError(
                f"{self.login.url} answers, but not as FOLIO does ({error}); is --url the gateway "
                "(Okapi or Kong), not the user interface?"
            ) from None

    def _refuse(self, response: Any, logging_in: bool) -> None:
        status, url = response.status_code, response.url.path
        if status in PASSING:
            wait = asked_wait(response.headers.get("retry-after"))
            raise Passing(f"FOLIO answered {status}", wait)
        said = " ".join(response.text.split())[:300]
        who = f"user {self.login.user!r} of tenant {self.login.tenant!r}"
        if logging_in and status == 404:
            raise NotFound(
                f"{self.login.url} has no {url}: --url is not a FOLIO gateway, or one older than "
                "the Poppy release of 2023, which Corral cannot log in to"
            )
        if status == 401 or (logging_in and status in (400, 403, 422)):
            raise AuthenticationError(
                f"FOLIO refuses {who} ({status}: {said}); check --tenant, --user and the password"
            )
        if status == 403:
            raise PermissionDenied(
                f"{who} may not read {url} ({said}); ask for a permission to view it"
            )
        if status == 404:
            raise NotFound(f"tenant {self.login.tenant!r} has no {url} ({said})")
        raise BadRequest(f"FOLIO answered {status} to {url}: {said}; check --query")
