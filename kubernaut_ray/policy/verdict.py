"""What evaluating a policy gives: a value, nothing, or a fault. Three things that must never be taken for one another.

``Undefined`` means that no rule applied; it is not ``false``. ``PolicyError`` means that nobody knows. What follows from
either is the caller's business, and both callers that matter fail to their safe side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kubernaut_ray.crds.enums import PolicyFault


@dataclass(frozen=True, slots=True)
class Verdict:
    """The value of a rule, as JSON (Rego sets come as sorted lists)."""

    value: Any


@dataclass(frozen=True, slots=True)
class Undefined:
    """No rule applied, or no policy declares this entry point."""


@dataclass(frozen=True, slots=True)
class PolicyError:
    """No verdict. ``message`` is for people and names the policy's fault, never the input's values."""

    fault: PolicyFault
    message: str

    def __str__(self) -> str:
        return f"{self.fault}: {self.message}"


Evaluation = Verdict | Undefined | PolicyError
