"""What the pages show, computed from models. Pure: the same incident and instant give the same page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.timeline import IncidentStory
from kubernaut_ray.contracts.timeline import Step as TrailStep
from kubernaut_ray.crds import RemediationApprovalRequest, RemediationRequest
from kubernaut_ray.crds.enums import AuditOutcome, Outcome, RemediationPhase
from serve_apps.console.incidents import Incident

MAX_ROWS = 200
BAR_WIDTH = 1000.0
_SMALLEST = 18.0


class Tone(StrEnum):
    """How something looks: going well, going on, waiting for somebody, gone wrong, or of no concern."""

    GOOD = "good"
    BUSY = "busy"
    WAIT = "wait"
    BAD = "bad"
    IDLE = "idle"


_PHASE_TONE = {
    RemediationPhase.COMPLETED: Tone.GOOD,
    RemediationPhase.FAILED: Tone.BAD,
    RemediationPhase.TIMED_OUT: Tone.BAD,
    RemediationPhase.SKIPPED: Tone.IDLE,
    RemediationPhase.CANCELLED: Tone.IDLE,
    RemediationPhase.AWAITING_APPROVAL: Tone.WAIT,
    RemediationPhase.BLOCKED: Tone.WAIT,
}
_OUTCOME_TONE = {
    Outcome.REMEDIATED: Tone.GOOD,
    Outcome.NO_ACTION_REQUIRED: Tone.GOOD,
    Outcome.MANUAL_REVIEW_REQUIRED: Tone.WAIT,
    Outcome.INCONCLUSIVE: Tone.WAIT,
}
_STARTS = (
    (RemediationPhase.PROCESSING, "processing_start_time"),
    (RemediationPhase.ANALYZING, "analyzing_start_time"),
    (RemediationPhase.AWAITING_APPROVAL, "awaiting_approval_start_time"),
    (RemediationPhase.EXECUTING, "executing_start_time"),
    (RemediationPhase.VERIFYING, "verifying_start_time"),
)
_WORDS = {
    RemediationPhase.AWAITING_APPROVAL: "Awaiting approval",
    RemediationPhase.TIMED_OUT: "Timed out",
}


def phase_of(remediation: RemediationRequest) -> RemediationPhase:
    return remediation.status.overall_phase or RemediationPhase.PENDING


def tone(phase: RemediationPhase) -> Tone:
    return _PHASE_TONE.get(phase, Tone.BUSY)


def outcome_tone(outcome: Outcome | None) -> Tone:
    return _OUTCOME_TONE.get(outcome, Tone.IDLE) if outcome else Tone.IDLE


def event_tone(event: AuditEvent) -> Tone:
    return {AuditOutcome.SUCCESS: Tone.GOOD, AuditOutcome.FAILURE: Tone.BAD}.get(event.event_outcome, Tone.WAIT)


def told(story: IncidentStory) -> tuple[TrailStep, ...]:
    """Return the steps that a person wants to read: not what only says more of another, unless it went wrong."""
    return tuple(step for step in story.steps if not step.detail or step.outcome == AuditOutcome.FAILURE)


def step_tone(step: TrailStep) -> Tone:
    return {"success": Tone.GOOD, "failure": Tone.BAD}.get(step.outcome, Tone.WAIT)


def words(text: str) -> str:
    """``AwaitingApproval`` → ``Awaiting approval``; other words with spaces between their parts."""
    if text in _WORDS:
        return _WORDS[RemediationPhase(text)]
    parts: list[str] = []
    for character in text:
        if character.isupper() and parts and parts[-1][-1].islower():
            parts.append(character.lower())
        elif parts:
            parts[-1] += character
        else:
            parts.append(character)
    return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Step:
    """One phase that the remediation was in. ``x`` and ``width`` place it on a bar of ``BAR_WIDTH``."""

    phase: str
    tone: Tone
    start: datetime
    duration: str
    running: bool
    x: float = 0.0
    width: float = 0.0


def steps(remediation: RemediationRequest, now: datetime) -> tuple[Step, ...]:
    """Return the phases in the order in which they began, placed on the bar by how long they took."""
    status, current = remediation.status, phase_of(remediation)
    starts = [(RemediationPhase.PENDING, status.start_time or remediation.created)]
    starts += [(phase, at) for phase, field in _STARTS if (at := getattr(status, field)) is not None]
    starts.sort(key=lambda entry: entry[1])
    end = status.completed_at or (None if not current.terminal else starts[-1][1])
    lengths: list[timedelta] = []
    for index, (_, start) in enumerate(starts):
        until = starts[index + 1][1] if index + 1 < len(starts) else end or now
        lengths.append(max(until - start, timedelta()))
    widths = _widths([length.total_seconds() for length in lengths])
    made: list[Step] = []
    x = 0.0
    for index, ((phase, start), length) in enumerate(zip(starts, lengths, strict=True)):
        last = index == len(starts) - 1
        running = last and end is None
        look = tone(current) if last and (current.terminal or running) else Tone.GOOD
        made.append(Step(words(phase), look, start, brief(length), running, round(x, 1), round(widths[index], 1)))
        x += widths[index]
    return tuple(made)


def _widths(seconds: Sequence[float]) -> list[float]:
    """Share the bar by time, but let every phase be seen."""
    total = sum(seconds) or 1.0
    spare = BAR_WIDTH - _SMALLEST * len(seconds)
    return (
        [_SMALLEST + spare * one / total for one in seconds]
        if sum(seconds)
        else [BAR_WIDTH / len(seconds)] * len(seconds)
    )


def brief(length: timedelta) -> str:
    """``0.4s``, ``12s``, ``3m 5s``, ``2h 10m``."""
    seconds = max(0.0, length.total_seconds())
    if seconds < 10:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest}s"
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours}h {minutes_left}m" if hours else f"{minutes}m {rest}s"


def brief_seconds(seconds: float) -> str:
    return brief(timedelta(seconds=seconds))


class Filter(StrEnum):
    OPEN = "open"
    FINISHED = "finished"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Listing:
    rows: tuple[RemediationRequest, ...]
    counts: dict[Filter, int]
    waiting: int
    """How many wait for a person's approval."""
    hidden: int
    """How many more there are than are shown."""


