"""Label and field selectors."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.kube.embedded.selectors import exact_field, exact_name, from_label_selector, labels_match, selector
from kubernaut_ray.kube.embedded.status import ApiStatus

LABELS = {"app": "web", "tier": "front", "kubernaut.ai/shard": "7", "empty": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("app=web", True),
        ("app==web", True),
        ("app!=web", False),
        ("missing!=x", True),
        ("app in (web, api)", True),
        ("app notin (web)", False),
        ("missing notin (web)", True),
        ("app", True),
        ("!app", False),
        ("!missing", True),
        ("kubernaut.ai/shard in (1,7,9),app=web", True),
        ("kubernaut.ai/shard in (1,9),app=web", False),
        ("kubernaut.ai/shard>6", True),
        ("kubernaut.ai/shard<7", False),
        ("empty=", True),
        ("empty in ()", True),
    ],
)
def test_label_selectors(text: str, expected: bool) -> None:
    """Every operator of the query syntax."""
    match = labels_match(text)
    assert match is not None
    assert expected is match(LABELS)


@pytest.mark.parametrize("text", ["a b", "app in web", "=x", "app in (a b)", "app=a=b", "-x=1", "(", "app in (a))"])
def test_label_selectors_that_cannot_be_read(text: str) -> None:
    """400 with the offending part."""
    with pytest.raises(ApiStatus) as caught:
        labels_match(text)
    assert caught.value.code == 400


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No input makes the parser fall over."""
    with contextlib.suppress(ApiStatus):
        labels_match(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("metadata.name=a", True),
        ("metadata.name!=a", False),
        ("status.phase=Running", True),
        ("status.phase=", False),
        ("spec.nodeName=", True),
        ("metadata.name=a,status.phase!=Failed", True),
    ],
)
def test_field_selectors(text: str, expected: bool) -> None:
    """Fields compare as text; a missing field is empty."""
    match = selector("", text, ("status.phase", "spec.nodeName"))
    assert match is not None
    assert expected is match({"metadata": {"name": "a"}, "status": {"phase": "Running"}})


def test_unknown_fields_are_refused() -> None:
    """Only declared fields can be selected by."""
    with pytest.raises(ApiStatus, match=r"field label not supported: spec\.x"):
        selector("", "spec.x=1", ())


def test_a_pinned_name_is_found() -> None:
    """A list by name is a look-up."""
    assert exact_name("a!=b,metadata.name=x") == "x"
    assert exact_name("metadata.name!=x") is None


def test_a_pinned_field_is_found() -> None:
    """A list by the value of a field of the kind is a look-up in an index."""
    assert exact_field("metadata.name=n,spec.x!=a,spec.y=b", ("spec.x", "spec.y")) == ("spec.y", "b")
    assert exact_field("spec.x!=a", ("spec.x",)) is None


def test_label_selector_objects_render_as_text() -> None:
    """As ``/scale`` shows them."""
    rendered = from_label_selector(
        {
            "matchLabels": {"b": "2", "a": "1"},
            "matchExpressions": [{"key": "c", "operator": "In", "values": ["y", "x"]}],
        }
    )
    assert rendered == "a=1,b=2,c in (x,y)"
