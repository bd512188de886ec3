"""Occurrence arithmetic: tallies of any replicas, folded in any order, give one status."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.crds.enums import StormType
from kubernaut_ray.crds.remediation_request import Deduplication, RemediationRequestStatus, Storm
from kubernaut_ray.kube import patch
from serve_apps.gateway.tally import (
    MAX_MEMBERS,
    MAX_SYMPTOMS,
    MemberKey,
    Recorded,
    Seen,
    SymptomKey,
    Tally,
    join_storms,
    record,
    recount,
    unlisted,
)
from tests.build import NOW, later

WEB: SymptomKey = ("HighMemory", "shop/pod/web-1")
API: SymptomKey = ("CrashLoop", "shop/pod/web-2")


def fired(key: SymptomKey = WEB, at: float = 0, count: int = 1) -> Tally:
    seen = Seen(count, later(at), later(at))
    return Tally(seen=seen, duplicates=count, symptoms={key: seen})


def over(key: SymptomKey = WEB, at: float = 0) -> Tally:
    return Tally(resolved={key: later(at)}, source="alertmanager")


def both(*tallies: Tally) -> Tally:
    total = Tally()
    for tally in tallies:
        total.add(tally)
    return total


def after(*tallies: Tally) -> Recorded:
    recorded = Recorded()
    for tally in tallies:
        recorded = record(recorded, tally)
    return recorded


def test_the_first_and_the_following() -> None:
    """The first occurrence opens the count; each symptom is kept with its own."""
    recorded = after(fired(WEB), fired(API, 5), fired(WEB, 9)).deduplication
    assert recorded is not None
    assert (recorded.occurrence_count, recorded.first_seen_at, recorded.last_seen_at) == (3, NOW, later(9))
    assert [(s.signal_name, s.occurrence_count) for s in recorded.symptoms] == [("HighMemory", 2), ("CrashLoop", 1)]


def test_over_when_every_symptom_is() -> None:
    """One of two symptoms gone is no resolution; the second makes it one, and a new firing undoes it."""
    two = (fired(WEB), fired(API))
    assert after(*two, over(WEB, 10)).resolved is None
    resolved = after(*two, over(WEB, 10), over(API, 12)).resolved
    assert resolved is not None
    assert (resolved.resolved_at, resolved.source) == (later(12), "alertmanager")
    again = after(*two, over(WEB, 10), over(API, 12), fired(WEB, 20))
    assert again.resolved is None
    assert again.deduplication is not None
    assert [s.resolved_at for s in again.deduplication.symptoms] == [None, later(12)]


def test_a_symptom_in_the_spec_counts_before_it_is_on_record() -> None:
    """The count of the signal that opened the request may be lost or late; another one that is over says nothing of it."""
    assert record(Recorded(), over(API, 10), WEB).resolved is None
    assert record(after(fired(API)), over(API, 10), WEB).resolved is None
    assert record(Recorded(), over(WEB, 10), WEB).resolved is not None
    assert record(after(fired(WEB)), over(WEB, 10), WEB).resolved is not None


def test_a_late_flush_of_an_early_firing_does_not_undo_a_resolution() -> None:
    """Another replica may write what it saw before the resolution only afterwards."""
    recorded = after(fired(WEB), over(WEB, 10), fired(WEB, 5))
    assert recorded.resolved is not None
    assert recorded.deduplication is not None
    assert recorded.deduplication.occurrence_count == 2


def test_symptoms_are_bounded_and_then_never_all_over() -> None:
    """Past the limit the count goes on, and nobody claims that symptoms which are not listed are over."""
    many = [(f"Alert{i}", "x") for i in range(MAX_SYMPTOMS + 5)]
    recorded = after(*(fired(key) for key in many), *(over(key, 10) for key in many))
    assert recorded.deduplication is not None
    assert recorded.deduplication.occurrence_count == MAX_SYMPTOMS + 5
    assert len(recorded.deduplication.symptoms) == MAX_SYMPTOMS
    assert recorded.resolved is None


def storm(count: int, *affected: str, at: float = 0) -> Tally:
    found = Storm(
        storm_type=StormType.RATE, window="1m", alert_count=count, affected_resources=affected, detected_at=later(at)
    )
    return Tally(storm=found)


def test_storms_join() -> None:
    """A storm keeps its beginning and its greatest size, and names all that it hit."""
    joined = after(storm(20, "a", at=5), storm(12, "b", at=9)).storm
    assert joined is not None
    assert (joined.alert_count, joined.affected_resources, joined.detected_at) == (20, ("a", "b"), later(5))


keys = st.sampled_from([WEB, API, ("Third", "")])
tallies = st.one_of(
    st.builds(fired, keys, st.integers(0, 60), st.integers(1, 5)),
    st.builds(over, keys, st.integers(0, 60)),
    st.builds(both, st.builds(fired, keys, st.integers(0, 60)), st.builds(over, keys, st.integers(0, 60))),
)


@given(st.lists(tallies, min_size=1, max_size=8), st.randoms(use_true_random=False), st.data())
def test_order_and_grouping_do_not_change_the_counts(folded: list[Tally], random: object, data: st.DataObject) -> None:
    """Counts and extremes are the same whichever replica flushes first, and however tallies were summed before."""
    shuffled = data.draw(st.permutations(folded))
    one, other = after(*folded).deduplication, after(*shuffled).deduplication
    summed = after(both(*folded)).deduplication
    if one is None or other is None or summed is None:
        assert one is other is summed is None
        return
    for recorded in (other, summed):
        assert recorded.occurrence_count == one.occurrence_count
        assert (recorded.first_seen_at, recorded.last_seen_at) == (one.first_seen_at, one.last_seen_at)
        counts = {(s.signal_name, s.resource): s.occurrence_count for s in recorded.symptoms}
        assert counts == {(s.signal_name, s.resource): s.occurrence_count for s in one.symptoms}
    assert one.occurrence_count == sum(t.seen.count for t in folded if t.seen)
    assert one.last_seen_at - one.first_seen_at <= timedelta(seconds=60)


def folded_in(signal: str, resource: str, target: str = "shop/Deployment/web", at: float = 0) -> Tally:
    seen = Seen(1, later(at), later(at))
    return Tally(seen=seen, members={(signal, resource, target): seen})


def test_members_are_listed_once_each_with_their_signals() -> None:
    """A resource that was folded in is one member, whatever number of signals fire on it and however often."""
    tallies = (
        folded_in("Down", "pod-1"),
        folded_in("Slow", "pod-1", at=1),
        folded_in("Down", "pod-2"),
        folded_in("Down", "pod-1"),
    )
    members = after(*tallies).members
    assert [(m.resource, m.signals, m.first_seen_at) for m in members] == [
        ("pod-1", ("Down", "Slow"), NOW),
        ("pod-2", ("Down",), NOW),
    ]


def test_an_incident_with_members_is_over_when_they_are() -> None:
    """The last member's resolution resolves the incident; one that fires again undoes it."""
    open_ = (folded_in("Down", "pod-1"), folded_in("Down", "pod-2"))
    one_left = after(*open_, over(("Down", "pod-1"), 10))
    assert (one_left.resolved, one_left.members[0].over) == (None, ("Down",))
    ended = after(*open_, over(("Down", "pod-1"), 10), over(("Down", "pod-2"), 12))
    assert ended.resolved is not None
    again = record(ended, folded_in("Down", "pod-1", at=20))
    assert (again.resolved, again.members[0].signals, again.members[0].over) == (None, ("Down",), ())


