"""Kubernetes quantities (``250m``, ``1.5Gi``, ``2e3``) as exact numbers."""

from __future__ import annotations

import re
from decimal import Decimal

_QUANTITY = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([numkMGTPE]|[KMGTPE]i))?$")
_FACTOR = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "k": Decimal(10**3), "M": Decimal(10**6),
    "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18), "Ki": Decimal(2**10),
    "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip


def parse(text: str) -> Decimal:
    """Return the value. Raises ``ValueError`` when it is no quantity."""
    match = _QUANTITY.match(text)
    if match is None:
        raise ValueError(f"{text!r} is no quantity; write for example 250m, 128Mi or 2")
    number = Decimal(match[1] + (match[2] or ""))
    return number * _FACTOR[match[3]] if match[3] else number


def valid(text: str) -> bool:
    return _QUANTITY.match(text) is not None
