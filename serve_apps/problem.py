"""Problems: every HTTP error of every service as RFC 7807 ``application/problem+json``.

Raise ``Problem`` where the status is known; ``of`` turns the project's own errors into one. A problem's text goes to the
caller, so it says what was wrong, where, and what to do, and holds no secret and no stack trace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from kubernaut_ray.errors import InvalidInput, Retryable
from kubernaut_ray.kube.errors import AlreadyExists, Conflict, NotFound

TYPE_BASE = "https://kubernaut.ai/problems/"
MEDIA_TYPE = "application/problem+json"

_SLUGS = {
    400: "validation-error",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    409: "conflict",
    412: "precondition-failed",
    413: "payload-too-large",
    415: "unsupported-media-type",
    422: "validation-error",
    429: "too-many-requests",
    500: "internal-error",
    503: "service-unavailable",
}


class Problem(HTTPException):
    """An HTTP error answer. ``slug`` and ``title`` default to those of the status; ``headers`` for example Retry-After.

    ``field_errors`` are (path in the input, what is wrong) pairs; ``reason`` is CamelCase, for callers that act on the cause.
    """

    def __init__(
        self,
        status: int,
        slug: str = "",
        title: str = "",
        detail: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        field_errors: Sequence[tuple[str, str]] = (),
        reason: str = "",
    ) -> None:
        super().__init__(status_code=status, detail=detail, headers=dict(headers or {}))
        self.status = status
        self.slug = slug or _SLUGS.get(status, "unknown")
        self.title = title or _phrase(status)
        self.field_errors = tuple(field_errors)
        self.reason = reason

    def response(self, *, instance: str = "", request_id: str = "") -> Response:
        body: dict[str, object] = {
            "type": TYPE_BASE + self.slug,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if instance:
            body["instance"] = instance
        if request_id:
            body["request_id"] = request_id
        if self.reason:
            body["reason"] = self.reason
        if self.field_errors:
            body["field_errors"] = [{"field": field, "message": message} for field, message in self.field_errors]
        return Response(orjson.dumps(body), self.status, media_type=MEDIA_TYPE, headers=dict(self.headers or {}))


def unavailable(detail: str, *, after: float | None = None, reason: str = "") -> Problem:
    """503 with Retry-After: what a client such as Alertmanager retries."""
    return Problem(503, detail=detail, headers={"Retry-After": str(max(1, round(after or 1)))}, reason=reason)


def unauthenticated(token: str, *, basic: bool = False) -> Problem:
    """401: no token came, or one that is not accepted."""
    return Problem(
        401,
        detail="the bearer token is not accepted; it may have expired"
        if token
        else "send the header 'Authorization: Bearer TOKEN' with a token of this cluster",
        headers={"WWW-Authenticate": 'Basic realm="kubernaut", Bearer' if basic else "Bearer"},
    )


def forbidden(username: str, verb: str, resource: str) -> Problem:
    return Problem(403, detail=f"user {username} may not {verb} {resource} in the API group kubernaut.ai")


def too_large(limit: int) -> Problem:
    return Problem(413, detail=f"the body is larger than {limit} bytes; send less at a time")


def of(error: BaseException) -> Problem | None:
    """Return the problem that this error means to an HTTP caller, or ``None`` when it is an internal error."""
    match error:
        case Problem():
            return error
        case HTTPException():
            return Problem(error.status_code, detail=str(error.detail), headers=error.headers)
        case RequestValidationError():
            errors = [(".".join(str(part) for part in e["loc"]), str(e["msg"])) for e in error.errors()]
            return Problem(400, detail="the request is not valid; see field_errors", field_errors=errors)
        case InvalidInput():
            return Problem(400, detail=str(error), field_errors=error.problems, reason=error.reason)
        case NotFound():
            return Problem(404, detail=str(error))
        case AlreadyExists() | Conflict():
            return Problem(409, detail=str(error))
        case Retryable():
            return unavailable(str(error), after=error.after, reason=error.reason)
        case _:
            return None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
