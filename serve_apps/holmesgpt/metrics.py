"""The HolmesGPT-API's metrics, in a registry of its own. Labels are bounded: no object names, no workflow names."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from kubernaut_ray.contracts.investigation import IncidentResponse
from serve_apps.holmesgpt.models.model import Completion

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = [0.05 * 2**n for n in range(14)]


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._ended = Counter(
            "holmesgpt_api_investigations_total",
            "Investigations by how they ended.",
            ["status"],
            registry=self.registry,
        )
        self._duration = Histogram(
            "holmesgpt_api_investigations_duration_seconds",
            "Time of an investigation.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._calls = Counter(
            "holmesgpt_api_llm_calls_total",
            "Requests to the language model.",
            ["model", "status"],
            registry=self.registry,
        )
        self._call_duration = Histogram(
            "holmesgpt_api_llm_call_duration_seconds",
            "Time of one answer with its tools.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._tokens = Counter(
            "holmesgpt_api_llm_token_usage_total", "Tokens paid for.", ["model", "type"], registry=self.registry
        )
        self._tools = Counter("holmesgpt_api_tool_calls_total", "Calls of tools.", ["outcome"], registry=self.registry)
        self._attempts = Counter(
            "holmesgpt_api_validation_attempts_total", "Answers checked.", ["is_valid"], registry=self.registry
        )
        self._active = Gauge("holmesgpt_api_active_investigations", "Sessions in work here.", registry=self.registry)

    def concluded(self, response: IncidentResponse) -> None:
        status = response.human_review_reason or ("resolved" if response.resolved else "workflow_selected")
        self._ended.labels(status).inc()
        self._duration.observe(response.duration_seconds)
        for attempt in response.validation_attempts_history:
            self._attempts.labels(str(attempt.is_valid).lower()).inc()

    def failed(self) -> None:
        self._ended.labels("error").inc()

    def answered(self, model: str, completion: Completion, seconds: float) -> None:
        self._calls.labels(model, "success").inc(max(completion.requests, 1))
        self._call_duration.observe(seconds)
        self._tokens.labels(model, "input").inc(completion.input_tokens)
        self._tokens.labels(model, "output").inc(completion.output_tokens)

    def refused(self, model: str) -> None:
        self._calls.labels(model, "error").inc()

    def tool_called(self, *, ok: bool, repeated: bool) -> None:
        self._tools.labels("repeated" if repeated else "ok" if ok else "error").inc()

    def render(self, *, active: int) -> bytes:
        self._active.set(active)
        return generate_latest(self.registry)
