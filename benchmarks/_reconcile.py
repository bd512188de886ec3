"""What was acknowledged against what exists: pure, and of one mind with neither the sender nor the tool that was sent to.

A *claim* is one alert that the tool said it has; a *thing* is what the tool turns out to hold. A claim without its thing is
lost. Two things about one id at the same time are one too many.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import orjson

ACKNOWLEDGED = frozenset({"created", "duplicate", "accepted"})
"""Outcomes of one alert in an answer that lists them; ``rejected``, ``silenced`` and ``failed`` claim nothing."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An alert about ``id`` was acknowledged ``at`` that Unix second, as part of the thing ``holder`` where the answer named it."""

    id: str
    holder: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that exists about ``id``. Times are Unix seconds; ``created`` ``None`` is not known, ``ended`` ``None`` is open."""

    id: str
    holder: str = ""
    """The name of the object; a member of another has that one's."""
    created: float | None = None
    ended: float | None = None
    member: bool = False
    """Folded into another's object."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``lost`` are claims; ``doubled`` are ids with two things of their own at once; ``twice`` are further ids that were in two
    open objects at once, at least one of which they had been folded into.
    """

    lost: tuple[Claim, ...] = ()
    doubled: tuple[str, ...] = ()
    twice: tuple[str, ...] = ()


def claims(ids: Sequence[str], status: int, answer: str, at: float = 0.0) -> list[Claim]:
    """Read what an answer claims about the alerts of its request.

    An answer that lists an outcome for every alert (``{"results": [{"status": …, "remediationRequestName": …}, …]}``, or one
    such outcome for a single alert) claims those that it lists as taken; any other 2xx claims all of them.
    """
    if not 200 <= status < 300:
        return []
    outcomes = _outcomes(answer, len(ids))
    if outcomes is None:
        return [Claim(one, at=at) for one in ids]
    return [
        Claim(one, str(outcome.get("remediationRequestName") or ""), at)
        for one, outcome in zip(ids, outcomes, strict=True)
        if outcome["status"] in ACKNOWLEDGED
    ]


def _outcomes(answer: str, count: int) -> list[dict[str, object]] | None:
    try:
        body = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return None
    listed = body.get("results", [body]) if isinstance(body, dict) else None
    if not isinstance(listed, list) or len(listed) != count:
        return None
    whole = all(isinstance(o, dict) and isinstance(o.get("status"), str) and "reason" in o for o in listed)
    return listed if whole else None


def reconcile(claimed: Sequence[Claim], things: Iterable[Thing]) -> Verdict:
    """Compare. A claim that names its holder is kept only by a thing of its id in that very holder."""
    of: defaultdict[str, list[Thing]] = defaultdict(list)
    for thing in things:
        of[thing.id].append(thing)
    held = {(thing.id, thing.holder) for found in of.values() for thing in found}
    lost = tuple(c for c in claimed if ((c.id, c.holder) not in held if c.holder else c.id not in of))
    doubled = tuple(sorted(one for one, found in of.items() if _overlap([t for t in found if not t.member])))
    told: dict[tuple[str, str], float] = {}
    for claim in claimed:
        told[claim.id, claim.holder] = min(claim.at, told.get((claim.id, claim.holder), math.inf))
    twice = tuple(sorted(one for one, found in of.items() if one not in doubled and _held_twice(found, told)))
    return Verdict(lost, doubled, twice)


def _held_twice(things: Sequence[Thing], told: Mapping[tuple[str, str], float]) -> bool:
    """Tell whether two objects certainly held the id at once.

    When a member was written down is known only from its first acknowledgement, which came after; ``told`` has it.
    """
    spans = []
    for thing in things:
        since = told.get((thing.id, thing.holder)) if thing.member else (thing.created or 0.0) + 1
        if since is not None:
            spans.append((since, math.inf if thing.ended is None else thing.ended))
    over = -math.inf
    for since, ended in sorted(span for span in spans if span[0] < span[1]):
        if since < over:
            return True
        over = max(over, ended)
    return False


def _overlap(things: Sequence[Thing]) -> bool:
    """Tell whether two were there at once; creation times have whole seconds, so what touches within one does not overlap."""
    known = sorted(
        (t.created, math.inf if t.ended is None else math.floor(t.ended)) for t in things if t.created is not None
    )
    if len(known) < len(things):
        return len(things) > 1
    over = -math.inf
    for created, ended in known:
        if math.floor(created) < over:
            return True
        over = max(over, ended)
    return False


@dataclass(frozen=True, slots=True)
class Uncounted:
    """Acknowledged occurrences missing from the holders' counts, at least: a request that is repeated may be counted twice, which
    hides as many. ``unexplained`` are those that no crash can have taken.
    """

    missing: int = 0
    unexplained: int = 0


def uncounted(
    claimed: Iterable[Claim], counts: Mapping[str, int], crashes: Sequence[tuple[float, float]] = ()
) -> Uncounted:
    """Compare the claims with how often each holder says that it was seen.

    ``crashes`` are spans of time: what was acknowledged in one may have been in the memory of a process that was killed.
    """
    told, excused = Counter[str](), Counter[str]()
    for claim in claimed:
        if claim.holder in counts:
            told[claim.holder] += 1
            excused[claim.holder] += any(begin <= claim.at <= end for begin, end in crashes)
    missing = {holder: max(0, number - counts[holder]) for holder, number in told.items()}
    return Uncounted(sum(missing.values()), sum(max(0, number - excused[holder]) for holder, number in missing.items()))