def test_an_ended_incident_takes_no_member_in() -> None:
    """Nobody would look after it."""
    assert record(Recorded(), folded_in("Down", "pod-1"), admits=False).members == ()


def test_members_are_bounded() -> None:
    """A full incident lists no more, which its gateway sees and opens another."""
    many = both(*(folded_in("Down", f"pod-{i}") for i in range(MAX_MEMBERS + 3)))
    assert len(after(many).members) == MAX_MEMBERS


@given(st.permutations([0, 1, 2, 3]))
def test_counting_in_any_order_of_receipt(instants: list[int]) -> None:
    """What was received first may be counted last; first and last are the extremes all the same."""
    tally = Tally()
    for at in instants:
        tally.count(1, later(at), "alertmanager", duplicates=1)
        tally.symptom(WEB, later(at))
        tally.member((*WEB, "shop/deployment/web"), later(at))
        tally.over(API, later(at))
    for seen in (tally.seen, tally.symptoms[WEB], tally.members[*WEB, "shop/deployment/web"]):
        assert seen is not None
        assert (seen.count, seen.first, seen.last) == (4, later(0), later(3))
    assert tally.resolved == {API: later(3)}


def test_an_anchor_stays_one() -> None:
    """A pattern storm whose own signal then comes often is still a pattern storm; the other way round it becomes one."""
    pattern = Storm(storm_type=StormType.PATTERN, window="2m", alert_count=9, detected_at=NOW)
    rate = Storm(storm_type=StormType.RATE, window="1m", alert_count=20, detected_at=later(5))
    for one, other in ((pattern, rate), (rate, pattern)):
        joined = join_storms(one, other)
        assert joined is not None
        assert (joined.storm_type, joined.window, joined.alert_count) == ("pattern", "2m", 20)
        assert joined.detected_at == NOW


