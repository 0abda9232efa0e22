"""Errors raised inside routes, as the envelope."""

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import compile_path
from starlette.types import Scope

from corral.errors import BadRequest, CorralError, MethodNotAllowed, NotFound
from corral.gateway.context import INTERNAL, RequestContext
from corral.gateway.responses import error_answer
from corral.gateway.rules import every_route


def install(app: FastAPI) -> None:
    """Give `app`, whose routes are complete, handlers for everything that one may raise on purpose."""
    app.add_exception_handler(CorralError, _corral)
    app.add_exception_handler(HTTPException, _Refusal(app))
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(Exception, _bug)


def _answer(request: Request, error: CorralError) -> Response:
    RequestContext.of(request.scope).failed(error)
    return error_answer(error)


async def _corral(request: Request, error: Exception) -> Response:
    assert isinstance(error, CorralError)
    return _answer(request, error)


class _Refusal:
    """What the router refuses: no such route, or not with this method."""

    def __init__(self, app: FastAPI) -> None:
        self._routes = [(compile_path(path)[0], verb) for verb, path in every_route(app.routes)]

    async def __call__(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        where = f"{request.method} {request.url.path}"
        if error.status_code == 404 and (better := self._without_slash(request.scope)):
            return RedirectResponse(better, 307)
        if error.status_code == 404:
            return _answer(request, NotFound(f"there is no route {where}; /docs lists them"))
        if error.status_code == 405:
            # Not the error's own header: that names the methods of one of the path's routes only.
            path = request.scope["path"]
            allow = ", ".join(sorted({verb for known, verb in self._routes if known.match(path)}))
            refused = MethodNotAllowed(
                f"{where}: this route takes {allow}", headers={"Allow": allow}
            )
            return _answer(request, refused)
        return _answer(request, BadRequest(f"{where}: {error.detail}"))

    def _without_slash(self, scope: Scope) -> str | None:
        """The target of a request but for a slash at its path's end, where that is a route. Without scheme and
        host, as FastAPI's own redirect has them: TLS in front of Corral makes others of them."""
        path, query = scope["path"], scope["query_string"].decode("latin-1")
        raw: str = scope["raw_path"].decode("latin-1")
        # `%2F` at the end is a slash in `path` only: without it nothing would change.
        if not raw.endswith("/") or not any(known.match(path[:-1]) for known, _ in self._routes):
            return None
        return raw[:-1] + (f"?{query}" if query else "")


async def _bug(request: Request, error: Exception) -> Response:
    """Starlette raises it anew after this answer, for the log."""
    return _answer(request, CorralError(INTERNAL))


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        said = f"the body is not valid JSON: {first['ctx']['error']}"
        return _answer(request, BadRequest(said, code="invalid_json"))
    param = ".".join(str(part) for part in first["loc"][1:])
    return _answer(request, BadRequest(f"`{param}`: {first['msg']}", param=param or None))
