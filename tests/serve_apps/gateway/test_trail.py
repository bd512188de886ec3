"""The trail: duplicates are told with their counts, once, and not for every flush of a storm."""

from __future__ import annotations

from kubernaut_ray.crds.remediation_request import Storm
from serve_apps.gateway.occurrences import Address
from serve_apps.gateway.owners import Resolution
from serve_apps.gateway.signal import Signal
from serve_apps.gateway.tally import Seen, Tally
from serve_apps.gateway.trail import TELL_SECONDS, Trail
from tests import build
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


async def test_a_storm_is_told_once() -> None:
    """However often it is seen, and under one id whoever sees it."""
    told = [Facts(), Facts()]
    storm = Storm(storm_type="rate", window="1m", alert_count=12, affected_resources=("shop/pod/a",), detected_at=NOW)
    for facts in told:
        trail = Trail(facts, lambda: NOW, namespace="kubernaut-system")
        for _ in range(3):
            await trail.flushed(REQUEST, Tally(storm=storm))
    assert [facts.types() for facts in told] == [["gateway.storm.detected"]] * 2
    assert told[0].events == told[1].events
    assert told[0].events[0].event_data["alert_count"] == 12


async def test_what_was_created_is_on_record() -> None:
    """The whole spec, less what gives a secret away."""
    facts = Facts()
    trail = Trail(facts, lambda: NOW, namespace="kubernaut-system")
    spec = build.remediation_request(spec={"signal_annotations": {"token": "hunter2", "summary": "down"}}).spec
    signal = Signal(
        name="Down", type="prometheus-alert", source="alertmanager", severity="critical",
        firing_time=NOW, received_time=NOW,
    )  # fmt: skip
    await trail.created(signal, Resolution(build.TARGET), build.FINGERPRINT, REQUEST, spec.to_object())
    made = facts.events[1].event_data
    assert made["spec"] == {
        **spec.to_object(),
        "signalAnnotations": {"token": "[REDACTED]", "summary": "down"},
    }
    assert made["withheld"] == [{"field": "signalAnnotations.token", "why": "redacted"}]


async def test_an_end_without_duplicates_is_silent() -> None:
    """A resolution alone is one fact."""
    facts = Facts()
    trail = Trail(facts, lambda: NOW, namespace="kubernaut-system")
    await trail.flushed(REQUEST, Tally(resolved={("Down", "web"): NOW}, seen=Seen(0, NOW, NOW)))
    await trail.end()
    assert facts.types() == ["gateway.signal.resolved"]
