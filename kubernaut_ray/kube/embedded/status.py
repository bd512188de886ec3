"""``metav1.Status`` errors: every refusal the server can give, with the code and reason that clients branch on.

Raised anywhere below the HTTP application, rendered there and nowhere else. Wording follows kube-apiserver, because
people search for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

Obj = dict[str, Any]
"""A Kubernetes object, or any part of one, as JSON."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing wrong with one field. ``reason`` is a ``metav1.CauseType``."""

    field: str
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class ApiStatus(Exception):
    """A refusal: an HTTP code plus the body that says why."""

    def __init__(
        self, code: int, reason: str, message: str, *, details: Obj | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message
        self.details = details
        self.headers = headers or {}

    def body(self) -> Obj:
        """Return the ``v1.Status`` object."""
        body: Obj = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details:
            body["details"] = self.details
        return body


def qualified(plural: str, group: str) -> str:
    """Return ``deployments.apps``, or ``pods`` for the core group."""
    return f"{plural}.{group}" if group else plural


def _details(plural: str, group: str, name: str) -> Obj:
    details: Obj = {"kind": plural}
    if name:
        details["name"] = name
    if group:
        details["group"] = group
    return details


def not_found(plural: str, group: str, name: str) -> ApiStatus:
    return ApiStatus(
        404, "NotFound", f'{qualified(plural, group)} "{name}" not found', details=_details(plural, group, name)
    )


def no_such_path() -> ApiStatus:
    return ApiStatus(404, "NotFound", "the server could not find the requested resource", details={})


def already_exists(plural: str, group: str, name: str) -> ApiStatus:
    return ApiStatus(
        409,
        "AlreadyExists",
        f'{qualified(plural, group)} "{name}" already exists',
        details=_details(plural, group, name),
    )


def conflict(plural: str, group: str, name: str, why: str) -> ApiStatus:
    return ApiStatus(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}',
        details=_details(plural, group, name),
    )


def modified(plural: str, group: str, name: str) -> ApiStatus:
    return conflict(
        plural,
        group,
        name,
        "the object has been modified; please apply your changes to the latest version and try again",
    )


def apply_conflict(causes: Sequence[Cause], message: str) -> ApiStatus:
    return ApiStatus(409, "Conflict", message, details={"causes": _causes(causes)})


def _causes(causes: Sequence[Cause]) -> list[Obj]:
    return [{"reason": c.reason, "message": c.message, "field": c.field} for c in causes]


def invalid(kind: str, group: str, name: str, causes: Sequence[Cause]) -> ApiStatus:
    """422: the object was understood and is wrong; every problem at once."""
    texts = [str(c) for c in causes]
    text = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    details: Obj = {"kind": kind, "causes": _causes(causes)}
    if name:
        details["name"] = name
    if group:
        details["group"] = group
    return ApiStatus(422, "Invalid", f'{qualified(kind, group)} "{name}" is invalid: {text}', details=details)


def bad_request(message: str) -> ApiStatus:
    return ApiStatus(400, "BadRequest", message)


def unauthorized() -> ApiStatus:
    return ApiStatus(401, "Unauthorized", "Unauthorized", headers={"www-authenticate": "Bearer"})


def forbidden(plural: str, group: str, name: str, why: str, *, causes: Sequence[Cause] = ()) -> ApiStatus:
    details = _details(plural, group, name)
    if causes:
        details["causes"] = _causes(causes)
    subject = f'{qualified(plural, group)} "{name}"' if name else qualified(plural, group)
    return ApiStatus(403, "Forbidden", f"{subject} is forbidden: {why}", details=details)


def expired(message: str) -> ApiStatus:
    return ApiStatus(410, "Expired", message)


def future_version(wanted: int, current: int) -> ApiStatus:
    """504: the client asks for a state that this server has not reached."""
    return ApiStatus(
        504,
        "Timeout",
        f"Too large resource version: {wanted}, current: {current}",
        details={
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        },
        headers={"retry-after": "1"},
    )


def method_not_allowed(plural: str, group: str, method: str) -> ApiStatus:
    return ApiStatus(
        405,
        "MethodNotAllowed",
        f"{method} is not supported on resources of kind {qualified(plural, group)!r}",
        details=_details(plural, group, ""),
    )


def unsupported_media_type(got: str, wanted: Sequence[str]) -> ApiStatus:
    return ApiStatus(
        415,
        "UnsupportedMediaType",
        f"the body of the request was in an unknown format - accepted media types include: {', '.join(wanted)} "
        f"(got {got or 'none'})",
    )


def not_acceptable(wanted: Sequence[str]) -> ApiStatus:
    return ApiStatus(
        406, "NotAcceptable", f"only the following media types are accepted: {', '.join(wanted)}", details={}
    )


def too_large(limit: int) -> ApiStatus:
    return ApiStatus(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")


def internal(message: str) -> ApiStatus:
    return ApiStatus(500, "InternalError", f"Internal error occurred: {message}")


def shown(value: Any) -> str:
    """Render a value the way field errors do: JSON, cut to a readable length."""
    text = orjson.dumps(value).decode()
    return text if len(text) <= 200 else text[:200] + "…"


def invalid_value(field: str, value: Any, why: str) -> Cause:
    return Cause(field, "FieldValueInvalid", f"Invalid value: {shown(value)}: {why}")


def required(field: str, why: str = "") -> Cause:
    return Cause(field, "FieldValueRequired", "Required value" + (f": {why}" if why else ""))


def unsupported(field: str, value: Any, allowed: Sequence[Any]) -> Cause:
    return Cause(
        field,
        "FieldValueNotSupported",
        f"Unsupported value: {shown(value)}: supported values: {', '.join(shown(a) for a in allowed)}",
    )


def field_forbidden(field: str, why: str) -> Cause:
    return Cause(field, "FieldValueForbidden", f"Forbidden: {why}")
