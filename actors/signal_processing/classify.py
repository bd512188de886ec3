"""Asks the policies about an enriched signal: environment, severity, priority, own labels, and the business side.

One set of verdicts comes from one version of the policies, whose hash goes with them. The environment is judged only by
what the cluster said about the namespace, never by the signal's own labels. An answer that is missing, faulty or not one
of our words becomes the safe word, and is told as a ``flaw``; whoever decides makes it visible.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeVar

from kubernaut_ray.crds.enums import (
    ClassificationReason,
    Criticality,
    Environment,
    EnvironmentSource,
    PolicyFault,
    Priority,
    PrioritySource,
    Severity,
    SlaTier,
)
from kubernaut_ray.crds.shared import KubernetesContext
from kubernaut_ray.crds.signal_processing import BusinessClassification, SignalProcessingSpec
from kubernaut_ray.policy.check import SIGNAL_PROCESSING
from kubernaut_ray.policy.engine import PolicyEngine, PolicyVersion
from kubernaut_ray.policy.verdict import Evaluation, PolicyError, Undefined, Verdict
from kubernaut_ray.settings import SignalProcessingSettings

ENTRYPOINTS = SIGNAL_PROCESSING
_ENVIRONMENT, _SEVERITY, _PRIORITY, _BUSINESS, _LABELS = ENTRYPOINTS

FALLBACK_PRIORITY: Mapping[Severity, Priority] = {
    Severity.CRITICAL: Priority.P1,
    Severity.HIGH: Priority.P1,
    Severity.WARNING: Priority.P2,
    Severity.INFO: Priority.P3,
    Severity.UNKNOWN: Priority.P2,
}
"""By severity alone, when no policy answers; never P0, which needs a trusted environment."""

MAX_KEYS = 10
MAX_VALUES = 5
MAX_KEY = 63
MAX_VALUE = 100
RESERVED = ("kubernaut.ai/", "system/")
_SHOWN = 5
_ENVIRONMENT_LABEL = "kubernaut.ai/environment"

Word = TypeVar("Word", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Flaw:
    """Why a safe word stands where a policy should have answered."""

    reason: ClassificationReason
    message: str


@dataclass(frozen=True, slots=True)
class Classification:
    environment: Environment
    environment_source: EnvironmentSource
    severity: Severity
    priority: Priority
    priority_source: PrioritySource
    policy_name: str
    custom_labels: Mapping[str, tuple[str, ...]]
    policy_hash: str
    flaws: tuple[Flaw, ...] = ()
    notes: tuple[str, ...] = ()
    """What is worth knowing although the policies answered: newer ones are not in force, labels were dropped."""


@dataclass(frozen=True, slots=True)
class Categorization:
    business: BusinessClassification
    flaws: tuple[str, ...] = ()
    policy_hash: str = ""


class Classifier:
    """The policies as one controller asks them."""

    def __init__(self, engine: PolicyEngine, settings: SignalProcessingSettings) -> None:
        self._engine = engine
        self._settings = settings

    async def classify(self, spec: SignalProcessingSpec, context: KubernetesContext) -> Classification:
        asked = _Questions(self._engine, await self._engine.current())
        subject, limits = policy_input(spec, context), self._settings
        environment, source = await asked.environment(subject, limits.priority_policy_timeout)
        severity = await asked.word(_SEVERITY, subject, limits.priority_policy_timeout, Severity, Severity.UNKNOWN)
        judged = {**subject, "environment": environment.value, "severity": severity.value}
        priority, priority_source, policy_name = await asked.priority(judged, severity, limits.priority_policy_timeout)
        custom_labels = await asked.labels(judged, limits.labels_policy_timeout)
        return Classification(
            environment=environment,
            environment_source=source,
            severity=severity,
            priority=priority,
            priority_source=priority_source,
            policy_name=policy_name,
            custom_labels=custom_labels,
            policy_hash=asked.hash,
            flaws=tuple(asked.flaws),
            notes=tuple(asked.notes),
        )

    async def categorize(
        self, spec: SignalProcessingSpec, context: KubernetesContext, environment: str, severity: str
    ) -> Categorization:
        subject = {**policy_input(spec, context), "environment": environment, "severity": severity}
        asked = _Questions(self._engine, await self._engine.current())
        answer = await asked.ask(_BUSINESS, subject, self._settings.business_policy_timeout)
        return replace(business(answer), policy_hash=asked.hash)


def policy_input(spec: SignalProcessingSpec, context: KubernetesContext) -> dict[str, Any]:
    """Return what the signal processing policies see, in snake_case. Documented in the policies' own tests."""
    signal, namespace, target = spec.signal, context.namespace, spec.signal.target_resource
    described = next(
        (
            found
            for found in (
                context.deployment, context.stateful_set, context.daemon_set, context.replica_set, context.pod,
                context.service, context.node, context.other,
            )
            if found is not None and (found.kind, found.name) == (target.kind, target.name)
        ),
        None,
    )  # fmt: skip
    detected = context.detected_labels
    return {
        "signal": {
            "name": signal.name,
            "severity": signal.severity,
            "type": signal.type,
            "source": signal.source,
            "labels": signal.labels,
            "annotations": signal.annotations,
        },
        "namespace": {
            "name": namespace.name if namespace else "",
            "labels": namespace.labels if namespace else {},
            "annotations": namespace.annotations if namespace else {},
        },
        "target": {
            "kind": target.kind,
            "name": target.name,
            "namespace": target.namespace,
            "labels": described.labels if described else {},
            "annotations": described.annotations if described else {},
        },
        "owner_chain": [entry.model_dump(mode="json") for entry in context.owner_chain],
        "detected_labels": detected.model_dump(mode="json", exclude={"failed_detections"}) if detected else {},
        "failed_detections": [str(name) for name in detected.failed_detections] if detected else [],
        "degraded_mode": context.degraded_mode,
    }


