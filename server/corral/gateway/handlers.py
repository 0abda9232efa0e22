"""Errors raised inside routes, as the envelope."""

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from corral.errors import BadRequest, CorralError, MethodNotAllowed, NotFound
from corral.gateway.context import RequestContext
from corral.gateway.responses import error_answer


def install(app: FastAPI) -> None:
    """Give `app` handlers for everything that a route may raise on purpose."""
    app.add_exception_handler(CorralError, _corral)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)


def _answer(request: Request, error: CorralError) -> Response:
    RequestContext.of(request.scope).failed(error)
    return error_answer(error)


async def _corral(request: Request, error: Exception) -> Response:
    assert isinstance(error, CorralError)
    return _answer(request, error)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path}"
    if error.status_code == 404:
        return _answer(request, NotFound(f"there is no route {where}; /docs lists them"))
    if error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "")
        problem = MethodNotAllowed(f"{where}: this route takes {allow}", headers={"Allow": allow})
        return _answer(request, problem)
    return _answer(request, BadRequest(f"{where}: {error.detail}"))


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        said = f"the body is not valid JSON: {first['ctx']['error']}"
        return _answer(request, BadRequest(said, code="invalid_json"))
    param = ".".join(str(part) for part in first["loc"][1:])
    return _answer(request, BadRequest(f"`{param}`: {first['msg']}", param=param or None))
