"""Starting an AIAnalysis: the first one, a recovery after a failed execution, or the present one again after a deletion."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from actors.remediation import children, moves
from actors.remediation.moves import Mark
from actors.remediation.observe import Observed
from kubernaut_ray.control.decision import Decision, Effect
from kubernaut_ray.crds.ai_analysis import AIAnalysis, SignalContext
from kubernaut_ray.crds.enums import RemediationPhase as Phase
from kubernaut_ray.crds.remediation_request import RemediationRequestStatus as Status
from kubernaut_ray.crds.shared import PreviousExecution
from kubernaut_ray.crds.signal_processing import SignalProcessingStatus
from kubernaut_ray.settings import Settings

Result = Decision[Status]


def begin(
    seen: Observed,
    reason: str,
    message: str,
    now: datetime,
    settings: Settings,
    *,
    attempt: int = 0,
    history: tuple[PreviousExecution, ...] = (),
    marks: tuple[Mark, ...] = (),
    effects: tuple[Effect, ...] = (),
    **changes: Any,
) -> Result:
    """Enter Analyzing; ``attempt`` n ≥ 1 is a recovery that is told ``history``, every failure before it."""
    request = seen.request
    child = children.ai_analysis(
        request, _context(seen), attempt=attempt, previous=history, past=seen.history, now=now, settings=settings
    )
    fields = {
        **changes,
        "recovery_attempts": attempt,
        "previous_executions": history,
        "ai_analysis_ref": children.reference(request, AIAnalysis, child.name),
    }
    return moves.advance(
        seen,
        Phase.ANALYZING,
        reason,
        message,
        now,
        settings.orchestrator,
        effects=(*effects, children.create(request, child)),
        marks=(*marks, Mark("AIAnalysisReady", True, "Created"), Mark("AIAnalysisComplete", None, "InProgress")),
        **fields,
    )


def again(seen: Observed, now: datetime, settings: Settings) -> Result:
    """The analysis vanished before it was used: make it anew, as nothing has come of it yet."""
    status = seen.request.status
    child = children.ai_analysis(
        seen.request,
        _context(seen),
        attempt=status.recovery_attempts,
        previous=status.previous_executions,
        past=seen.history,
        now=now,
        settings=settings,
    )
    effect = children.create(seen.request, child)
    return moves.stay(seen, "AIAnalysisRecreated", now, settings.orchestrator, effects=(effect,))


def _context(seen: Observed) -> SignalContext:
    status = seen.processing.status if seen.processing is not None else SignalProcessingStatus()
    return children.signal_context(seen.request, status)
