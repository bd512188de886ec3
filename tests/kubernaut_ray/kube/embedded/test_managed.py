"""Field ownership and server-side apply, as values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.kube.embedded import managed
from kubernaut_ray.kube.embedded.apply import merge


def keys(path: tuple[str, ...]) -> tuple[str, ...] | None:
    return {"containers": ("name",), "ports": ("port", "protocol"), "finalizers": (), "env": ("name",)}.get(path[-1])


POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "uid": "u", "labels": {"a": "1"}, "finalizers": ["x/y"]},
    "spec": {"containers": [{"name": "c", "image": "i", "args": ["1"], "ports": [{"port": 80}]}], "empty": {}},
}


def test_paths() -> None:
    """Fields, items by key, sets by value; atomic lists and empty objects are one path; identity is nobody's."""
    item = 'k:{"name":"c"}'
    port = 'k:{"port":80,"protocol":"TCP"}'
    assert {
        ("f:metadata", "f:labels", "f:a"),
        ("f:metadata", "f:finalizers", 'v:"x/y"'),
        ("f:spec", "f:containers", item),
        ("f:spec", "f:containers", item, "f:name"),
        ("f:spec", "f:containers", item, "f:image"),
        ("f:spec", "f:containers", item, "f:args"),
        ("f:spec", "f:containers", item, "f:ports", port),
        ("f:spec", "f:containers", item, "f:ports", port, "f:port"),
        ("f:spec", "f:empty"),
    } == set(managed.flatten(POD, keys))


def test_the_wire_form_reads_back() -> None:
    """FieldsV1 is written as Kubernetes writes it, and read back the same."""
    found = frozenset(managed.flatten(POD, keys))
    tree = managed.tree(found)
    assert {k: v for k, v in tree["f:spec"]["f:containers"]['k:{"name":"c"}'].items() if k != "f:ports"} == {
        ".": {},
        "f:args": {},
        "f:image": {},
        "f:name": {},
    }
    assert found == managed.paths(tree)


VALUES = st.recursive(
    st.integers(0, 3) | st.text("ab", max_size=1),
    lambda inner: (
        st.dictionaries(st.sampled_from(["a", "b", "env"]), inner, max_size=3)
        | st.lists(
            st.fixed_dictionaries({"name": st.sampled_from(["x", "y"])}), max_size=2, unique_by=lambda i: i["name"]
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["spec", "data"]), VALUES, max_size=2))
def test_any_ownership_reads_back(obj: dict[str, Any]) -> None:
    """For any object, the paths survive the wire form."""
    found = frozenset(managed.flatten(obj, keys))
    assert found == managed.paths(managed.tree(found))


@given(
    st.dictionaries(st.sampled_from(["spec", "data"]), VALUES, max_size=2),
    st.dictionaries(st.sampled_from(["spec", "data"]), VALUES, max_size=2),
)
def test_applying_twice_is_applying_once(live: dict[str, Any], wanted: dict[str, Any]) -> None:
    """The merge is idempotent, and states what was asked."""
    once = merge(live, wanted, keys)
    assert once == merge(once, wanted, keys)
    after = managed.flatten(once, keys)
    for path, value in managed.flatten(wanted, keys).items():
        assert value in ({}, []) or after.get(path) == value


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (("f:spec", "f:replicas"), ".spec.replicas"),
        (("f:spec", "f:containers", 'k:{"name":"c"}', "f:image"), '.spec.containers[name="c"].image'),
        (("f:metadata", "f:finalizers", 'v:"x/y"'), '.metadata.finalizers[="x/y"]'),
    ],
)
def test_paths_shown(path: managed.Path, expected: str) -> None:
    """Conflicts name fields the way kubectl users know them."""
    assert expected == managed.shown(path)
