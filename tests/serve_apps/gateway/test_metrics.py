"""The gateway's metrics: bounded whatever signals are called, and exact though repeats are counted in bulk."""

from __future__ import annotations

from kubernaut_ray.crds.enums import AdmissionReason
from serve_apps.gateway import metrics
from serve_apps.gateway.metrics import Metrics


def value(one: Metrics, line: str) -> float:
    found = [each.rpartition(" ")[2] for each in one.render().decode().splitlines() if each.startswith(line)]
    return sum(map(float, found))


def test_repeats_reach_the_counters_when_they_are_read() -> None:
    """Each is one received, one joined, and one outcome of its reason."""
    one = Metrics()
    for reason, times in ((AdmissionReason.IN_PROGRESS, 3), (AdmissionReason.PART_OF_STORM, 4)):
        one.repeated(("prometheus-alert", "critical", "A", reason), times)
        one.repeated(("prometheus-alert", "odd", "B", reason), times)
    assert value(one, 'gateway_signals_received_total{severity="critical"') == 7
    assert value(one, 'gateway_signals_received_total{severity="other"') == 7
    assert value(one, "gateway_signals_deduplicated_total") == 14
    assert value(one, 'gateway_signal_outcomes_total{reason="PartOfStorm",status="duplicate"}') == 8
    assert value(one, "gateway_signals_deduplicated_total") == 14


def test_nobody_has_to_read_them() -> None:
    """Without a scrape the names of repeats do not pile up, and none is forgotten."""
    one = Metrics()
    for n in range(10 * metrics.MAX_REPEATED):
        one.repeated(("prometheus-alert", "critical", f"N{n}", AdmissionReason.IN_PROGRESS), 1)
        assert len(one._repeated) < metrics.MAX_REPEATED
    assert value(one, "gateway_signals_deduplicated_total") == 10 * metrics.MAX_REPEATED
    assert one.render().decode().count("gateway_signals_deduplicated_total{") == metrics.MAX_SIGNAL_NAMES + 1
