"""How long to wait before trying again: exponential, spread so that many do not come back together, never before told."""

from __future__ import annotations

import random

MAX_DOUBLINGS = 10


def delay(doublings: int, *, base: float, longest: float, told: float | None = None) -> float:
    """Return seconds: ``base`` doubled so often, at most ``longest``, of which half to all is taken by lot.

    ``told`` is what the other side asked for (Retry-After); the result is never less.
    """
    backoff: float = min(base * 2 ** min(doublings, MAX_DOUBLINGS), longest)
    return max(told or 0.0, backoff * random.uniform(0.5, 1.0))  # noqa: S311 - spreading load, not a secret
