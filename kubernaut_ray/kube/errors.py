"""One error class per API status that somebody acts on.

::

    Retryable ── Unavailable   5xx, 429, connection refused, timeout
              └─ Conflict      409 Conflict: the object moved on; observe again
    Permanent ── ApiError      anything else the API server refused; ``status`` is the HTTP code
                 ├─ Unauthorized (401)   ├─ Forbidden (403)   ├─ NotFound (404)
                 ├─ AlreadyExists (409)  ├─ Gone (410)        └─ Invalid (400, 422)
"""

from __future__ import annotations

from kubernaut_ray.errors import Permanent, Retryable


class Unavailable(Retryable):
    """The API server cannot answer now."""


class Conflict(Retryable):
    """The object moved on since it was read."""

    def __init__(self, message: str) -> None:
        super().__init__(message, after=0.0)


class ApiError(Permanent):
    """The API server refused; ``status`` is the HTTP code, ``reason`` metav1.Status's reason."""

    def __init__(self, message: str, *, status: int, reason: str) -> None:
        super().__init__(message, reason=reason or "ApiError")
        self.status = status


class Unauthorized(ApiError):
    """401: the credentials are missing or not accepted."""


class Forbidden(ApiError):
    """403: the identity may not do this."""


class NotFound(ApiError):
    """404: no such object or no such resource."""


class AlreadyExists(ApiError):
    """409 AlreadyExists: the name is taken."""


class Gone(ApiError):
    """410: the resourceVersion or continue token is too old; list again."""


class Invalid(ApiError):
    """400 or 422: the object is not valid; the message names the fields."""
