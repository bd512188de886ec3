"""The label index: whatever is written and removed, it picks what a walk over everything would."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.kube.embedded.labels import LabelIndex
from kubernaut_ray.kube.embedded.selectors import labels_match, narrowest

KEYS, VALUES = ("app", "tier"), ("a", "b", "")
labels = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))
places = st.tuples(st.sampled_from(("one", "two")), st.sampled_from(("x", "y", "z")))
changes = st.lists(st.tuples(places, st.none() | labels), max_size=30)
selectors = st.sampled_from(
    [
        "app=a",
        "app==b",
        "app in (a,b)",
        "app in ()",
        "!app",
        "app",
        "app!=a",
        "app notin (a)",
        "tier=a,app in (b,a)",
        "!tier,app=a",
        "app>1",
        "",
    ]
)


@given(changes, selectors)
def test_the_index_leaves_all_that_the_selector_picks(written: list[tuple], selector: str) -> None:
    """After any writes, the candidates hold every match, and an absent label is told exactly."""
    index, held = LabelIndex(), dict[tuple[str, str], dict[str, str]]()
    for place, new in written:
        old = held.pop(place, {})
        index.change(place, old, new or {})
        if new is not None:
            held[place] = new
    matches = labels_match(selector) or (lambda _: True)
    picked = {place for place, own in held.items() if matches(own)}
    for key in KEYS:
        assert index.count(key) == sum(key in own for own in held.values())
    choice = narrowest(selector)
    if choice is None:
        return
    key, values = choice
    if values is not None:
        assert picked <= index.having(key, values) == {p for p, own in held.items() if own.get(key) in values}
    elif index.count(key) == len(held):
        assert not picked


def test_nothing_is_left_of_what_is_gone() -> None:
    """An index of no objects holds no memory of any."""
    index = LabelIndex()
    index.change(("ns", "x"), {}, {"app": "a", "tier": "b"})
    index.change(("ns", "x"), {"app": "a", "tier": "b"}, {})
    assert not index._places
    assert not index._counts
