"""The error tree: an error tells its caller what to do about it.

::

    KubernautError
    ├── Retryable            try again, not before ``after`` seconds when given; ``reason`` names a cause that has a name
    └── Permanent            trying again changes nothing; ``reason`` is CamelCase, fit for a condition
        ├── InvalidInput     what came from outside is wrong: what, where, and what would be right
        └── IllegalTransition  a phase change that no transition table allows

Raised at the adapter where the status code is known. A message says what was wrong, where, and what to do; it never
carries a secret.
"""

from __future__ import annotations


class KubernautError(Exception):
    """Base of everything this project raises on purpose."""


class Retryable(KubernautError):
    """A passing fault. ``after`` is in seconds; ``None`` leaves the delay to the caller's backoff."""

    def __init__(self, message: str, *, after: float | None = None, reason: str = "") -> None:
        super().__init__(message)
        self.after, self.reason = after, reason


class Permanent(KubernautError):
    """Trying again changes nothing. ``reason`` is CamelCase, fit for a Kubernetes condition."""

    def __init__(self, message: str, *, reason: str = "Failed") -> None:
        super().__init__(message)
        self.reason = reason


class InvalidInput(Permanent):
    """Input from outside that cannot be used. ``problems`` lists (path, what is wrong) pairs, all of them at once."""

    def __init__(
        self, message: str, *, problems: tuple[tuple[str, str], ...] = (), reason: str = "InvalidInput"
    ) -> None:
        super().__init__(message, reason=reason)
        self.problems = problems


class IllegalTransition(Permanent):
    """A phase change that the kind's transition table does not hold."""

    def __init__(self, kind: str, old: str, new: str) -> None:
        super().__init__(
            f"{kind}: no transition from {old or '(none)'} to {new or '(none)'}", reason="IllegalTransition"
        )
        self.kind, self.old, self.new = kind, old, new
