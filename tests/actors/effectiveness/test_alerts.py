"""What the gateway was told of a signal, and what Alertmanager says of it."""

from __future__ import annotations

from typing import Any

import pytest

from actors.effectiveness.alerts import Signal, active, told
from kubernaut_ray.crds.remediation_request import Deduplication, RemediationRequest, SignalResolution
from tests import build

LABELS = {"alertname": "KubePodOOMKilled", "namespace": "shop", "pod": "web-1", "severity": "critical"}


def request(*, seen: float | None = None, resolved: float | None = None) -> RemediationRequest:
    status: dict[str, Any] = {}
    if seen is not None:
        status["deduplication"] = Deduplication(first_seen_at=build.NOW, last_seen_at=build.later(seen))
    if resolved is not None:
        status["resolved"] = SignalResolution(resolved_at=build.later(resolved), source="alertmanager")
    return build.remediation_request(spec={"signal_labels": LABELS}, **status)


@pytest.mark.parametrize(
    ("seen", "resolved", "expected"),
    [
        pytest.param(None, None, Signal.UNKNOWN, id="nothing more was said"),
        pytest.param(200, None, Signal.UNKNOWN, id="seen again while it stabilised: perhaps an echo"),
        pytest.param(400, None, Signal.FIRING, id="seen again after that"),
        pytest.param(None, 100, Signal.RESOLVED, id="resolved"),
        pytest.param(100, 400, Signal.RESOLVED, id="seen again, then resolved"),
        pytest.param(400, 100, Signal.FIRING, id="resolved, then seen again"),
    ],
)
def test_what_the_gateway_was_told(seen: float | None, resolved: float | None, expected: Signal) -> None:
    """The later word counts; an occurrence before the target was stable may be an echo."""
    assert expected is told(request(seen=seen, resolved=resolved), build.later(300)).signal


@pytest.mark.parametrize(
    ("alert", "pods", "expected"),
    [
        pytest.param({}, frozenset({"web-1"}), Signal.FIRING, id="of a pod that is there"),
        pytest.param({"pod": "web-9"}, frozenset({"web-9"}), Signal.FIRING, id="of its successor"),
        pytest.param({}, frozenset({"web-2"}), Signal.RESOLVED, id="of a pod that is gone"),
        pytest.param({}, None, Signal.FIRING, id="nobody knows which pods there are"),
        pytest.param({"namespace": "other"}, None, Signal.RESOLVED, id="of another workload"),
    ],
)
def test_what_alertmanager_says(alert: dict[str, str], pods: frozenset[str] | None, expected: Signal) -> None:
    """An active alert with the signal's labels, those of one pod aside."""
    assert expected is active(request(), [{**LABELS, **alert}], pods).signal
