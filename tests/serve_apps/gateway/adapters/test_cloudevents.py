"""CloudEvents in all three modes: what is read, what is refused, and what it is about."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.errors import InvalidInput
from serve_apps.gateway import fingerprint, target
from serve_apps.gateway.adapters.cloudevents import BATCH, STRUCTURED, CloudEvents
from serve_apps.gateway.kinds import Kinds
from serve_apps.gateway.signal import Delivery, Ignored, Malformed, Parsed, Signal
from serve_apps.problem import Problem
from tests.build import NOW


def event(**fields: Any) -> dict[str, Any]:
    made = {
        "specversion": "1.0",
        "type": "org.example.probe.failed",
        "source": "https://probes.example.org/eu",
        "subject": "namespaces/shop/pods/web-1",
        "id": "A234-1234-1234",
        "time": "2026-03-01T11:58:00Z",
        "datacontenttype": "application/json",
        "data": {"severity": "critical", "description": "three probes in a row failed", "labels": {"team": "x"}},
    }
    return {k: v for k, v in (made | fields).items() if v is not None}


def structured(value: Any) -> tuple[Parsed, ...]:
    headers = {"content-type": f"{STRUCTURED}; charset=utf-8"}
    return CloudEvents().parse(Delivery(json.dumps(value).encode(), headers, NOW))


def binary(body: bytes = b"", content_type: str = "application/json", **attributes: str) -> Parsed:
    required = {"specversion": "1.0", "type": "t", "source": "/s", "id": "1"}
    headers = {f"ce-{k}": v for k, v in (required | attributes).items()} | {"content-type": content_type}
    (entry,) = CloudEvents().parse(Delivery(body, headers, NOW))
    return entry


def signal(entry: Parsed | tuple[Parsed, ...]) -> Signal:
    if isinstance(entry, tuple):
        (entry,) = entry
    assert isinstance(entry, Signal), entry
    return entry


def test_a_structured_event_becomes_a_signal() -> None:
    """The type is the name, the subject the object, data says the rest; all attributes are kept."""
    one = signal(structured(event(traceparent="00-ab-cd-01", sampled=True, sequence=7)))

    assert (one.name, one.severity, one.type) == ("org.example.probe.failed", "critical", "cloudevent")
    assert (one.description, str(one.involved)) == ("three probes in a row failed", "shop/pods/web-1")
    assert one.firing_time.minute == 58
    assert one.labels == {
        "team": "x",
        "ce_source": "https://probes.example.org/eu",
        "ce_subject": "namespaces/shop/pods/web-1",
    }
    assert (one.provider_data["id"], one.provider_data["sampled"], one.provider_data["sequence"]) == (
        "A234-1234-1234",
        "true",
        "7",
    )
    assert one.raw["data"]["severity"] == "critical"


def test_all_that_data_may_say() -> None:
    """An explicit resource goes before the subject; status resolves; startsAt goes before time."""
    resource = {"kind": "Deployment", "name": "web", "namespace": "shop", "apiVersion": "apps/v1"}
    data = {
        "status": "resolved",
        "startsAt": "2026-03-01T11:00:00Z",
        "annotations": {"summary": "in short"},
        "resource": resource,
    }
    one = signal(structured(event(data=data)))

    assert (one.resolved, one.firing_time.hour, one.firing_time.minute) == (True, 11, 0)
    assert (str(one.involved), one.involved and one.involved.api_version) == ("shop/deployment/web", "apps/v1")
    assert (one.description, one.severity) == ("in short", "unknown")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, ["shop/pod/web-1"], id="a path"),
        pytest.param(
            {"subject": "apps/v1/namespaces/shop/deployments/web"}, ["shop/deployment/web"], id="with its group"
        ),
        pytest.param({"subject": "shop/pod/web-1"}, ["shop/pod/web-1"], id="short"),
        pytest.param({"subject": "nodes/n1"}, ["node/n1"], id="a node"),
        pytest.param(
            {"subject": "orders/4711", "data": {"labels": {"namespace": "shop", "deployment": "web"}}},
            ["shop/deployment/web"],
            id="a subject that names no object leaves it to the labels",
        ),
        pytest.param(
            {"subject": None, "data": {"labels": {"k8s.namespace.name": "shop", "k8s.pod.name": "web-1"}}},
            ["shop/pod/web-1"],
            id="OpenTelemetry's words",
        ),
        pytest.param({"subject": "namespaces/../pods/web-1"}, [], id="a hostile namespace"),
        pytest.param({"subject": None}, [], id="nothing"),
    ],
)
def test_what_it_is_about(fields: dict[str, Any], expected: list[str]) -> None:
    """Subject or labels name the target as an alert's labels do."""
    assert [str(c) for c in target.candidates(signal(structured(event(**fields))), Kinds())] == expected


