"""Every error that Corral raises on purpose, and the one shape in which clients see them.

    CorralError                 500  a bug, or nothing more exact fits
    ├── SettingsError           500  a setting is unknown, malformed or unsafe (start-up only)
    ├── StartupError            500  a thing that serving needs is missing (start-up only)
    ├── ToolError               500  a program that Corral runs failed
    ├── StoreError              500  the store or the database cannot be read or written
    ├── GateError               500  an artifact fell short of a quality bar; exit code 3
    ├── DiskFullError           507  not enough free space for what was asked
    ├── BadRequest              400  the request is malformed or asks for the impossible
    │   ├── InvalidData         400  a dataset row or file breaks its format
    │   └── InvalidModel        400  a model file is missing, truncated or no GGUF
    ├── AuthenticationError     401  no API key, or not one of ours
    ├── PermissionDenied        403  the key is known but may not do this
    ├── NotFound                404  no such route, file, job …
    │   └── ModelNotFound       404  no model of that name
    ├── MethodNotAllowed        405  the route exists, the method does not
    ├── RequestTimeout          408  the client took too long to send its request
    ├── Conflict                409  permanent: sent with x-should-retry: false
    ├── PayloadTooLarge         413  the body is over the limit
    ├── RateLimited             429  try again after Retry-After
    └── UpstreamError           502  llama-server broke off or answered nonsense
        ├── NotReady            503  the model or llama-server is not up (yet)
        └── UpstreamTimeout     504  llama-server did not answer in time

Raise the most exact class with a message that says what, which value, what is allowed and what to
do next. The CLI prints the message and exits with `exit_code`; the gateway answers with `status`
and the envelope of `CorralError.body`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class CorralError(Exception):
    """Root of the tree. `param` names the request field, setting or file at fault."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str] = "internal_error"
    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.default_code
        self.headers: dict[str, str] = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The OpenAI error envelope, for an HTTP body and for an SSE event alike."""
        return envelope(self.message, self.type, self.param, self.code)


def envelope(message: str, type: str, param: str | None, code: str | None) -> dict[str, Any]:
    """`{"error": {"message", "type", "param", "code"}}`, the only error shape Corral sends."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


class SettingsError(CorralError):
    """A setting is unknown, malformed or unsafe; `corral serve` does not start."""

    default_code = "invalid_settings"
    exit_code = 2


class StartupError(CorralError):
    """Something that serving needs is missing: a binary, a port, a model."""

    default_code = "cannot_start"


class ToolError(CorralError):
    """A program that Corral runs (compiler, llama.cpp tool, trainer) failed."""

    default_code = "tool_failed"


class StoreError(CorralError):
    """The store or the database cannot be used: read-only, locked, not ours, or of a newer Corral."""

    default_code = "store_unusable"


class GateError(CorralError):
    """An artifact fell short of its quality bar and was not registered."""

    default_code = "below_quality_bar"
    exit_code = 3


class DiskFullError(CorralError):
    """There is not enough free space; the message has the bytes needed, free, and the place."""

    status = 507
    default_code = "disk_full"


class BadRequest(CorralError):
    """The caller's input is wrong; asking again unchanged cannot help."""

    status = 400
    type = "invalid_request_error"
    default_code = "invalid_request"
    exit_code = 2


class InvalidData(BadRequest):
    """A dataset file or row breaks its format; the message has the line and the field."""

    default_code = "invalid_data"
    exit_code = 1


class InvalidModel(BadRequest):
    """A model file is missing, truncated, or not a GGUF that Corral can serve."""

    default_code = "invalid_model"
    exit_code = 1


class AuthenticationError(CorralError):
    """No API key was sent, or one that is not known here."""

    status = 401
    type = "authentication_error"
    default_code = "invalid_api_key"


class PermissionDenied(CorralError):
    """The key is known but may not do this."""

    status = 403
    type = "permission_error"
    default_code = "permission_denied"


class NotFound(CorralError):
    """There is no such route, file, job or other resource."""

    status = 404
    type = "invalid_request_error"
    default_code = "not_found"


class ModelNotFound(NotFound):
    """No model or alias has the name asked for; the message lists those there are."""

    default_code = "model_not_found"


class MethodNotAllowed(CorralError):
    """The route exists but not with this method."""

    status = 405
    type = "invalid_request_error"
    default_code = "method_not_allowed"


class RequestTimeout(CorralError):
    """The client did not send its whole request in time."""

    status = 408
    type = "invalid_request_error"
    default_code = "request_timeout"


class Conflict(CorralError):
    """Cannot be done in the present state. SDKs retry 409, hence the header that tells them not to."""

    status = 409
    type = "invalid_request_error"
    default_code = "conflict"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message, **details)
        self.headers.setdefault("x-should-retry", "false")


class PayloadTooLarge(CorralError):
    """The body is over `max_body_bytes`."""

    status = 413
    type = "invalid_request_error"
    default_code = "payload_too_large"


class RateLimited(CorralError):
    """Too many requests; Retry-After says when to come back."""

    status = 429
    type = "rate_limit_error"
    default_code = "rate_limit_exceeded"


class UpstreamError(CorralError):
    """llama-server broke off, died, or answered something that is not its API."""

    status = 502
    type = "upstream_error"
    default_code = "upstream_failed"


class NotReady(UpstreamError):
    """llama-server or the model is not up; the message says what is awaited."""

    status = 503
    type = "service_unavailable"
    default_code = "not_ready"


class UpstreamTimeout(UpstreamError):
    """llama-server took longer than the configured limit."""

    status = 504
    default_code = "upstream_timeout"
