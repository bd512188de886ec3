"""The short way through a schema: where it holds, the long way would change and refuse nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.crds.schema import crd_manifests
from kubernaut_ray.kube.embedded import crd
from kubernaut_ray.kube.embedded.plain import plain
from kubernaut_ray.kube.embedded.schema import apply_defaults, compiled, drop_nulls, prune, validate
from tests import build
from tests.kubernaut_ray.kube.embedded.test_schema import NODE, SCHEMA

PLAIN = plain(NODE)
FULL: dict[str, Any] = {"name": "a", "level": "low", "nested": {"deep": 1}}
"""What the schema requires and defaults, said."""

SHAPED = st.fixed_dictionaries(
    {
        "name": st.text("aB", max_size=6),
        "level": st.sampled_from(["low", "high", "mid", None]),
        "nested": st.dictionaries(st.sampled_from(["deep", "odd"]), st.integers() | st.none(), max_size=2),
    },
    optional={
        "count": st.integers(-1, 12) | st.sampled_from([3.0, 1.5, True]),
        "score": st.integers(-1, 1) | st.floats(-1, 1),
        "when": st.sampled_from(["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.123456789+02:00", "2026-13-01T00:00:00Z", 1]),
        "port": st.integers() | st.text(max_size=2) | st.floats(allow_nan=False, allow_infinity=False),
        "free": st.dictionaries(st.text(max_size=2), st.none() | st.lists(st.none()), max_size=2) | st.none(),
        "maybe": st.none() | st.text(max_size=2) | st.integers(),
        "tags": st.lists(st.sampled_from(["x", "y", 1]), max_size=3),
        "items": st.lists(
            st.dictionaries(st.sampled_from(["id", "on", "odd"]), st.sampled_from(["x", "y", True, None]), max_size=3),
            max_size=3,
        ),
        "labels": st.dictionaries(st.text(max_size=1), st.text(max_size=1) | st.none(), max_size=3),
        "odd": st.none(),
    },
)  # fmt: skip


@given(SHAPED)
def test_plain_values_need_nothing(value: dict[str, Any]) -> None:
    """No null goes, nothing is pruned or defaulted, and nothing is wrong."""
    if not PLAIN(value):
        return
    passed = copy.deepcopy(value)
    drop_nulls(NODE, passed)
    assert prune(NODE, passed, "", root=False) == []
    apply_defaults(NODE, passed)
    assert passed == value
    assert validate(NODE, value, "", None) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"count": 3, "score": 0.5, "maybe": None, "port": "http", "tags": ["x", "y"], "labels": {"a": "b"}}, True),
        ({"items": [{"id": "x", "on": True}, {"id": "y", "on": False}], "free": {"any": [None]}}, True),
        ({"level": None}, False),
        ({"nested": {}}, False),
        ({"typo": 1}, False),
        ({"items": [{"id": "x"}]}, False),
        ({"items": [{"id": "x", "on": True}, {"id": "x", "on": True}]}, False),
        ({"tags": ["x", "x"]}, False),
        ({"name": "A"}, False),
        ({"count": True}, False),
    ],
)
def test_what_is_plain(change: dict[str, Any], expected: bool) -> None:
    """Usual values are; what lacks a default, holds a null or something unknown, or is wrong, goes the long way."""
    assert expected is PLAIN({**FULL, **change})


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "anyOf": [{"maximum": 1}, {"minimum": 9}]},
        {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {}},
        {"x-kubernetes-int-or-string": True, "pattern": "^a"},
        {"type": "integer", "enum": [1]},
    ],
)
def test_rare_schemas_go_the_long_way(schema: dict[str, Any]) -> None:
    """Nothing is plain where only the passes know what is right."""
    predicate = plain(compiled(schema))
    assert not any(predicate(value) for value in (None, True, 1, 1.5, "a", [], {}))


def test_our_own_objects_are_plain() -> None:
    """What this platform writes all day takes the short way, or it would be for nothing."""
    rules = {m["spec"]["names"]["kind"]: crd.CustomRules(m["spec"]["versions"][0]["schema"]["openAPIV3Schema"]) for m in crd_manifests()}  # fmt: skip
    request = build.remediation_request("rr-0")
    for made in (
        request,
        build.signal_processing(request),
        build.ai_analysis(request),
        build.workflow_execution(request),
        build.notification_request(owner=request),
    ):
        obj = made.to_object()
        assert rules[obj["kind"]].plain(obj, frozenset()), obj["kind"]


def test_odd_roots_go_the_long_way() -> None:
    """A definition that leaves its root open says nothing about what would be pruned."""
    rules = crd.CustomRules({**SCHEMA, "x-kubernetes-preserve-unknown-fields": True})
    assert not rules.plain({"name": "a"}, frozenset())
