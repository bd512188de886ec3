"""Which answers of a policy the system understands, and what it says of those it does not.

``policy check`` shows it before a policy is in force. The controllers judge the same answers where they read them, and put
the safe word in place of one that is not understood.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from kubernaut_ray.crds.enums import Criticality, Environment, Priority, Severity, SlaTier


def complaint(entrypoint: str, value: Any) -> str:
    """Say why an answer is of no use; empty when it is understood, or when nobody but its author knows the rule."""
    reader = _READERS.get(entrypoint)
    return reader(value) if reader else ""


def _word(words: type[StrEnum], value: Any) -> str:
    known = isinstance(value, str) and value in {word.value for word in words}
    return "" if known else f"{_shown(value)} is not one of {', '.join(words)}"


def _environment(value: Any) -> str:
    if not isinstance(value, Mapping):
        return f'{_shown(value)} is not of the form {{"environment": …, "source": …}}'
    return _word(Environment, value.get("environment"))


def _severity(value: Any) -> str:
    return _word(Severity, value)


def _priority(value: Any) -> str:
    if not isinstance(value, Mapping):
        return f'{_shown(value)} is not of the form {{"priority": …, "policy_name": …}}'
    return _word(Priority, value.get("priority"))


def _business(value: Any) -> str:
    if not isinstance(value, Mapping):
        return f"{_shown(value)} is not an object with business_unit, service_owner, criticality and sla"
    criticality = value.get("criticality", Criticality.MEDIUM.value)
    return _word(Criticality, criticality) or _word(SlaTier, value.get("sla", SlaTier.BRONZE.value))


def _labels(value: Any) -> str:
    return "" if isinstance(value, Mapping) else f"{_shown(value)} is not an object of name → list of texts"


def _approval(value: Any) -> str:
    return "" if isinstance(value, bool) else f"{_shown(value)} is neither true nor false"


def _reason(value: Any) -> str:
    return "" if isinstance(value, str) else f"{_shown(value)} is not text"


def _shown(value: Any) -> str:
    return repr(value)[:100]


_READERS: Mapping[str, Callable[[Any], str]] = {
    "signalprocessing/environment/result": _environment,
    "signalprocessing/severity/result": _severity,
    "signalprocessing/priority/result": _priority,
    "signalprocessing/business/result": _business,
    "signalprocessing/labels/labels": _labels,
    "aianalysis/approval/require_approval": _approval,
    "aianalysis/approval/reason": _reason,
}