def test_events_of_different_subjects_never_fold_together() -> None:
    """Where no object is named, source and subject identify; id and time do not."""

    def identity(**fields: Any) -> str:
        one = signal(structured(event(**fields)))
        return fingerprint.of_nameless(one.name, one.labels)

    first = identity(subject="orders/1")
    assert first == identity(subject="orders/1", id="other", time="2026-03-01T12:00:00Z")
    assert first != identity(subject="orders/2")
    assert first != identity(subject="orders/1", source="/another")


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        pytest.param({"id": None}, "id", id="no id"),
        pytest.param({"source": ""}, "source", id="an empty source"),
        pytest.param({"source": "not a uri"}, "source", id="source is no URI reference"),
        pytest.param({"type": None}, "type", id="no type"),
        pytest.param({"specversion": None}, "specversion", id="no version"),
        pytest.param({"specversion": "0.3"}, "specversion", id="an older version"),
        pytest.param({"type": {"a": 1}}, "type", id="type is an object"),
        pytest.param({"time": "yesterday"}, "time", id="no time"),
        pytest.param({"My-Extension": "x"}, "My-Extension", id="no attribute name"),
        pytest.param({"data_base64": "AAAA"}, "data_base64", id="both kinds of data"),
        pytest.param({"data": None, "data_base64": "*"}, "data_base64", id="no base64"),
        pytest.param({"data": None, "data_base64": 5}, "data_base64", id="base64 is a number"),
        pytest.param({"data": {"status": "sad"}}, "data.status", id="an unknown status"),
        pytest.param({"data": {"severity": 3}}, "data.severity", id="severity is a number"),
        pytest.param({"data": {"labels": {"a": 1}}}, "data.labels.a", id="a label is a number"),
        pytest.param({"data": {"annotations": []}}, "data.annotations", id="annotations are a list"),
        pytest.param({"data": {"startsAt": 5}}, "data.startsAt", id="startsAt is a number"),
        pytest.param({"data": {"resource": {"kind": "Pod"}}}, "data.resource.name", id="a resource without a name"),
        pytest.param({"data": {"resource": "pod"}}, "data.resource", id="resource is text"),
    ],
)
def test_malformed_events_say_where(fields: dict[str, Any], path: str) -> None:
    """Every wrong part is named by its path."""
    (entry,) = structured(event(**fields))
    assert isinstance(entry, Malformed)
    assert path in [p for p, _ in entry.problems]


def test_all_problems_come_at_once() -> None:
    """Nobody has to send four times to learn of four mistakes."""
    (entry,) = structured({"specversion": "2.0", "data": {"status": 1}})
    assert isinstance(entry, Malformed)
    assert {p for p, _ in entry.problems} == {"id", "source", "type", "specversion", "data.status"}


@pytest.mark.parametrize(
    ("fields", "description"),
    [
        pytest.param({"data": "went wrong"}, "went wrong", id="a JSON string"),
        pytest.param({"data": [1, 2]}, "[1,2]", id="a JSON list"),
        pytest.param({"data": "<a/>", "datacontenttype": "application/xml"}, "<a/>", id="XML"),
        pytest.param({"data": None}, "", id="no data"),
        pytest.param({"data": {"other": 1}}, "", id="an object of one's own"),
        pytest.param({"data": None, "data_base64": base64.b64encode(b'{"description": "d"}').decode()}, "d", id="JSON in base64"),
        pytest.param(
            {"data": None, "data_base64": base64.b64encode("wörter".encode()).decode(), "datacontenttype": "text/plain"},
            "wörter",
            id="text in base64",
        ),
        pytest.param(
            {"data": None, "data_base64": base64.b64encode(b"\x89PNG").decode(), "datacontenttype": "image/png"},
            "4 bytes of image/png",
            id="an image",
        ),
    ],
)  # fmt: skip
def test_data_in_words(fields: dict[str, Any], description: str) -> None:
    """What is no JSON object is the description as far as it is text."""
    assert signal(structured(event(**fields))).description == description


