"""What the catalog can refuse, beyond bad input: absent things, and things that are already otherwise."""

from __future__ import annotations

from kubernaut_ray.errors import Permanent


class NotFound(Permanent):
    """The catalog holds no such thing."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="NotFound")


class Conflict(Permanent):
    """It is there already with another content, or it moved on since it was read."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="Conflict")


class PreconditionFailed(Permanent):
    """The caller named the state that it knows, and the thing is not in that state any more."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="PreconditionFailed")
