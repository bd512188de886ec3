"""Merge patches: what ``diff`` finds is exactly what ``apply`` needs."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.kube import patch

scalars = st.one_of(st.booleans(), st.integers(-5, 5), st.floats(-2, 2), st.text("ab", max_size=3))
keys = st.sampled_from(["a", "b", "c", "status", ""])
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=8,
)
objects = st.dictionaries(keys, values, max_size=4)


@given(objects, objects)
def test_applying_the_difference_gives_the_new_object(old: dict[str, Any], new: dict[str, Any]) -> None:
    """apply(diff(a, b), a) is b, whatever a and b are."""
    result = patch.apply(patch.diff(old, new), old)
    assert patch.diff(result, new) == {}
    assert result == new


@given(objects)
def test_an_object_does_not_differ_from_itself(obj: dict[str, Any]) -> None:
    """No difference, no patch."""
    assert patch.diff(obj, copy.deepcopy(obj)) == {}


@given(objects, objects)
def test_applying_twice_is_applying_once(old: dict[str, Any], change: dict[str, Any]) -> None:
    """A merge patch is idempotent, and leaves its arguments alone."""
    before = copy.deepcopy((old, change))
    once = patch.apply(change, old)
    assert patch.apply(change, once) == once
    assert (old, change) == before


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param({"a": 1}, {}, {"a": None}, id="a field that went away becomes null"),
        pytest.param({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, {"a": {"c": 3}}, id="only the changed leaf"),
        pytest.param({"a": [1, 2]}, {"a": [1, 2, 3]}, {"a": [1, 2, 3]}, id="lists are replaced whole"),
        pytest.param({"a": {"b": 1}}, {"a": {}}, {"a": {"b": None}}, id="an emptied mapping stays a mapping"),
        pytest.param({"a": 1}, {"a": True}, {"a": True}, id="one and true are different values"),
        pytest.param({"a": "x"}, {"a": {"b": 1}}, {"a": {"b": 1}}, id="a scalar becomes a mapping"),
    ],
)
def test_diff(old: dict[str, Any], new: dict[str, Any], expected: dict[str, Any]) -> None:
    """The smallest patch is what is sent."""
    assert patch.diff(old, new) == expected
