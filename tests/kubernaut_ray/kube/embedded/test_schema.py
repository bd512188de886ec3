"""Structural schemas: prune, default, validate."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.kube.embedded.schema import SchemaError, apply_defaults, compiled, drop_nulls, prune, validate

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 5, "pattern": "^[a-z]*$"},
        "level": {"type": "string", "enum": ["low", "high"], "default": "low"},
        "count": {"type": "integer", "minimum": 1, "maximum": 10},
        "score": {"type": "number", "minimum": 0, "exclusiveMinimum": True},
        "when": {"type": "string", "format": "date-time"},
        "port": {"x-kubernetes-int-or-string": True},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "maybe": {"type": "string", "nullable": True},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2, "x-kubernetes-list-type": "set"},
        "items": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["id"],
            "items": {
                "type": "object",
                "required": ["id"],
                "properties": {"id": {"type": "string"}, "on": {"type": "boolean", "default": True}},
            },
        },
        "labels": {"type": "object", "maxProperties": 2, "additionalProperties": {"type": "string"}},
        "nested": {
            "type": "object",
            "default": {},
            "properties": {"deep": {"type": "integer", "default": 7}},
        },
    },
}
NODE = compiled(SCHEMA)


@pytest.mark.parametrize(
    ("value", "field", "message"),
    [
        ({}, "name", "Required value"),
        ({"name": 1}, "name", 'must be of type string: "integer"'),
        ({"name": ""}, "name", "at least 1 chars"),
        ({"name": "abcdef"}, "name", "Too long"),
        ({"name": "A"}, "name", "should match '^[a-z]*$'"),
        ({"name": "a", "level": "mid"}, "level", 'Unsupported value: "mid": supported values: "low", "high"'),
        ({"name": "a", "count": 0}, "count", "greater than or equal to 1"),
        ({"name": "a", "count": 11}, "count", "less than or equal to 10"),
        ({"name": "a", "count": 1.5}, "count", "must be of type integer"),
        ({"name": "a", "count": True}, "count", "must be of type integer"),
        ({"name": "a", "score": 0}, "score", "greater than 0"),
        ({"name": "a", "when": "yesterday"}, "when", "must be of type date-time"),
        ({"name": "a", "when": "2026-01-31T12:00:00"}, "when", "must be of type date-time"),
        ({"name": "a", "port": 1.5}, "port", "integer or string"),
        ({"name": "a", "tags": ["x", "y", "z"]}, "tags", "Too many"),
        ({"name": "a", "tags": ["x", "x"]}, "tags[1]", "Duplicate value"),
        ({"name": "a", "items": [{"id": "x"}, {"id": "x"}]}, "items[1]", "Duplicate value"),
        ({"name": "a", "items": [{}]}, "items[0].id", "Required value"),
        ({"name": "a", "labels": {"a": 1}}, "labels.a", "must be of type string"),
        ({"name": "a", "labels": {"a": "", "b": "", "c": ""}}, "labels", "Too many"),
        ({"name": "a", "nested": []}, "nested", 'must be of type object: "array"'),
    ],
)
def test_problems(value: Any, field: str, message: str) -> None:
    """Every constraint names its field and what would be right."""
    [cause] = validate(NODE, value, "", None)
    assert field == cause.field
    assert message in cause.message


@pytest.mark.parametrize(
    "value",
    [
        {"name": "a"},
        {"name": "a", "count": 3.0, "score": 1, "maybe": None, "port": 8080},
        {"name": "a", "port": "http", "when": "2026-01-31T12:00:00.123456789Z", "free": {"x": [1, None]}},
        {
            "name": "a",
            "when": "2026-01-31T12:00:00+02:00",
            "tags": [],
            "items": [{"id": "x", "on": False}, {"id": "y"}],
        },
    ],
)
def test_valid_values(value: Any) -> None:
    """What the schema allows passes."""
    assert validate(NODE, value, "", None) == []


def test_all_problems_are_told_at_once() -> None:
    """A user fixes an object in one go."""
    causes = validate(NODE, {"name": "A", "count": 0, "level": "x"}, "", None)
    assert {"name", "count", "level"} == {c.field for c in causes}


def test_pruning() -> None:
    """Unknown fields go and are named; open objects keep theirs; metadata is not the schema's business."""
    value = {"metadata": {"x": 1}, "name": "a", "typo": 1, "items": [{"id": "x", "odd": 1}], "free": {"any": 1}}
    assert prune(NODE, value, "", root=True) == ["typo", "items[0].odd"]
    assert value == {"metadata": {"x": 1}, "name": "a", "items": [{"id": "x"}], "free": {"any": 1}}


