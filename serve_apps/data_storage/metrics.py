"""Data Storage's metrics, in a registry of its own (contracts 12).

Labels are bounded: tables, operations, statuses, service categories, and field names of our own models; never a name, an id or
a path that somebody sends. The catalog's operations are measured around its transport and its embedder (``measured``), so
that nothing in the catalog knows of metrics.
"""

from __future__ import annotations

import time
from collections import Counter as Counted
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from catalog.client import Transport
from catalog.embed import Embedder, Vectors
from catalog.events import Columns, microseconds
from catalog.search import Found
from catalog.snapshot import Snapshot
from kubernaut_ray.contracts.audit import AuditBatch, AuditEvent
from kubernaut_ray.contracts.catalog import (
    RegisterWorkflow,
    SearchFilters,
    SearchRequest,
    WorkflowPatch,
)
from kubernaut_ray.contracts.investigation import InvestigationSession
from kubernaut_ray.contracts.notices import NotificationNotice
from kubernaut_ray.contracts.statistics import ExecutionRecord

CONTENT_TYPE = CONTENT_TYPE_LATEST
OTHER = "other"
TABLES = {
    "audit_append": "audit_events",
    "register": "workflows",
    "patch": "workflows",
    "session_put": "sessions",
    "execution_record": "executions",
}
"""The catalog owner's writing operations and the table that each writes."""
OPERATIONS = frozenset({
    "version", "workflow", "workflows", "audit_find", "audit_get", "timeline", "session_get", "execution_statistics",
    "search_gaps",
})  # fmt: skip
"""Its reading operations that are told by name."""
REASONS = frozenset({
    "missing", "extra_forbidden", "enum", "literal_error", "string_type", "string_too_long", "string_too_short",
    "string_pattern_mismatch", "int_parsing", "int_type", "greater_than_equal", "less_than_equal", "json_invalid",
    "datetime_from_date_parsing", "datetime_parsing", "timezone_aware", "model_type", "model_attributes_type",
    "too_short", "too_long", "refused",
})  # fmt: skip
"""pydantic's error types that are told by name; ``refused`` is a value of the right form that is out of bounds."""
_TAKEN: tuple[type[BaseModel], ...] = (
    AuditBatch, AuditEvent, ExecutionRecord, InvestigationSession, NotificationNotice, RegisterWorkflow, SearchFilters,
    SearchRequest, WorkflowPatch,
)  # fmt: skip
FIELDS = frozenset(name for model in _TAKEN for name in model.model_fields) | {
    "since", "until", "order", "limit", "offset", "name", "expected_attempt", "body",
}  # fmt: skip
_FAST = [0.0005 * 2**n for n in range(14)]
_LAG = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 86400)


