"""The last request of each fingerprint is remembered, whatever the order in which they are removed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.contracts import lineage
from kubernaut_ray.contracts.lineage import Last, entry, last_of
from kubernaut_ray.kube import patch

FINGERPRINTS = [f"{number:02x}" * 32 for number in range(4)]
_LASTS = st.builds(
    Last, st.sampled_from([f"2026-03-0{day}T12:00:00.000000Z" for day in range(1, 5)]), st.uuids().map(str)
)


@given(st.lists(st.tuples(st.sampled_from(FINGERPRINTS), _LASTS)))
def test_the_newest_of_each_is_remembered(removed: list[tuple[str, Last]]) -> None:
    """Each change is applied to what is there, as the API server does it."""
    config_map: dict[str, Any] = {}
    for fingerprint, last in removed:
        config_map = patch.apply({"data": entry(config_map, fingerprint, last)}, config_map)
        assert entry(config_map, fingerprint, last) == {}, "once is enough"
    for fingerprint in FINGERPRINTS:
        mine = [last for whose, last in removed if whose == fingerprint]
        assert last_of(config_map, fingerprint) == max(mine, default=None)


def test_those_of_the_oldest_requests_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for so many; what cannot be read goes before anything else."""
    monkeypatch.setattr(lineage, "MOST", 3)
    config_map: dict[str, Any] = {"data": {"by hand": "nonsense"}}
    for day, fingerprint in enumerate(FINGERPRINTS, 1):
        change = entry(config_map, fingerprint, Last(f"2026-03-0{day}T12:00:00.000000Z", "u"))
        config_map = patch.apply({"data": change}, config_map)
    assert len(config_map["data"]) == 3
    assert [last_of(config_map, fingerprint) is not None for fingerprint in FINGERPRINTS] == [False, True, True, True]


@pytest.mark.parametrize("data", [None, "x", {}, {FINGERPRINTS[0][:16]: "nonsense"}, {FINGERPRINTS[0][:16]: 1}])
def test_what_cannot_be_read_is_as_good_as_nothing(data: Any) -> None:
    """Somebody may have edited it."""
    assert last_of({"data": data}, FINGERPRINTS[0]) is None
    assert last_of(None, FINGERPRINTS[0]) is None
    last = Last("2026-03-01T12:00:00.000000Z", "u")
    change = entry({"data": data}, FINGERPRINTS[0], last)
    assert last_of({"data": change}, FINGERPRINTS[0]) == last


def test_its_place_is_named_by_the_first_digit() -> None:
    """There are sixteen, which the role of the platform names one by one."""
    assert lineage.named("f0" * 32) == "kubernaut-lineage-f"