def business(answer: Evaluation) -> Categorization:
    """Read the business verdict field by field; a field that is not one of our words keeps its default."""
    match answer:
        case Verdict(dict() as value):
            flaws: list[str] = []
            return Categorization(
                BusinessClassification(
                    business_unit=str(value.get("business_unit") or "")[:256],
                    service_owner=str(value.get("service_owner") or "")[:256],
                    criticality=_field(value, "criticality", Criticality, Criticality.MEDIUM, flaws),
                    sla_requirement=_field(value, "sla", SlaTier, SlaTier.BRONZE, flaws),
                ),
                tuple(flaws),
            )
        case _:
            return Categorization(BusinessClassification(), (_why(_BUSINESS, answer),))


def bounded_labels(value: Any) -> dict[str, tuple[str, ...]]:
    """Keep what may be kept of a policy's labels: text, not reserved, within the caps, in a stable order."""
    if not isinstance(value, dict):
        return {}
    kept: dict[str, tuple[str, ...]] = {}
    for key in sorted(key for key in value if isinstance(key, str)):
        values = value[key] if isinstance(value[key], list) else [value[key]]
        texts = tuple(text[:MAX_VALUE] for text in values if isinstance(text, str) and text)[:MAX_VALUES]
        if texts and key and len(key) <= MAX_KEY and not key.startswith(RESERVED):
            kept[key] = texts
        if len(kept) == MAX_KEYS:
            break
    return kept


def dropped_labels(value: Any, kept: Mapping[str, tuple[str, ...]]) -> str:
    """Say what ``bounded_labels`` left out of a policy's labels; empty when nothing was."""
    if not isinstance(value, dict):
        return f"{str(value)[:100]!r} is not an object of name → list of texts"
    lost = sorted(str(key)[:MAX_KEY] for key, given in value.items() if _lost(given, kept.get(key)))
    if not lost:
        return ""
    shown = ", ".join(lost[:_SHOWN]) + (" …" if len(lost) > _SHOWN else "")
    return (
        f"dropped or shortened: {shown}; kept are {MAX_KEYS} names of up to {MAX_KEY} characters that do not begin with "
        f"{' or '.join(RESERVED)}, each with {MAX_VALUES} texts of up to {MAX_VALUE}"
    )


def _lost(given: Any, kept: tuple[str, ...] | None) -> bool:
    wanted = given if isinstance(given, list) else [given]
    return bool(wanted) and list(kept or ()) != wanted


