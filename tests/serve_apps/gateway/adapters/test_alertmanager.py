"""Alertmanager's webhook: every alert of a group on its own, and every way in which one can be wrong."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.errors import InvalidInput
from serve_apps.gateway.adapters.alertmanager import Alertmanager
from serve_apps.gateway.signal import Delivery, Ignored, Malformed, Signal
from tests.build import NOW


def alert(**fields: Any) -> dict[str, Any]:
    return {
        "status": "firing",
        "labels": {"alertname": "HighMemory", "namespace": "shop", "severity": "page"},
        "annotations": {"summary": "memory is high"},
        "startsAt": "2026-03-01T11:59:00.123456789Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/graph",
        "fingerprint": "d2d12a2f",
    } | fields


def webhook(*alerts: Any, **fields: Any) -> bytes:
    group = {"version": "4", "groupKey": "{}:{}", "status": "firing", "receiver": "kubernaut", "alerts": list(alerts)}
    return json.dumps(group | fields).encode()


def parse(body: bytes) -> tuple[Signal | Malformed | Ignored, ...]:
    return Alertmanager().parse(Delivery(body, {}, NOW))


def one(body: bytes) -> Signal:
    (signal,) = parse(body)
    assert isinstance(signal, Signal), signal
    return signal


def test_an_alert_becomes_a_signal() -> None:
    """Labels, raw severity, description and times come over; nanoseconds are understood."""
    signal = one(webhook(alert()))

    assert (signal.name, signal.severity, signal.description) == ("HighMemory", "page", "memory is high")
    assert signal.firing_time.isoformat() == "2026-03-01T11:59:00.123456+00:00"
    assert signal.received_time == NOW
    assert not signal.resolved
    assert signal.provider_data == {
        "receiver": "kubernaut",
        "groupKey": "{}:{}",
        "generatorURL": "http://prometheus/graph",
        "fingerprint": "d2d12a2f",
    }


def test_common_labels_are_under_the_alert_s_own() -> None:
    """The alert wins over its group, label by label."""
    signal = one(
        webhook(
            alert(labels={"alertname": "A", "pod": "own"}, annotations={}),
            commonLabels={"pod": "common", "team": "x"},
            commonAnnotations={"description": "from the group"},
        )
    )

    assert signal.labels == {"alertname": "A", "pod": "own", "team": "x"}
    assert signal.description == "from the group"


@pytest.mark.parametrize(
    ("group", "own", "resolved"),
    [
        pytest.param("firing", "firing", False, id="both fire"),
        pytest.param("firing", "resolved", True, id="resolved inside a firing group"),
        pytest.param("resolved", "firing", False, id="the alert's own status wins"),
        pytest.param("resolved", None, True, id="no own status: the group's"),
        pytest.param(None, None, False, id="no status at all fires"),
    ],
)
def test_resolved_is_told_per_alert(group: str | None, own: str | None, resolved: bool) -> None:
    """An alert's own status decides; the group's only stands in."""
    assert one(webhook(alert(status=own), status=group)).resolved is resolved


@pytest.mark.parametrize(
    ("bad", "path"),
    [
        pytest.param("text", "alerts[1]", id="not an object"),
        pytest.param(alert(labels={"namespace": "x"}), "alerts[1].labels.alertname", id="no name"),
        pytest.param(alert(labels=[1]), "alerts[1].labels", id="labels are a list"),
        pytest.param(alert(labels={"alertname": 3}), "alerts[1].labels.alertname", id="name is a number"),
        pytest.param(alert(startsAt="yesterday"), "alerts[1].startsAt", id="no time"),
        pytest.param(alert(startsAt=5), "alerts[1].startsAt", id="time is a number"),
        pytest.param(alert(status="odd"), "alerts[1].status", id="unknown status"),
        pytest.param(alert(status=["firing"]), "alerts[1].status", id="status is a list"),
    ],
)
def test_one_bad_alert_leaves_the_others(bad: Any, path: str) -> None:
    """A malformed alert says where and why; the alerts around it are signals."""
    first, second, third = parse(webhook(alert(), bad, alert()))

    assert isinstance(first, Signal)
    assert isinstance(third, Signal)
    assert isinstance(second, Malformed)
    assert path in [p for p, _ in second.problems]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"{}", id="no alerts"),
        pytest.param(b'{"alerts": []}', id="empty alerts"),
        pytest.param(b'{"alerts": {}}', id="alerts is an object"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(b'{"alerts": [' + b"[" * 5000 + b"]" * 5000 + b"]}", id="deeply nested"),
    ],
)
def test_an_unreadable_payload_is_invalid(body: bytes) -> None:
    """What is no webhook at all is refused, or its single entry is malformed."""
    try:
        entries = parse(body)
    except InvalidInput:
        return
    assert all(isinstance(entry, Malformed) for entry in entries)


def test_long_text_is_cut_to_what_the_crd_takes() -> None:
    """A huge label value never makes a signal unacceptable."""
    signal = one(webhook(alert(labels={"alertname": "n" * 5000, "severity": "s" * 500, "x": "v" * 9000})))

    assert (len(signal.name), len(signal.severity), len(signal.labels["x"])) == (253, 63, 4096)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
words = st.sampled_from(
    ["status", "labels", "annotations", "startsAt", "alertname", "alerts", "commonLabels", "version"]
)


@given(json_values | st.dictionaries(words, json_values | st.lists(st.dictionaries(words, json_values), max_size=3)))
def test_no_json_crashes_the_parser(value: Any) -> None:
    """Any JSON is either refused with a reason or read entry by entry."""
    with contextlib.suppress(InvalidInput):
        assert parse(json.dumps(value).encode())


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_parser(body: bytes) -> None:
    """Neither does anything that is not JSON."""
    with contextlib.suppress(InvalidInput):
        parse(body)