def test_defaulting() -> None:
    """Defaults fill objects that exist or are defaulted themselves, and items of lists."""
    value: dict[str, Any] = {"name": "a", "items": [{"id": "x"}], "level": None}
    apply_defaults(NODE, value)
    assert value == {"name": "a", "level": "low", "nested": {"deep": 7}, "items": [{"id": "x", "on": True}]}


def test_nulls_mean_unset() -> None:
    """A null goes where the schema knows none."""
    value = {"name": None, "maybe": None, "items": [{"id": "x", "on": None}]}
    drop_nulls(NODE, value)
    assert value == {"maybe": None, "items": [{"id": "x"}]}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*SCHEMA["properties"], "odd", "id", "deep"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(JSON)
def test_any_value_is_judged(value: Any) -> None:
    """Nothing makes the three passes fall over, and pruning and defaulting are idempotent."""
    drop_nulls(NODE, value)
    prune(NODE, value, "", root=True)
    assert prune(NODE, value, "", root=True) == []
    apply_defaults(NODE, value)
    before = repr(value)
    apply_defaults(NODE, value)
    assert before == repr(value)
    validate(NODE, value, "", None)


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"properties": {}}, "must not be empty"),
        ({"type": "thing"}, "is not one of"),
        ({"type": "array"}, "items"),
        ({"type": "object", "required": [[]]}, "list of names"),
        ({"type": "object", "properties": {"a": {"type": "string", "pattern": "["}}}, "no regular expression"),
        ({"type": "object", "$ref": "#/x"}, "unknown field"),
        (
            {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}},
            "mutual",
        ),
        ({"type": "string", "enum": ["a"], "default": "b"}, "Unsupported value"),
        ({"type": "string", "x-kubernetes-validations": [{"rule": "self.format('x')"}]}, "cannot be evaluated"),
        ({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map"}, "list-map-keys"),
    ],
)
def test_schemas_that_cannot_be_honoured(schema: dict[str, Any], why: str) -> None:
    """A constraint is enforced or the schema is refused; never ignored."""
    with pytest.raises(SchemaError, match=why):
        compiled(schema)


def test_old_items_are_found_by_their_keys() -> None:
    """Transition rules in a map list compare an item with its former self, wherever it stood."""
    node = compiled(
        {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["id"],
            "items": {
                "type": "object",
                "properties": {"id": {"type": "string"}, "v": {"type": "integer"}},
                "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v", "message": "may only grow"}],
            },
        }
    )
    old = [{"id": "a", "v": 1}, {"id": "b", "v": 5}]
    assert validate(node, [{"id": "b", "v": 6}, {"id": "a", "v": 1}], "x", old) == []
    [cause] = validate(node, [{"id": "b", "v": 4}], "x", old)
    assert (cause.field, "may only grow" in cause.message) == ("x[0]", True)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer", "anyOf": [{"maximum": 1}, {"minimum": 9}]}, 10, 5),
        ({"type": "integer", "oneOf": [{"maximum": 5}, {"minimum": 3}]}, 1, 4),
        ({"type": "integer", "allOf": [{"maximum": 5}, {"minimum": 3}]}, 4, 1),
        ({"type": "integer", "not": {"minimum": 3}}, 1, 4),
    ],
)
def test_combinations(schema: dict[str, Any], good: int, bad: int) -> None:
    """anyOf, oneOf, allOf and not."""
    node = compiled(schema)
    assert validate(node, good, "x", None) == []
    assert validate(node, bad, "x", None) != []
