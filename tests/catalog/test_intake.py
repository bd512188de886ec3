"""The fast way in: what it takes the contract takes, and what comes out is what the contract's models give."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from catalog import intake
from catalog.events import columns, pack, unpack
from kubernaut_ray.contracts.audit import AuditBatch
from kubernaut_ray.crds.enums import AuditCategory, AuditOutcome
from kubernaut_ray.errors import InvalidInput
from tests import build

TEXT = st.text(max_size=12)
SCALARS = (
    st.none()
    | st.booleans()
    | TEXT
    | st.integers()
    | st.integers(-(2**63), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
DIGITS = st.sampled_from("0123456789abcdef")
IDS = st.uuids().map(str)
INSTANTS = st.datetimes(min_value=build.NOW.replace(tzinfo=None, year=2000), max_value=build.NOW.replace(tzinfo=None))

SOUND = {
    "event_id": IDS,
    "event_type": st.from_regex(r"[a-z0-9_]{1,5}(\.[a-z0-9_]{1,5}){1,3}", fullmatch=True),
    "event_timestamp": INSTANTS.map(lambda at: at.isoformat(timespec="microseconds") + "Z"),
    "event_category": st.sampled_from([one.value for one in AuditCategory]),
    "event_action": st.text(max_size=50),
    "event_outcome": st.sampled_from([one.value for one in AuditOutcome]),
    "correlation_id": st.text(min_size=1, max_size=255),
}
ALSO = {
    "event_data": st.dictionaries(TEXT, VALUES, max_size=4),
    "actor_type": st.text(max_size=50),
    "actor_id": TEXT,
    "resource_type": TEXT,
    "resource_id": TEXT,
    "parent_event_id": st.none() | TEXT,
    "namespace": TEXT,
    "cluster_name": TEXT,
    "severity": st.text(max_size=20),
    "duration_ms": st.none() | st.integers(0, 2**70),
    "version": TEXT,
    "unheard_of": VALUES,
}
ODD: dict[str, st.SearchStrategy[Any]] = {
    "event_id": IDS.map(str.upper) | IDS.map(lambda one: one + "\n") | TEXT | st.just("a\n" * 18),
    "event_type": st.sampled_from(["a", "a.", "A.b", "a.b\n", "a.b ", "a" * 99 + ".b", "ä.b"]),
    "event_timestamp": st.sampled_from(
        [
            "2026-02-30T00:00:00.000000Z", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000000+02:00", "2026-01-01",
            "2026-01-01T24:00:00.000000Z", "2026-01-01T00:00:60.000000Z", "2026-01-01T00:00:00.000000Z\n", 1767225600,
            "2026-01-01t00:00:00.000000z", "٢026-01-01T00:00:00.000000Z", "2026-01-01T00:00:00.000000",
        ]
    ),
    "event_category": st.sampled_from(["Gateway", "", 1]),
    "event_action": st.text(min_size=51, max_size=60) | st.integers(),
    "event_outcome": st.just("SUCCESS"),
    "correlation_id": st.sampled_from(["", "x" * 256, None]),
    "event_data": st.sampled_from([None, [], "x"]),
    "duration_ms": st.sampled_from([-1, 1.0, 1.5, "7", True, 1e3]),
    "actor_id": st.sampled_from(["x" * 256, None, 3]),
    "severity": st.sampled_from(["x" * 21, None]),
}  # fmt: skip
EVENTS = st.fixed_dictionaries(SOUND, optional=ALSO)


@st.composite
def batches(draw: st.DrawFn) -> bytes:
    """Batches that are sound, or have one thing about them that is not usual."""
    events = draw(st.lists(EVENTS, min_size=1, max_size=4))
    if draw(st.booleans()):
        name = draw(st.sampled_from(sorted(ODD)))
        draw(st.sampled_from(events))[name] = draw(ODD[name])
    if draw(st.booleans()):
        draw(st.sampled_from(events)).pop(draw(st.sampled_from(sorted(SOUND))))
    return json.dumps({"events": events}, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")


@given(batches())
def test_it_takes_and_makes_what_the_contract_does(batch: bytes) -> None:
    """Either the very columns of the parsed batch, or no answer; never anything for a batch that is refused."""
    told = intake.read(batch)
    try:
        wanted = columns(AuditBatch.model_validate_json(batch).events)
    except (ValidationError, InvalidInput):
        assert told is None
        return
    assert told in (None, wanted)


@given(st.lists(st.fixed_dictionaries(SOUND, optional={"event_data": ALSO["event_data"]}), min_size=1, max_size=3))
def test_whatever_is_sound_is_taken(events: list[dict[str, Any]]) -> None:
    """An event is not sent the long way because another one cannot take the short one."""
    batch = json.dumps({"events": events}).encode()
    assert intake.read(batch) == columns(AuditBatch.model_validate_json(batch).events)


@pytest.mark.parametrize(
    "batch",
    [b"", b"[]", b"{}", b'{"events":[]}', b'{"events":[{}]}', b'{"events":[1]}', b'{"events":null}', b'{"events":[}'],
)
def test_what_is_no_batch(batch: bytes) -> None:
    """There is no answer to it."""
    assert intake.read(batch) is None


def test_too_many() -> None:
    """The contract's limit is this one's."""
    event = build.audit_event().model_dump_json()
    batch = f'{{"events":[{",".join([event] * 10_001)}]}}'.encode()
    assert intake.read(batch) is None


def test_crossing() -> None:
    """Columns come out of the bytes in which they cross as they were; other bytes are refused."""
    told = columns([build.audit_event(n, correlation_id="ä") for n in range(3)])
    assert unpack(pack(told)) == told
    with pytest.raises(InvalidInput):
        unpack(b'{"event_id":[]}')
