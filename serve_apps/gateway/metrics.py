"""The gateway's metrics, in a registry of its own. Labels are bounded: no object names, and so many signal names at most."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from kubernaut_ray.crds.enums import AdmissionReason, Severity, SignalOutcome
from serve_apps.gateway.cluster import BreakerState

MAX_SIGNAL_NAMES = 100
MAX_REPEATED = 1000
CONTENT_TYPE = CONTENT_TYPE_LATEST
_OTHER = "other"
_SEVERITIES = frozenset(Severity)
RepeatedLabels = tuple[str, str, str, AdmissionReason]
"""Type, severity and name of a signal, and why it is a duplicate."""
_BREAKER = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._names: set[str] = set()
        self._timers: dict[tuple[str, int], Histogram] = {}
        self._repeated: dict[RepeatedLabels, int] = {}
        registry = self.registry
        self._received = Counter(
            "gateway_signals_received_total",
            "Signals taken from a source.",
            ["source_type", "severity"],
            registry=registry,
        )
        self._deduplicated = Counter(
            "gateway_signals_deduplicated_total", "Signals that joined a request.", ["signal_name"], registry=registry
        )
        self._created = Counter(
            "gateway_crds_created_total", "RemediationRequests created.", ["source_type"], registry=registry
        )
        self._outcomes = Counter(
            "gateway_signal_outcomes_total", "What became of signals.", ["status", "reason"], registry=registry
        )
        self._storms = Counter(
            "gateway_signal_storms_detected_total", "Storms that began.", ["storm_type"], registry=registry
        )
        self._folded = Counter(
            "gateway_signals_folded_total",
            "Signals taken into the incident of something larger instead of opening one of their own.",
            ["reason"],
            registry=registry,
        )
        self._assumed = Counter(
            "gateway_targets_assumed_total",
            "Targets that could not be read as the signal names them.",
            registry=registry,
        )
        self._duration = Histogram(
            "gateway_http_request_duration_seconds",
            "Time to answer a webhook.",
            ["endpoint", "status"],
            buckets=[0.001 * 2**n for n in range(12)],
            registry=registry,
        )
        self._shed = Counter("gateway_requests_shed_total", "Requests told to come back.", registry=registry)

    def watch(
        self,
        *,
        pending: Callable[[], int],
        working: Callable[[], int],
        breaker: Callable[[], BreakerState],
        storms: Callable[[], int],
    ) -> None:
        """Read these when somebody asks for the metrics."""
        gauge = Gauge("gateway_storms_active", "Signal names that are in a storm.", registry=self.registry)
        gauge.set_function(storms)
        gauge = Gauge("gateway_occurrences_pending", "Requests with unwritten occurrences.", registry=self.registry)
        gauge.set_function(pending)
        gauge = Gauge("gateway_requests_in_flight", "Webhooks being worked on.", registry=self.registry)
        gauge.set_function(working)
        gauge = Gauge("gateway_circuit_breaker_state", "0 closed, 1 half-open, 2 open.", registry=self.registry)
        gauge.set_function(lambda: _BREAKER[breaker()])

    def received(self, source_type: str, severity: str, times: int = 1) -> None:
        self._received.labels(source_type, severity if severity in _SEVERITIES else _OTHER).inc(times)

    def repeated(self, labels: RepeatedLabels, times: int) -> None:
        """Count duplicates. They reach the counters when somebody reads them, or at so many: this is called often."""
        self._repeated[labels] = self._repeated.get(labels, 0) + times
        if len(self._repeated) >= MAX_REPEATED:
            self._settle()

    def folded(self, reason: AdmissionReason) -> None:
        self._folded.labels(reason).inc()

    def deduplicated(self, signal_name: str, times: int = 1) -> None:
        if signal_name not in self._names:
            if len(self._names) >= MAX_SIGNAL_NAMES:
                signal_name = _OTHER
            self._names.add(signal_name)
        self._deduplicated.labels(signal_name).inc(times)

    def created(self, source_type: str) -> None:
        self._created.labels(source_type).inc()

    def outcome(self, status: str, reason: AdmissionReason, times: int = 1) -> None:
        self._outcomes.labels(status, reason).inc(times)

    def storm(self, storm_type: str) -> None:
        self._storms.labels(storm_type).inc()

    def assumed(self) -> None:
        self._assumed.inc()

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        timer = self._timers.get((endpoint, status))
        if timer is None:
            timer = self._timers[endpoint, status] = self._duration.labels(endpoint, str(status))
        timer.observe(seconds)

    def shed(self) -> None:
        self._shed.inc()

    def render(self) -> bytes:
        self._settle()
        return generate_latest(self.registry)

    def _settle(self) -> None:
        repeated, self._repeated = self._repeated, {}
        for (source_type, severity, signal_name, reason), times in repeated.items():
            self.received(source_type, severity, times)
            self.deduplicated(signal_name, times)
            self.outcome(SignalOutcome.DUPLICATE, reason, times)