class _Questions:
    """The questions of one signal to one version of the policies."""

    def __init__(self, engine: PolicyEngine, version: PolicyVersion | None) -> None:
        self._engine, self._version = engine, version
        self.hash = version.hash if version else ""
        self.flaws: list[Flaw] = []
        self.notes: list[str] = []
        if version and engine.problem:
            self.notes.append(
                f"decided by the last good policies, because the present ones are refused: {engine.problem}"
            )

    async def ask(self, entrypoint: str, subject: Mapping[str, Any], timeout: float) -> Evaluation:
        if self._version is None:
            return self._engine.no_policy(entrypoint)
        return await self._version.evaluate(entrypoint, subject, timeout=timeout)

    async def environment(self, subject: Mapping[str, Any], timeout: float) -> tuple[Environment, EnvironmentSource]:
        answer = await self.ask(_ENVIRONMENT, subject, timeout)
        found = _mapping(answer)
        environment = _word(Environment, found.get("environment"))
        if environment is None:
            self._flaw(_ENVIRONMENT, answer)
            return Environment.UNKNOWN, EnvironmentSource.DEFAULT
        label = subject["namespace"]["labels"].get(_ENVIRONMENT_LABEL)
        if label and environment is Environment.UNKNOWN:
            message = f"the namespace's label {_ENVIRONMENT_LABEL} has a value that no policy knows: {label}"
            self.flaws.append(Flaw(ClassificationReason.INVALID_NAMESPACE_LABELS, message))
        return environment, _word(EnvironmentSource, found.get("source")) or EnvironmentSource.REGO_INFERENCE

    async def word(
        self, entrypoint: str, subject: Mapping[str, Any], timeout: float, words: type[Word], otherwise: Word
    ) -> Word:
        answer = await self.ask(entrypoint, subject, timeout)
        found = _word(words, answer.value) if isinstance(answer, Verdict) else None
        if found is None:
            self._flaw(entrypoint, answer)
        return otherwise if found is None else found

    async def priority(
        self, subject: Mapping[str, Any], severity: Severity, timeout: float
    ) -> tuple[Priority, PrioritySource, str]:
        answer = await self.ask(_PRIORITY, subject, timeout)
        found = _mapping(answer)
        priority = _word(Priority, found.get("priority"))
        if priority is None:
            self._flaw(_PRIORITY, answer, ClassificationReason.SEVERITY_FALLBACK)
            return FALLBACK_PRIORITY[severity], PrioritySource.SEVERITY_FALLBACK, ""
        name = str(found.get("policy_name") or "")[:256]
        return priority, PrioritySource.DEFAULT if name == "default" else PrioritySource.REGO_POLICY, name

    async def labels(self, subject: Mapping[str, Any], timeout: float) -> dict[str, tuple[str, ...]]:
        answer = await self.ask(_LABELS, subject, timeout)
        if isinstance(answer, PolicyError):
            self._flaw(_LABELS, answer)
        if not isinstance(answer, Verdict):
            return {}
        kept = bounded_labels(answer.value)
        if dropped := dropped_labels(answer.value, kept):
            self.notes.append(f"{_LABELS}: {dropped}")
        return kept

    def _flaw(
        self,
        entrypoint: str,
        answer: Evaluation,
        reason: ClassificationReason = ClassificationReason.POLICY_ERROR,
    ) -> None:
        if isinstance(answer, PolicyError) and answer.fault is PolicyFault.NO_POLICY:
            reason = ClassificationReason.POLICY_NOT_FOUND
        self.flaws.append(Flaw(reason, _why(entrypoint, answer)))


def _why(entrypoint: str, answer: Evaluation) -> str:
    match answer:
        case PolicyError():
            return str(answer)
        case Undefined():
            return f"{entrypoint}: undefined; a default rule is missing"
        case Verdict(value):
            return f"{entrypoint}: {str(value)[:200]!r} is not an answer that is understood"


def _mapping(answer: Evaluation) -> Mapping[str, Any]:
    return answer.value if isinstance(answer, Verdict) and isinstance(answer.value, dict) else {}


def _word(words: type[Word], value: Any) -> Word | None:
    try:
        return words(value)
    except ValueError:
        return None


def _field(value: Mapping[str, Any], name: str, words: type[Word], otherwise: Word, flaws: list[str]) -> Word:
    found = _word(words, value.get(name, otherwise))
    if found is None:
        flaws.append(f"{_BUSINESS}: {name} {str(value.get(name))[:100]!r} is not one of {', '.join(words)}")
    return otherwise if found is None else found