class Metrics:
    """One replica's. ``monotonic`` is in seconds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.registry = registry = CollectorRegistry()
        self._monotonic = monotonic
        self._loaded_at: float | None = None
        self._writes = Counter(
            "datastorage_write_total", "Writes that the catalog owner answered.", ["table", "status"], registry=registry
        )
        self._write_seconds = Histogram(
            "datastorage_write_duration_seconds",
            "Time until a write was on disk.",
            ["table"],
            buckets=_FAST,
            registry=registry,
        )
        self._queries = Counter(
            "datastorage_query_total", "Reads of the catalog owner.", ["operation", "status"], registry=registry
        )
        self._query_seconds = Histogram(
            "datastorage_query_duration_seconds", "Time of a read.", ["operation"], buckets=_FAST, registry=registry
        )
        self._traces = Counter(
            "datastorage_audit_traces_total",
            "Audit events taken (success: stored now or before), by the service they are about.",
            ["service", "status"],
            registry=registry,
        )
        self._lag = Histogram(
            "datastorage_audit_lag_seconds",
            "Age of the oldest event of each batch and service when it was stored.",
            ["service"],
            buckets=_LAG,
            registry=registry,
        )
        self._invalid = Counter(
            "datastorage_validation_failures_total", "Input refused.", ["field", "reason"], registry=registry
        )
        self._embedding = Histogram(
            "datastorage_embedding_generation_duration_seconds",
            "Time to embed one query or batch.",
            buckets=[0.00005 * 2**n for n in range(18)],
            registry=registry,
        )
        self._search_seconds = Histogram(
            "datastorage_search_duration_seconds", "Time of a search in memory.", buckets=_FAST, registry=registry
        )
        self._search_hits = Histogram(
            "datastorage_search_hits",
            "Workflows in an answer.",
            buckets=(0, 1, 2, 3, 5, 10, 20, 50, 100),
            registry=registry,
        )
        self._empty = Counter("datastorage_search_empty_total", "Searches that found nothing.", registry=registry)
        self._version = Gauge("datastorage_snapshot_version", "Catalog version searched here.", registry=registry)
        self._bytes = Gauge("datastorage_snapshot_bytes", "Size of the snapshot searched here.", registry=registry)
        age = Gauge("datastorage_snapshot_age_seconds", "Since the snapshot was loaded here.", registry=registry)
        age.set_function(lambda: 0.0 if self._loaded_at is None else self._monotonic() - self._loaded_at)
        self._workflows = Gauge("datastorage_catalog_workflows", "Workflow versions in the catalog.", registry=registry)

    def measured(self, transport: Transport) -> Transport:
        """Return this transport, measured."""
        return _Measured(transport, self)

    def timed(self, embedder: Embedder) -> Embedder:
        """Return this embedder, timed."""
        return _Timed(embedder, self._embedding)

    def called(self, method: str, status: str, seconds: float) -> None:
        table = TABLES.get(method)
        if table is not None:
            self._writes.labels(table, status).inc()
            self._write_seconds.labels(table).observe(seconds)
            return
        operation = method if method in OPERATIONS else OTHER
        self._queries.labels(operation, status).inc()
        self._query_seconds.labels(operation).observe(seconds)

    def audited(self, events: Columns, now: datetime, *, stored: bool) -> None:
        """Count a batch, whole: that is how it is stored."""
        oldest: dict[str, int] = {}
        for service, at in zip(events["event_category"], events["event_us"], strict=True):
            if at < oldest.get(service, at + 1):
                oldest[service] = at
        counts, told = Counted(events["event_category"]), microseconds(now)
        for service, at in oldest.items():
            self._traces.labels(service, "success" if stored else "failure").inc(counts[service])
            if stored:
                self._lag.labels(service).observe(max(0.0, (told - at) / 1e6))

    def refused(self, problems: Iterable[tuple[str, str]]) -> None:
        """Count (path of the field, reason) pairs; what is not ours is told as ``other``."""
        for path, reason in problems:
            names = [part.split("[")[0] for part in path.split(".")]
            field = next((name for name in reversed(names) if name in FIELDS), OTHER)
            self._invalid.labels(field, reason if reason in REASONS else OTHER).inc()

    def searched(self, found: Found) -> None:
        self._search_seconds.observe(found.took_ms / 1000)
        self._search_hits.observe(len(found.hits))
        if not found.hits:
            self._empty.inc()

    def loaded(self, size: int) -> None:
        self._bytes.set(size)
        self._loaded_at = self._monotonic()

    def holds(self, snapshot: Snapshot) -> None:
        self._version.set(snapshot.version)
        self._workflows.set(len(snapshot.index))

    def render(self) -> bytes:
        return generate_latest(self.registry)


class _Measured:
    def __init__(self, transport: Transport, metrics: Metrics) -> None:
        self._transport, self._metrics = transport, metrics

    async def call(self, method: str, payload: bytes) -> bytes:
        started, status = time.perf_counter(), "unavailable"
        try:
            answer = await self._transport.call(method, payload)
            # ``{"version":7,"error":{"kind":…`` or ``{"version":7,"result":…``
            status = "refused" if answer.partition(b",")[2].startswith(b'"error"') else "success"
            return answer
        finally:
            self._metrics.called(method, status, time.perf_counter() - started)

    async def snapshot(self, have: int) -> bytes:
        data = await self._transport.snapshot(have)
        if data:
            self._metrics.loaded(len(data))
        return data


class _Timed:
    def __init__(self, embedder: Embedder, histogram: Histogram) -> None:
        self._embedder, self._histogram = embedder, histogram

    @property
    def fingerprint(self) -> str:
        return self._embedder.fingerprint

    @property
    def dimension(self) -> int:
        return self._embedder.dimension

    @property
    def slow(self) -> bool:
        return self._embedder.slow

    def embed(self, texts: Sequence[str]) -> Vectors:
        with self._histogram.time():
            return self._embedder.embed(texts)


def problems_of(errors: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
    """Return pydantic's errors as ``Metrics.refused`` takes them."""
    return ((".".join(map(str, error["loc"])), str(error["type"])) for error in errors)
