"""Whose the target is: the verdict on a run, of any engine, that holds the lock's name and is not ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from actors.workflow_execution import engines
from actors.workflow_execution.marks import Ownership
from kubernaut_ray.crds.enums import WorkflowExecutionPhase
from kubernaut_ray.crds.workflow_execution import WorkflowExecution

_TERMINAL = (WorkflowExecutionPhase.COMPLETED, WorkflowExecutionPhase.FAILED)


class Hold(StrEnum):
    """What to do about a foreign run."""

    BUSY = "TargetBusy"
    """It runs, or is about to: this execution must not start."""
    SETTLING = "HolderSettling"
    """It is over, and its execution has not taken note yet."""
    COOLING = "TargetCoolingDown"
    """It is over and kept as the target's lock for the cooldown."""
    RELEASABLE = "LockReleasable"
    """It may be deleted: the same incident tries again, its cooldown is over and nobody released it, or it will never start."""


@dataclass(frozen=True, slots=True)
class Verdict:
    hold: Hold
    until: datetime | None = None
    """When a cooling lock may be released."""


def judge(
    run: Mapping[str, Any],
    holder: WorkflowExecution | None,
    remediation: str,
    now: datetime,
    cooldown: timedelta,
) -> Verdict:
    """Judge a foreign run; ``holder`` is the execution it was made for, if that exists still."""
    engine = engines.of(run)
    if engine.held(run):  # never started: it is about to, or it was left behind by a process that came too late
        waited_for = holder is not None and holder.status.phase not in _TERMINAL
        return Verdict(Hold.BUSY if waited_for else Hold.RELEASABLE)
    if not engine.is_over(run):
        return Verdict(Hold.BUSY)
    if holder is not None and holder.status.phase not in _TERMINAL:
        return Verdict(Hold.SETTLING)
    if Ownership.of(run).remediation == remediation:
        return Verdict(Hold.RELEASABLE)
    ended = engine.ended(run)
    until = (ended + cooldown) if ended is not None else now
    return Verdict(Hold.RELEASABLE) if now >= until else Verdict(Hold.COOLING, until)
