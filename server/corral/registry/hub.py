"""Ask a model hub what it has: search, files with sizes and checksums, licence, who may fetch.

By huggingface_hub; it downloads no model. Every call blocks, and waits as `Patience` says.
Import it where it is needed only: huggingface_hub takes 0.3 s.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from huggingface_hub import HfApi, get_session, hf_raise_for_status
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from corral.errors import (
    AuthenticationError,
    CorralError,
    NotFound,
    PermissionDenied,
    RateLimited,
    UpstreamError,
)
from corral.registry.hub_files import Listing, RepoFile, check_repo
from corral.registry.patience import Patience
from corral.settings import HubAccess

TIMEOUT = 30.0
SEARCHERS = 8  # at once, for the file lists of what a search found


@dataclass(frozen=True)
class Probe:
    """What a file's server answered to a request for one byte of it: the status, and the file's size."""

    status: int
    size: int | None


class Hub:
    """The hub that `access` names."""

    def __init__(self, access: HubAccess, patience: Patience) -> None:
        self.access, self.patience = access, patience
        # False, not None: huggingface_hub would look for a token of its own.
        self._token: str | bool = access.token.get_secret_value() or False
        self._api = HfApi(endpoint=access.endpoint, token=self._token)

    def listing(self, repo: str) -> Listing:
        """The files of `repo` at the newest commit of its main branch, with what is known of them."""
        check_repo(repo)
        info = self.patience.ask(
            lambda: self._api.model_info(repo, files_metadata=True, timeout=TIMEOUT),
            lambda error: self._explain(error, f"`{repo}`", repo),
        )
        return _listing(info)

    def search(self, words: str, limit: int) -> list[Listing]:
        """GGUF repositories that match, most downloaded first, each with its files."""
        found = self.patience.ask(
            lambda: list(
                self._api.list_models(search=words, filter="gguf", sort="downloads", limit=limit)
            ),
            lambda error: self._explain(error, f"the search for `{words}`", ""),
        )
        with ThreadPoolExecutor(SEARCHERS) as pool:
            listings = pool.map(self.listing, [info.id for info in found])
            return [
                replace(listing, downloads=info.downloads or 0)
                for listing, info in zip(listings, found, strict=True)
            ]

    def probe(self, repo: str, commit: str, path: str, offset: int = 0) -> Probe:
        """Ask for the byte at `offset`: may the file be fetched, how long is it, are ranges answered?"""
        url = f"{self.access.endpoint}/{repo}/resolve/{commit}/{quote(path)}"
        return self.patience.ask(
            lambda: probe_url(url, offset, self._token),
            lambda error: self._explain(error, f"`{path}` of `{repo}`", repo),
        )

    def _explain(self, error: Exception, what: str, repo: str) -> CorralError:
        """The error as one of ours, with what to do about it."""
        endpoint = self.access.endpoint
        response = error.response if isinstance(error, HfHubHTTPError) else None
        if response is None:
            reason = str(error) or type(error).__name__
            return UpstreamError(
                f"no answer about {what} from {endpoint}: {reason}; check the connection and "
                "HF_ENDPOINT, or take what is in the cache (`--offline`)"
            )
        status = response.status_code
        if isinstance(error, GatedRepoError):
            return self._gated(repo)
        if isinstance(error, RepositoryNotFoundError):
            return NotFound(
                f"{endpoint} shows no model repository `{repo}` ({status}): check the spelling "
                "(`corral models search WORDS`); if it is private, set HF_TOKEN to a token that may read it"
            )
        if status in (401, 403):
            said = "the token in HF_TOKEN was refused" if self._token else "it wants a token"
            return AuthenticationError(
                f"{endpoint} answered {status} about {what}: {said}; set HF_TOKEN, or the file that "
                f"HF_TOKEN_PATH names, to a valid one ({endpoint}/settings/tokens)"
            )
        if status == 404:
            return NotFound(f"{endpoint} answered 404 about {what}; check HF_ENDPOINT and the name")
        if status == 429:
            asked = response.headers.get("Retry-After")
            when = f"it asks to wait {asked} s" if asked else "try again in some minutes"
            return RateLimited(
                f"{endpoint} answered 429 (too many requests) about {what}; {when}; a token in "
                "HF_TOKEN raises the limit",
                headers={"Retry-After": asked} if asked else None,
            )
        return UpstreamError(f"{endpoint} answered {status} about {what}; try again later")

    def _gated(self, repo: str) -> CorralError:
        page = f"{self.access.endpoint}/{repo}"
        if self._token:
            return PermissionDenied(
                f"`{repo}` is gated and the account of the token in HF_TOKEN is not let in: ask for "
                f"access at {page}, then try again"
            )
        return PermissionDenied(
            f"`{repo}` is gated: ask for access at {page}, then set HF_TOKEN to a token of that account"
        )


def probe_url(url: str, offset: int, token: str | bool = False) -> Probe:
    """Ask for one byte of `url`, following redirects; other hosts get no token. Raises HfHubHTTPError."""
    headers = {"Range": f"bytes={offset}-{offset}", "Accept-Encoding": "identity"}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT) as response:
        if response.status_code == 416:
            return Probe(416, _number(response.headers.get("Content-Range", "").rpartition("/")[2]))
        hf_raise_for_status(response)
        ranged = response.status_code == 206
        length = (
            response.headers.get("Content-Range", "").rpartition("/")[2]
            if ranged
            else response.headers.get("Content-Length", "")
        )
        return Probe(response.status_code, _number(length))


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _listing(info: Any) -> Listing:
    card = info.card_data.to_dict() if info.card_data else {}
    tagged = [tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:")]
    licence = card.get("license") or (tagged[0] if tagged else "")
    files = (
        RepoFile(
            file.rfilename,
            file.size or 0,
            (file.lfs.sha256 if file.lfs else "") or "",
            file.blob_id or "",
        )
        for file in info.siblings or ()
    )
    return Listing(
        repo=info.id,
        commit=info.sha or "",
        files=tuple(files),
        licence=licence if isinstance(licence, str) else ", ".join(licence),
        gated=bool(info.gated),
        downloads=info.downloads or 0,
    )
