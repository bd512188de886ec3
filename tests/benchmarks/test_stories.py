"""The events that a benchmark tells: the contract takes them, each is another, and each can be looked for by its number."""

from __future__ import annotations

import orjson

from benchmarks._stories import LENGTH, ROUND, Stories
from catalog import intake
from catalog.events import columns
from kubernaut_ray.contracts.audit import AuditBatch
from tests import build


def test_a_round_of_incidents() -> None:
    """As long as they say, of many types, and found again under their ids and names."""
    stories = Stories(3)
    batch = stories.batch(0, ROUND, build.NOW)
    events = AuditBatch.model_validate_json(batch).events
    assert [stories.event_id(n) for n in range(ROUND)] == [event.event_id for event in events]
    assert [stories.correlation(n) for n in range(ROUND)] == [event.correlation_id for event in events]
    names = [event.correlation_id for event in events]
    assert {names.count(name) for name in set(names)} == {LENGTH}
    assert len({event.event_type for event in events}) > 5
    assert {build.NOW} == {event.event_timestamp for event in events}
    assert intake.read(batch) == columns(events)


def test_no_event_is_told_twice() -> None:
    """Not by one teller, and not by two."""
    ids = [
        event["event_id"]
        for who in (1, 2)
        for first in (0, 1000)
        for event in orjson.loads(Stories(who).batch(first, 1000, build.NOW))["events"]
    ]
    assert len(ids) == len(set(ids)) == 4000