def test_a_storm_is_as_large_as_what_is_listed() -> None:
    """However few the counter knew of when it began."""
    mark = Storm(storm_type=StormType.PATTERN, window="2m", alert_count=2, detected_at=NOW)
    tally = Tally(members={("A", f"r{n}", f"t{n}"): Seen(1, NOW, NOW) for n in range(30)}, storm=mark)
    storm = record(Recorded(), tally).storm
    assert storm is not None
    assert storm.alert_count == 31


def test_members_that_are_not_listed_are_not_counted() -> None:
    """Who is turned away is somebody else's to count."""
    keys: list[MemberKey] = [("A", f"r{n}", f"t{n}") for n in range(5)]
    tally = Tally()
    for n, key in enumerate(keys):
        for _ in range(n + 1):
            tally.count(1, NOW, "alertmanager", duplicates=1)
            tally.member(key, NOW)
    listed = record(Recorded(), Tally(members={key: Seen(1, NOW, NOW) for key in keys[:2]}))
    assert unlisted(listed, tally) == keys[2:]
    tally.drop(keys[2:])
    assert tally.seen is not None
    assert (tally.seen.count, tally.duplicates, list(tally.members)) == (3, 3, keys[:2])
    tally.drop(keys[:2])
    assert tally == Tally(source="alertmanager")


def test_a_member_that_ended_at_once_is_listed() -> None:
    """One that fires and is over in one write was taken in."""
    key: MemberKey = ("A", "r", "t")
    tally = Tally(members={key: Seen(1, NOW, NOW)}, resolved={("A", "r"): later(1)})
    assert unlisted(record(Recorded(), tally), tally) == []


def status_of(recorded: Recorded) -> dict[str, Any]:
    status = RemediationRequestStatus(
        deduplication=recorded.deduplication,
        resolved=recorded.resolved,
        storm=recorded.storm,
        members=recorded.members,
    )
    return status.to_object()


SEEN = st.builds(
    lambda count, at, longer: Seen(count, later(at), later(at + longer)),
    st.integers(1, 5),
    st.floats(-5, 30, allow_nan=False),
    st.floats(0, 9, allow_nan=False),
)
KEYS = st.sampled_from([WEB, API, ("Third", "shop/pod/web-3")])
TALLIES = st.builds(
    lambda seen, symptoms, resolved: Tally(seen=seen, duplicates=1, symptoms=symptoms, resolved=resolved),
    st.none() | SEEN,
    st.dictionaries(KEYS, SEEN),
    st.just({}) | st.dictionaries(KEYS, st.integers(0, 60).map(later), max_size=1),
)


@given(st.lists(TALLIES, max_size=3), TALLIES)
def test_the_quick_recount_is_the_thorough_one(before: list[Tally], tally: Tally) -> None:
    """Where the status can be brought up to date without reading it whole, it says what it would say otherwise."""
    old = after(*before)
    status = status_of(old)
    change = recount(status, tally)
    if change is not None:
        assert patch.apply(change, status) == status_of(record(old, tally))


def test_repeats_are_recounted_quickly() -> None:
    """The plain repeat of what is listed is that case; nothing new, over or odd is."""
    listed = after(fired(WEB), fired(API))
    assert recount(status_of(listed), fired(WEB, 9)) is not None
    for tally in (
        fired(("New", "r")),
        over(WEB, 9),
        Tally(),
        Tally(seen=Seen(1, NOW, NOW), members={("A", "r", "t"): Seen(1, NOW, NOW)}),
    ):
        assert recount(status_of(listed), tally) is None
    ended = record(listed, both(over(WEB, 5), over(API, 5)))
    assert recount(status_of(ended), fired(WEB, 9)) is None
    for odd in ({}, {"deduplication": 5}, {"deduplication": {"symptoms": [5]}}, {"deduplication": {"symptoms": [{}]}}):
        assert recount(odd, fired(WEB)) is None
    nonsense = status_of(listed)
    nonsense["deduplication"]["occurrenceCount"] = -3
    assert recount(nonsense, fired(WEB, 9)) is None
    assert Deduplication.model_validate(status_of(listed)["deduplication"]) == listed.deduplication
