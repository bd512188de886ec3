"""JSON patch, merge patch and strategic merge patch."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.kube.embedded.patches import json_patch, merge_patch, strategic_patch
from kubernaut_ray.kube.embedded.status import ApiStatus

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("abc", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc/~", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text("abc", min_size=1, max_size=2), JSON, max_size=4)


@pytest.mark.parametrize(
    ("document", "patch", "expected"),
    [
        pytest.param({"a": "b"}, {"a": "c"}, {"a": "c"}, id="replaces a value"),
        pytest.param({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}, id="adds a value"),
        pytest.param({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}, id="null removes"),
        pytest.param({"a": ["b"]}, {"a": "c"}, {"a": "c"}, id="a list gives way to a value"),
        pytest.param({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}, id="merges below"),
        pytest.param({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}, id="lists are replaced"),
        pytest.param({"e": None}, {"a": 1}, {"e": None, "a": 1}, id="a null that was there stays"),
        pytest.param({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}, id="null below nothing leaves empty objects"),
    ],
)
def test_merge_patch(document: Any, patch: Any, expected: Any) -> None:
    """The examples of RFC 7386, appendix A."""
    before = copy.deepcopy(document)
    assert expected == merge_patch(document, patch)
    assert before == document


@given(OBJECTS, OBJECTS)
def test_merge_patch_is_idempotent(document: dict[str, Any], patch: dict[str, Any]) -> None:
    """Applying the same merge patch again changes nothing."""
    once = merge_patch(document, patch)
    assert once == merge_patch(once, patch)


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        pytest.param([{"op": "add", "path": "/a/-", "value": 3}], {"a": [1, 2, 3], "b": {"c": 1}}, id="appends"),
        pytest.param([{"op": "add", "path": "/a/0", "value": 0}], {"a": [0, 1, 2], "b": {"c": 1}}, id="inserts"),
        pytest.param([{"op": "replace", "path": "/b/c", "value": 2}], {"a": [1, 2], "b": {"c": 2}}, id="replaces"),
        pytest.param(
            [{"op": "replace", "path": "/a/1", "value": 9}], {"a": [1, 9], "b": {"c": 1}}, id="replaces an item"
        ),
        pytest.param([{"op": "remove", "path": "/a/0"}], {"a": [2], "b": {"c": 1}}, id="removes an item"),
        pytest.param([{"op": "move", "from": "/b/c", "path": "/d"}], {"a": [1, 2], "b": {}, "d": 1}, id="moves"),
        pytest.param(
            [{"op": "copy", "from": "/b", "path": "/d"}], {"a": [1, 2], "b": {"c": 1}, "d": {"c": 1}}, id="copies"
        ),
        pytest.param(
            [{"op": "test", "path": "/b/c", "value": 1}, {"op": "remove", "path": "/b"}],
            {"a": [1, 2]},
            id="tests first",
        ),
        pytest.param(
            [{"op": "add", "path": "/x~1y", "value": 1}], {"a": [1, 2], "b": {"c": 1}, "x/y": 1}, id="escapes"
        ),
    ],
)
def test_json_patch(operations: Any, expected: Any) -> None:
    """Each operation of RFC 6902."""
    document = {"a": [1, 2], "b": {"c": 1}}
    assert expected == json_patch(document, operations)
    assert document == {"a": [1, 2], "b": {"c": 1}}


@pytest.mark.parametrize(
    ("operations", "code"),
    [
        pytest.param({"op": "add"}, 400, id="no list"),
        pytest.param([{"op": "add"}], 400, id="no path"),
        pytest.param([{"op": "frobnicate", "path": "/a"}], 400, id="unknown operation"),
        pytest.param([{"op": "add", "path": "a", "value": 1}], 400, id="no pointer"),
        pytest.param([{"op": "remove", "path": "/zzz"}], 422, id="nothing there"),
        pytest.param([{"op": "replace", "path": "/a/9", "value": 1}], 422, id="index past the end"),
        pytest.param([{"op": "add", "path": "/a/01", "value": 1}], 422, id="index with a leading zero"),
        pytest.param([{"op": "test", "path": "/a/0", "value": 2}], 422, id="failed test"),
    ],
)
def test_json_patch_refusals(operations: Any, code: int) -> None:
    """A malformed patch is 400, one that does not apply is 422."""
    with pytest.raises(ApiStatus) as caught:
        json_patch({"a": [1]}, operations)
    assert code == caught.value.code


POD = {
    "spec": {
        "containers": [
            {"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}]},
            {"name": "b", "image": "b:1"},
        ]
    }
}


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        pytest.param(
            {"spec": {"containers": [{"name": "b", "image": "b:2"}]}},
            {"spec": {"containers": [POD["spec"]["containers"][0], {"name": "b", "image": "b:2"}]}},
            id="containers merge by name",
        ),
        pytest.param(
            {"spec": {"containers": [{"name": "c", "image": "c:1"}]}},
            {"spec": {"containers": [*POD["spec"]["containers"], {"name": "c", "image": "c:1"}]}},
            id="a new container is appended",
        ),
        pytest.param(
            {"spec": {"containers": [{"name": "a", "$patch": "delete"}]}},
            {"spec": {"containers": [{"name": "b", "image": "b:1"}]}},
            id="an item is deleted",
        ),
        pytest.param(
            {"spec": {"containers": [{"$patch": "replace"}, {"name": "z"}]}},
            {"spec": {"containers": [{"name": "z"}]}},
            id="a list is replaced",
        ),
        pytest.param(
            {"spec": {"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}]}]}},
            {
                "spec": {
                    "containers": [
                        {
                            "name": "a",
                            "image": "a:1",
                            "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}],
                        },
                        {"name": "b", "image": "b:1"},
                    ]
                }
            },
            id="env merges by name",
        ),
        pytest.param(
            {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}},
            {"spec": {"containers": list(reversed(POD["spec"]["containers"]))}},
            id="items are ordered",
        ),
        pytest.param({"spec": {"$patch": "replace", "x": 1}}, {"spec": {"x": 1}}, id="an object is replaced"),
        pytest.param({"spec": {"$patch": "delete"}}, {}, id="an object is deleted"),
        pytest.param(
            {"spec": {"tolerations": [{"key": "k"}], "containers": None}},
            {"spec": {"tolerations": [{"key": "k"}]}},
            id="null removes",
        ),
    ],
)
def test_strategic_patch(patch: Any, expected: Any) -> None:
    """Merge keys and directives as kubectl uses them."""
    assert expected == strategic_patch(POD, patch)


def test_strategic_patch_lists_without_a_key_are_replaced() -> None:
    """Tolerations, arguments and rules have no merge key."""
    assert strategic_patch({"spec": {"tolerations": [{"key": "a"}]}}, {"spec": {"tolerations": [{"key": "b"}]}}) == {
        "spec": {"tolerations": [{"key": "b"}]}
    }


def test_strategic_patch_primitive_sets() -> None:
    """Finalizers are added and deleted one by one."""
    old = {"metadata": {"finalizers": ["a/b"]}}
    both = strategic_patch(old, {"metadata": {"finalizers": ["c/d"]}})
    assert both["metadata"]["finalizers"] == ["a/b", "c/d"]
    left = strategic_patch(both, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"]}})
    assert left["metadata"]["finalizers"] == ["c/d"]


def test_strategic_patch_needs_the_merge_key() -> None:
    """An item without its key cannot be placed."""
    with pytest.raises(ApiStatus, match="merge key: name"):
        strategic_patch(POD, {"spec": {"containers": [{"image": "x"}]}})
