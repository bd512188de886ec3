"""The phases that an incident went through, the pauses in it, and how it ended, from the orchestrator's facts."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile

from catalog.account.facts import Fact, between, first, of
from kubernaut_ray.contracts.timeline import Ending, Pause, PhaseSpan
from kubernaut_ray.crds.enums import RemediationPhase

TRANSITION = "orchestrator.phase.transitioned"
BLOCKED = "orchestrator.routing.blocked"
ENDED = "orchestrator.lifecycle.completed"
REVIEW = "orchestrator.remediation.manual_review"
TERMINAL = frozenset(str(phase) for phase in RemediationPhase if phase.terminal)
RECOVERY = "RecoveryStarted"


@dataclass(frozen=True, slots=True)
class Move:
    """One transition. ``attempt`` is the one under way after it."""

    at: datetime
    old: str
    new: str
    reason: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Walk:
    moves: tuple[Move, ...]
    phases: tuple[PhaseSpan, ...]
    broken: tuple[tuple[Move, str], ...]
    """Moves that begin elsewhere than the one before ended, with the phase it was in."""
    superseded: tuple[Move, ...]
    """Moves that were told and not made: facts are told before the status is written, and another move began there."""


def walk(facts: Sequence[Fact]) -> Walk:
    moves: list[Move] = []
    spans: list[PhaseSpan] = []
    broken: list[tuple[Move, str]] = []
    superseded: list[Move] = []
    attempt, current = 0, ""
    for fact in _chained(of(facts, TRANSITION)):
        data = fact.data
        told = data.number("attempt")
        attempt = attempt if told is None else int(max(0, told))
        attempt += data.text("reason") == RECOVERY
        # No earlier than the one before: clocks differ.
        at = max(fact.at, moves[-1].at) if moves else fact.at
        move = Move(at, data.text("from_phase"), data.text("to_phase"), data.text("reason"), attempt)
        while moves and current != move.old and moves[-1].old == move.old:
            superseded.append(moves.pop())
            spans.pop()
            current = move.old
        if spans and spans[-1].phase == move.old:
            seconds = between(spans[-1].entered, move.at)
            spans[-1] = spans[-1].model_copy(update={"left": move.at, "seconds": seconds})
        if move.old != current:
            broken.append((move, current))
        moves.append(move)
        span = PhaseSpan(
            phase=move.new, entered=move.at, reason=move.reason, message=data.text("message"), attempt=attempt
        )
        spans.append(span)
        current = move.new
    return Walk(tuple(moves), tuple(spans), tuple(broken), tuple(superseded))


def _chained(transitions: Sequence[Fact]) -> list[Fact]:
    """Put transitions of one instant in the order in which each begins where the one before ended.

    So is one that was told too late: what two owners in turn have told of one transition is stored once, and may be the later
    one's, which bears the later time. One that begins where the one before began is another matter: that was not made.
    """
    chained: list[Fact] = []
    left, before, current = deque(transitions), None, ""
    while left:
        alike = takewhile(lambda fact: fact.at == left[0].at, left)
        index = next((i for i, fact in enumerate(alike) if _ways(fact)[0] == current), None)
        if index is None:
            index = 0 if _ways(left[0])[0] == before else _detour(left, current)
        before, current = _ways(left[index])
        chained.append(left[index])
        del left[index]
    return chained


def _detour(left: Sequence[Fact], here: str) -> int:
    """Return the first of those of the same attempt that lead from here to where the next one begins, or the next one itself."""
    wanted, attempt = _ways(left[0])[0], left[0].data.number("attempt")
    later = [i for i, fact in enumerate(left) if i and fact.data.number("attempt") == attempt]
    taken: list[int] = []
    while here != wanted:
        place = next((i for i in later if i not in taken and _ways(left[i])[0] == here), None)
        if place is None:
            return 0
        taken.append(place)
        here = _ways(left[place])[1]
    return taken[0] if taken else 0


def _ways(transition: Fact) -> tuple[str, str]:
    return transition.data.text("from_phase"), transition.data.text("to_phase")


def pauses(facts: Sequence[Fact], moves: Sequence[Move]) -> tuple[Pause, ...]:
    """Return every reason for which the incident waited; a reason that changed while it waited begins a new pause."""
    blocks = of(facts, BLOCKED)
    made: list[Pause] = []
    for index, fact in enumerate(blocks):
        ends = [move.at for move in moves if move.old == RemediationPhase.BLOCKED and move.at >= fact.at]
        ends += [later.at for later in blocks[index + 1 : index + 2]]
        data = fact.data
        made.append(
            Pause(
                reason=data.text("reason"),
                message=data.text("message"),
                since=fact.at,
                until=min(ends, default=None),
                duplicate_of=data.text("duplicate_of"),
                execution=data.text("blocking_execution"),
            )
        )
    return tuple(made)


def ending(facts: Sequence[Fact], moves: Sequence[Move]) -> Ending | None:
    """Return the end: of several that were told, the one that the last move led to."""
    told = of(facts, ENDED)
    if not told:
        return None
    phase = moves[-1].new if moves else ""
    fact = next((one for one in reversed(told) if one.data.text("phase") == phase), told[-1])
    review = first(facts, REVIEW)
    seconds = fact.data.number("duration_seconds")
    return Ending(
        phase=fact.data.text("phase"),
        outcome=fact.data.text("outcome_of_remediation"),
        reason=fact.data.text("reason"),
        message=fact.data.text("message"),
        at=fact.at,
        seconds=None if seconds is None else max(0.0, seconds),
        manual_review=review.data.text("reason") if review else "",
    )
