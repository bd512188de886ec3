"""The gap report (contract of Data Storage): incidents that the catalog had no workflow for, and what ruled the nearest out."""

from __future__ import annotations

from kubernaut_ray.contracts.base import Contract
from kubernaut_ray.crds.base import Timestamp


class NearMiss(Contract):
    """A workflow that is near by meaning and words, and what rules it out now; nothing when it would be offered now."""

    workflow_id: str
    workflow_name: str
    version: str
    relevance: float
    """Meaning and words only, labels left aside; comparable within one gap."""
    ruled_out_by: dict[str, str] = {}
    """Label (or ``status``) to the reason, in words."""


class Gap(Contract):
    """Questions of one kind (equal signal type, component, environment and severity) that found nothing."""

    signal_type: str
    component: str
    environment: str
    severity: str
    questions: int
    """How often it was asked in vain. Trying again with fewer facts counts as the same question."""
    weak: int = 0
    """How many of them did have an answer, but none that was relevant."""
    best_relevance: float = 0.0
    """Of the best answer that any of them had: meaning and words only."""
    first_seen: Timestamp
    last_seen: Timestamp
    example_query: str
    """Of the last question."""
    remediation_ids: tuple[str, ...] = ()
    """The last few, newest first."""
    answered_now: int = 0
    """How many workflows today's catalog would offer; above 0 the gap has been closed since."""
    ruled_out: dict[str, int] = {}
    """Label (or ``status``) to how many of ``nearest`` it rules out; a workflow may be ruled out by several."""
    nearest: tuple[NearMiss, ...] = ()


class GapReport(Contract):
    """``questions`` is how many were asked in all since ``since``, ``unanswered`` how many of them found nothing."""

    since: Timestamp
    questions: int
    unanswered: int
    snapshot_version: int
    truncated: bool = False
    """More searches were made than the report reads; the newest are in it."""
    gaps: tuple[Gap, ...]
    """Most asked first, then the most recent."""
