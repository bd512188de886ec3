"""The compact map: it answers as a dictionary does, however its keys came in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import known
from catalog.known import ABSENT, Known

KEYS = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(st.dictionaries(KEYS | st.integers(0, 30), st.integers(0, 2**62), max_size=40), max_size=12), st.data())
def test_it_is_a_dictionary(batches: list[dict[int, int]], data: st.DataObject) -> None:
    """Put or loaded, merged or not: the newest value of each key, ``ABSENT`` for the others."""
    held, expected = Known(), dict[int, int]()
    for batch in batches:
        expected |= batch
        if batch and data.draw(st.booleans()):
            held.put(dict.fromkeys(batch, 7))  # what lies in the dictionary is overruled by nothing but a later put
            held.put(batch)
        else:
            held.put(batch)
        if data.draw(st.booleans()):
            held._spill()
    keys = [*expected, 3, 2**63 - 1]
    assert held.get(keys) == [expected.get(one, ABSENT) for one in keys]


def test_it_grows_by_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are merged so that their number grows with the logarithm of what they hold."""
    monkeypatch.setattr(known, "RECENT", 100)
    held = Known()
    for first in range(0, 20_000, 50):
        held.put({n: n + 1 for n in range(first, first + 50)})
    assert held.get(range(20_000)) == list(range(1, 20_001))
    assert len(held) == 20_000
    assert len(held._runs) <= 10


def test_what_is_below_is_forgotten() -> None:
    """Only values from the bound on are kept; a bound of nothing changes nothing."""
    held = Known()
    held.load(np.asarray([1, 2, 3], dtype=np.int64), np.asarray([10, 20, 30], dtype=np.int64))
    held.forget_below(0)
    assert held.get([1, 2, 3]) == [10, 20, 30]
    held.forget_below(20)
    assert held.get([1, 2, 3]) == [ABSENT, 20, 30]
    held.forget_below(31)
    assert held.get([3]) == [ABSENT]