def test_a_batch_is_read_event_by_event() -> None:
    """Each has an outcome of its own; a bad one says its place; none at all asks for nothing."""

    def batch(value: Any) -> tuple[Parsed, ...]:
        return CloudEvents().parse(Delivery(json.dumps(value).encode(), {"content-type": BATCH}, NOW))

    first, second, third, fourth = batch([event(), event(id=None), "text", event(id="2")])
    assert isinstance(first, Signal)
    assert isinstance(second, Malformed)
    assert second.problems == (("[1].id", "is missing"),)
    assert isinstance(third, Malformed)
    assert third.problems[0][0] == "[2]"
    assert isinstance(fourth, Signal)
    assert isinstance(batch([])[0], Ignored)
    with pytest.raises(InvalidInput, match="must be a JSON list"):
        batch(event())


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        pytest.param("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀", id="percent-encoded, as in the specification"),
        pytest.param('"quoted \\" text"', 'quoted " text', id="quoted"),
        pytest.param("a+b", "a+b", id="a plus is a plus"),
        pytest.param("%2520", "%20", id="decoded once"),
        pytest.param("100%", "100%", id="a percent sign that encodes nothing"),
    ],
)
def test_headers_are_decoded(sent: str, meant: str) -> None:
    """By the HTTP binding: unquoted, then percent-decoded once."""
    assert signal(binary(type=sent)).name == meant


def test_a_binary_event_becomes_the_same_signal() -> None:
    """Attributes from headers, data from the body."""
    made = event()
    attributes = {k: quote(v) for k, v in made.items() if k not in {"data", "datacontenttype"}}
    one, other = signal(binary(json.dumps(made["data"]).encode(), **attributes)), signal(structured(made))

    for part in ("name", "severity", "description", "labels", "involved", "firing_time", "provider_data"):
        assert getattr(one, part) == getattr(other, part)


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        pytest.param(b"plain words", "text/plain", "plain words", id="text"),
        pytest.param(b"plain words", "", "plain words", id="no content type"),
        pytest.param(b"\xff\xfe", "application/octet-stream", "2 bytes of application/octet-stream", id="bytes"),
        pytest.param(b'{"description": "d"}', "application/vnd.x+json; charset=utf-8", "d", id="a kind of JSON"),
        pytest.param(b"", "application/json", "", id="nothing"),
    ],
)
def test_binary_data(body: bytes, content_type: str, expected: str) -> None:
    """Any content type may come."""
    assert signal(binary(body, content_type)).description == expected


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        pytest.param(lambda: binary(b"{", "application/json"), "body", id="data is not the JSON it says it is"),
        pytest.param(lambda: binary(type=""), "ce-type", id="no type"),
        pytest.param(lambda: binary(subject="%ff"), "ce-subject", id="not UTF-8"),
        pytest.param(lambda: binary(b'{"status": 1}'), "body.status", id="an unknown status"),
    ],
)
def test_malformed_binary_events_name_the_header(entry: Any, path: str) -> None:
    """A path is a header or something in the body."""
    one = entry()
    assert isinstance(one, Malformed)
    assert path in [p for p, _ in one.problems]


@pytest.mark.parametrize(
    ("content_type", "error"),
    [
        pytest.param("application/cloudevents+xml", Problem, id="an event format that is not read"),
        pytest.param("application/cloudevents-batch+avro", Problem, id="a batch that is not read"),
        pytest.param("application/json", InvalidInput, id="no CloudEvent at all"),
        pytest.param(STRUCTURED, InvalidInput, id="structured, but not an object"),
    ],
)
def test_what_is_no_cloudevent(content_type: str, error: type[Exception]) -> None:
    """Refused as a whole, with what to send instead."""
    with pytest.raises(error) as refused:
        CloudEvents().parse(Delivery(b"[]", {"content-type": content_type}, NOW))
    assert not isinstance(refused.value, Problem) or refused.value.status == 415


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*event(), "data_base64", "labels", "status", "resource", "kind"]), inner, max_size=6
        )
    ),
    max_leaves=12,
)


@given(json_values, st.sampled_from([STRUCTURED, BATCH, "application/json", ""]), st.dictionaries(st.text(), st.text()))
def test_nothing_crashes_the_parser(value: Any, content_type: str, headers: dict[str, str]) -> None:
    """Any JSON under any headers is refused with a reason or read."""
    given = {f"ce-{k}": v for k, v in headers.items()} | {"content-type": content_type}
    with contextlib.suppress(InvalidInput):
        assert CloudEvents().parse(Delivery(json.dumps(value).encode(), given, NOW))
