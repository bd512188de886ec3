"""Storms: by rate and by spread, over sliding windows, with bounded memory."""

from __future__ import annotations

from kubernaut_ray.crds.enums import StormType
from serve_apps.gateway.storm import MAX_NAMES, StormDetector
from tests.build import NOW, later


def detector(*, enabled: bool = True) -> StormDetector:
    return StormDetector(enabled=enabled, rate_threshold=10, pattern_threshold=5)


def test_rate() -> None:
    """The eleventh signal of a name within a minute begins a storm; a minute later it is over."""
    storms = detector()
    began = [storms.observe("A", ["web"], later(i)) for i in range(12)]
    assert began == [None] * 10 + [StormType.RATE, None]
    storm = storms.storm("A", later(11))
    assert storm is not None
    assert (storm.storm_type, storm.window, storm.alert_count) == (StormType.RATE, "1m", 12)
    assert storm.detected_at == later(10)
    assert storms.active(later(11)) == 1
    assert storms.storm("A", later(100)) is None
    assert storms.active(later(100)) == 0


def test_a_whole_group_at_once() -> None:
    """Signals that came together count together."""
    storms = detector()
    assert storms.observe("A", ["web"] * 11, NOW) is StormType.RATE


def test_pattern() -> None:
    """The sixth resource with one signal within two minutes begins a storm that names them all."""
    storms = detector()
    began = [storms.observe("A", [f"web-{i}"], later(20 * i)) for i in range(6)]
    assert began == [None] * 5 + [StormType.PATTERN]
    storm = storms.storm("A", later(100))
    assert storm is not None
    assert storm.affected_resources == tuple(f"web-{i}" for i in range(6))
    assert storms.observe("A", ["web-9"], later(300)) is None
    assert storms.storm("A", later(300)) is None


def test_names_do_not_add_up() -> None:
    """Different signals are different storms."""
    storms = detector()
    assert all(storms.observe(f"A{i}", [f"r{i}"], NOW) is None for i in range(50))


def test_off_switch() -> None:
    """Switched off, nothing is a storm."""
    storms = detector(enabled=False)
    assert all(storms.observe("A", [f"r{i}"], NOW) is None for i in range(50))
    assert storms.storm("A", NOW) is None


def test_memory_is_bounded() -> None:
    """Endless new names push out the oldest ones."""
    storms = detector()
    for i in range(MAX_NAMES + 500):
        storms.observe(f"A{i}", ["r"], NOW)
    assert len(storms._names) == MAX_NAMES
