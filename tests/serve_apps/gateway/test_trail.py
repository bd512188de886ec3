"""The trail: duplicates are told with their counts, once, and not for every flush of a storm."""

from __future__ import annotations

from serve_apps.gateway.occurrences import Address
from serve_apps.gateway.tally import Seen, Tally
from serve_apps.gateway.trail import TELL_SECONDS, Trail
from tests.build import NOW, later
from tests.serve_apps.gateway.world import Facts

REQUEST = Address("rr-1", "uid-1")


def repeated(times: int, at: float) -> Tally:
    tally = Tally()
    tally.count(times, later(at), "alertmanager", duplicates=times)
    tally.symptom(("Down", "web"), later(at))
    return tally


async def test_duplicates_of_a_storm_are_told_now_and_then() -> None:
    """The first at once, the others together after ten seconds, what is left at the end; every one of them once."""
    facts, monotonic = Facts(), [100.0]
    trail = Trail(facts, lambda: NOW, namespace="kubernaut-system", monotonic=lambda: monotonic[0])
    await trail.flushed(REQUEST, repeated(1, 0))
    for second in range(1, 6):
        await trail.flushed(REQUEST, repeated(3, second))
        await trail.tick()
    assert [event.event_data["occurrences"] for event in facts.events] == [1]

    monotonic[0] += TELL_SECONDS
    await trail.tick()
    await trail.flushed(REQUEST, repeated(2, 11))
    assert [event.event_data["occurrences"] for event in facts.events] == [1, 15]
    told = facts.events[1].event_data
    assert (told["first_seen"], told["last_seen"]) == (later(1).isoformat(), later(5).isoformat())
    assert told["signal_names"] == ["Down"]

    await trail.end()
    await trail.end()
    assert [event.event_data["occurrences"] for event in facts.events] == [1, 15, 2]
    assert len({event.event_id for event in facts.events}) == 3


async def test_after_a_quiet_while_the_next_is_told_at_once() -> None:
    """Nothing is remembered of requests that nobody repeats any more."""
    facts, monotonic = Facts(), [100.0]
    trail = Trail(facts, lambda: NOW, namespace="kubernaut-system", monotonic=lambda: monotonic[0])
    await trail.flushed(REQUEST, repeated(1, 0))
    monotonic[0] += TELL_SECONDS
    await trail.tick()
    assert not trail._repeated
    await trail.flushed(REQUEST, repeated(1, 20))
    assert len(facts.events) == 2


async def test_an_end_without_duplicates_is_silent() -> None:
    """A resolution alone is one fact."""
    facts = Facts()
    trail = Trail(facts, lambda: NOW, namespace="kubernaut-system")
    await trail.flushed(REQUEST, Tally(resolved={("Down", "web"): NOW}, seen=Seen(0, NOW, NOW)))
    await trail.end()
    assert facts.types() == ["gateway.signal.resolved"]
