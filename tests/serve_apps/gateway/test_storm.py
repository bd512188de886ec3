"""Storms: by rate and by spread, over sliding windows, with bounded memory."""

from __future__ import annotations

from kubernaut_ray.crds.enums import StormType
from serve_apps.gateway.storm import MAX_NAMES, StormDetector
from tests.build import NOW, later


def detector(*, enabled: bool = True) -> StormDetector:
    return StormDetector(enabled=enabled, rate_threshold=10, pattern_threshold=5)


def test_rate() -> None:
    """The eleventh signal of a name within a minute is a storm; a minute later it is over."""
    storms = detector()
    found = [storms.observe("A", "web", later(i)) for i in range(12)]
    assert [s is not None for s in found] == [False] * 10 + [True] * 2
    assert found[11] is not None
    assert (found[11].storm_type, found[11].window, found[11].alert_count) == (StormType.RATE, "1m", 12)
    assert found[11].detected_at == later(10)
    assert storms.observe("A", "web", later(100)) is None


def test_pattern() -> None:
    """The sixth resource with one signal within two minutes is a storm that names them all."""
    storms = detector()
    found = [storms.observe("A", f"web-{i}", later(20 * i)) for i in range(6)]
    assert found[4] is None
    assert found[5] is not None
    assert (found[5].storm_type, found[5].affected_resources) == (
        StormType.PATTERN,
        tuple(f"web-{i}" for i in range(6)),
    )
    assert storms.observe("A", "web-9", later(300)) is None


def test_names_do_not_add_up() -> None:
    """Different signals are different storms."""
    storms = detector()
    assert all(storms.observe(f"A{i}", f"r{i}", NOW) is None for i in range(50))


def test_off_switch() -> None:
    """Switched off, nothing is a storm."""
    storms = detector(enabled=False)
    assert all(storms.observe("A", f"r{i}", NOW) is None for i in range(50))


def test_memory_is_bounded() -> None:
    """Endless new names push out the oldest ones."""
    storms = detector()
    for i in range(MAX_NAMES + 500):
        storms.observe(f"A{i}", "r", NOW)
    assert len(storms._names) == MAX_NAMES
