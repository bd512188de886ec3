"""How often Python looks for garbage in cycles, in a process that serves for long."""

from __future__ import annotations

import gc

THRESHOLDS = (10_000, 20, 50)
"""Of the three generations. What is made here are trees, which are freed without a search; Python's own 700 cost a controller 7 %."""


def settle() -> None:
    """Take what is here now for what stays, never to be looked through again, and look through what comes rarely.

    Call it when a process is set up.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
