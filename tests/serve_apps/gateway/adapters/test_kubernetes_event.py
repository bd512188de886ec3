"""Kubernetes events: warnings are signals about what they regard, everything else asks for nothing."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.errors import InvalidInput
from serve_apps.gateway import fingerprint
from serve_apps.gateway.adapters.kubernetes_event import KubernetesEvent
from serve_apps.gateway.signal import Delivery, Ignored, Malformed, Signal
from tests.build import NOW

POD = {"kind": "Pod", "name": "web-1", "namespace": "shop", "apiVersion": "v1", "fieldPath": "spec.containers{web}"}


def event(**fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "type": "Warning",
        "reason": "BackOff",
        "message": "Back-off restarting failed container",
        "involvedObject": POD,
        "source": {"component": "kubelet"},
        "lastTimestamp": "2026-03-01T11:58:00Z",
    } | fields


def parse(value: Any) -> Signal | Malformed | Ignored:
    (entry,) = KubernetesEvent().parse(Delivery(json.dumps(value).encode(), {}, NOW))
    return entry


def test_a_warning_becomes_a_signal_about_what_it_regards() -> None:
    """The involved object, the component and the time of the last occurrence come over."""
    signal = parse(event())

    assert isinstance(signal, Signal)
    assert str(signal.involved) == "shop/pod/web-1"
    assert (signal.name, signal.labels["component"]) == ("BackOff", "kubelet")
    assert signal.firing_time.minute == 58
    assert signal.provider_data == {"fieldPath": "spec.containers{web}"}


@pytest.mark.parametrize(
    ("fields", "severity"),
    [
        pytest.param({"reason": "BackOff"}, "warning", id="ordinary warning"),
        pytest.param({"reason": "FailedScheduling"}, "critical", id="a grave reason"),
        pytest.param({"type": "Error"}, "critical", id="type Error"),
    ],
)
def test_severity(fields: dict[str, str], severity: str) -> None:
    """Grave reasons and errors are critical, other warnings are warnings."""
    signal = parse(event(**fields))
    assert isinstance(signal, Signal)
    assert signal.severity == severity


def test_the_newer_api_is_read_too() -> None:
    """``events.k8s.io/v1`` says regarding, note and eventTime."""
    newer = {
        "type": "Warning",
        "reason": "NodeNotReady",
        "regarding": {"kind": "Node", "name": "n1"},
        "note": "gone",
        "eventTime": "2026-03-01T11:57:00.000001Z",
        "reportingController": "node-controller",
    }
    signal = parse(newer)

    assert isinstance(signal, Signal)
    assert (str(signal.involved), signal.description, signal.firing_time.minute) == ("node/n1", "gone", 57)


def test_two_objects_of_an_unknown_kind_are_two() -> None:
    """Where the kind is not known to the API server, the labels still tell one object from another."""
    events = [parse(event(involvedObject={"kind": "Widget", "name": name, "namespace": "shop"})) for name in "ab"]
    identities = {fingerprint.of_nameless(e.name, e.labels) for e in events if isinstance(e, Signal)}
    assert len(identities) == 2


def test_normal_events_ask_for_nothing() -> None:
    """A Normal event is well-formed and no signal."""
    assert isinstance(parse(event(type="Normal", reason="Pulled")), Ignored)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        pytest.param({"type": None}, "type", id="no type"),
        pytest.param({"reason": ""}, "reason", id="no reason"),
        pytest.param({"involvedObject": None}, "involvedObject", id="regards nothing"),
        pytest.param({"involvedObject": {"kind": "Pod"}}, "involvedObject.name", id="no name"),
        pytest.param({"involvedObject": {"name": "x", "kind": 7}}, "involvedObject.kind", id="kind is a number"),
    ],
)
def test_malformed_events_say_where(fields: dict[str, Any], path: str) -> None:
    """Every missing part is named by its path."""
    entry = parse(event(**fields))
    assert isinstance(entry, Malformed)
    assert path in [p for p, _ in entry.problems]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(event()) + list(POD)), inner),
    max_leaves=10,
)


@given(json_values)
def test_no_json_crashes_the_parser(value: Any) -> None:
    """Any JSON is refused with a reason or read."""
    with contextlib.suppress(InvalidInput):
        parse(value)