def listing(remediations: Sequence[RemediationRequest], which: Filter, query: str) -> Listing:
    """Choose the rows: by state, and by text in name, signal or target."""
    unfinished = [r for r in remediations if not phase_of(r).terminal]
    finished = [r for r in remediations if phase_of(r).terminal]
    chosen = {Filter.OPEN: unfinished, Filter.FINISHED: finished, Filter.ALL: list(remediations)}[which]
    wanted = query.strip().lower()
    if wanted:
        chosen = [r for r in chosen if wanted in f"{r.name} {r.spec.signal_name} {r.spec.target_resource}".lower()]
    return Listing(
        rows=tuple(chosen[:MAX_ROWS]),
        counts={Filter.OPEN: len(unfinished), Filter.FINISHED: len(finished), Filter.ALL: len(remediations)},
        waiting=sum(phase_of(r) is RemediationPhase.AWAITING_APPROVAL for r in unfinished),
        hidden=max(0, len(chosen) - MAX_ROWS),
    )


@dataclass(frozen=True, slots=True)
class Approval:
    """An approval request as a person sees it. ``open``: a decision still counts."""

    request: RemediationApprovalRequest
    open: bool
    decision: str
    expired: bool


def approval(incident: Incident, now: datetime) -> Approval | None:
    """Return the newest approval request of the incident, if there is any."""
    if not incident.approvals:
        return None
    request = incident.approvals[-1]
    decision = request.status.sealed_decision or request.status.decision
    expired = request.status.expired or now >= request.spec.required_by
    return Approval(request, open=not decision and not expired, decision=decision, expired=expired and not decision)
