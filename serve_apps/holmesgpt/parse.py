"""A model's answer, from text to value. Tolerant in form, strict in meaning.

Accepted: prose with one fenced JSON object (the contract), bare JSON, JSON followed by prose, the flat form
(``rca_summary``, ``workflow_id``, … at the top), confidences as percent or text, and severities of other vocabularies. What
holds no JSON object, or one without a root cause and without an outcome, is ``Unparseable``: a failed attempt that is asked
again, never silently "no workflow".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kubernaut_ray.contracts.investigation import AlternativeAnswer, RecoveryAnalysis, RootCause
from kubernaut_ray.crds.enums import RcaSeverity
from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.errors import InvalidInput

MAX_TEXT = 8000
MAX_ITEMS = 20
_FENCE = re.compile(r"```[ \t]*(?:json|JSON|json5)?[ \t]*\r?\n(.*?)(?:```|\Z)", re.DOTALL)
_SEVERITIES = {
    "warning": RcaSeverity.MEDIUM,
    "warn": RcaSeverity.MEDIUM,
    "moderate": RcaSeverity.MEDIUM,
    "info": RcaSeverity.LOW,
    "none": RcaSeverity.LOW,
    "error": RcaSeverity.HIGH,
    "major": RcaSeverity.HIGH,
    "severe": RcaSeverity.CRITICAL,
    "fatal": RcaSeverity.CRITICAL,
}


class InvestigationOutcome(StrEnum):
    """What the model itself says came of it, besides a workflow."""

    NONE = ""
    RESOLVED = "resolved"
    INCONCLUSIVE = "inconclusive"


class Unparseable(InvalidInput):
    """The text holds no answer of a form that can be read. ``problems`` say what was missing, for the model to read."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The workflow that the answer selects; ``container_image`` only when the answer names one."""

    workflow_id: str
    confidence: float
    version: str = ""
    container_image: str = ""
    rationale: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of a model, read."""

    analysis: str
    root_cause: RootCause
    outcome: InvestigationOutcome = InvestigationOutcome.NONE
    selection: Selection | None = None
    confidence: float | None = None
    evidence: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    alternatives: tuple[AlternativeAnswer, ...] = ()
    recovery: RecoveryAnalysis | None = None
    blamed: TargetResource | None = None
    """The resource that the model says is at fault; not to be acted on without proof."""


def parse_answer(text: str) -> Answer:
    """Read an answer. Raises ``Unparseable``."""
    found = list(_objects(text))
    if not found:
        raise _unparseable("the answer holds no JSON object; end it with one ```json block")
    answers = [o for o, _ in found if _is_answer(o)]
    if not answers:
        keys = ", ".join(sorted(map(str, found[-1][0]))[:10]) or "none"
        raise _unparseable(
            f"the JSON object has neither root_cause_analysis nor investigation_outcome (its keys: {keys})"
        )
    chosen = answers[-1]
    start = next(at for o, at in found if o is chosen)
    return _answer(chosen, prose=_FENCE.sub("", text[:start]).split("```")[0].strip())


def _unparseable(problem: str) -> Unparseable:
    return Unparseable(f"answer cannot be read: {problem}", problems=(("answer", problem),), reason="LLMParsingError")


def _objects(text: str) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the top-level JSON objects of a text with where they start: fenced ones first, else any."""
    fenced = [(m.group(1), m.start()) for m in _FENCE.finditer(text)]
    seen = False
    for body, start in fenced:
        for obj, _ in _scan(body):
            seen = True
            yield obj, start
    if not seen:
        yield from _scan(text)


def _scan(text: str) -> Iterator[tuple[dict[str, Any], int]]:
    found = list(_decode(text))
    if not any(_is_answer(o) for o, _ in found):
        found += _decode(_repaired(text))
    yield from found


def _decode(text: str) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield every JSON object that starts at a brace and reads to its end; tries at most 64 places."""
    decoder = json.JSONDecoder(strict=False)
    position = text.find("{")
    for _ in range(64):
        if position < 0:
            return
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            end = position + 1
        else:
            yield value, position
        position = text.find("{", end)


def _repaired(text: str) -> str:
    """Drop trailing commas and ``//`` comments on lines of their own, the two habits of models that break JSON."""
    return re.sub(r",(\s*[}\]])", r"\1", re.sub(r"^[ \t]*//[^\n]*\n", "", text, flags=re.MULTILINE))


def _is_answer(obj: Mapping[str, Any]) -> bool:
    """A root cause or an outcome must be at the object's own level: a part of a cut-off answer is no answer."""
    return any(obj.get(k) for k in ("root_cause_analysis", "rca_summary", "investigation_outcome", "root_cause")) or (
        "selected_workflow" in obj and bool(obj.get("summary"))
    )


def _answer(obj: Mapping[str, Any], *, prose: str) -> Answer:
    rca = _mapping(obj.get("root_cause_analysis")) or _mapping(obj.get("root_cause")) or {}
    summary = _text(rca.get("summary") or obj.get("rca_summary") or obj.get("root_cause") or obj.get("summary"))
    outcome = _outcome(obj)
    if not summary and outcome is InvestigationOutcome.NONE:
        raise _unparseable("root_cause_analysis.summary is missing or empty")
    selection = _selection(obj)
    own = _confidence(obj.get("confidence"))
    return Answer(
        analysis=(prose or summary)[:MAX_TEXT],
        root_cause=RootCause(
            summary=summary or prose[:1000] or "No root cause was given.",
            severity=_severity(rca.get("severity") or obj.get("severity")),
            signal_type=_text(rca.get("signal_type") or obj.get("signal_type") or obj.get("signal_name"))[:200],
            contributing_factors=_lines(rca.get("contributing_factors") or obj.get("contributing_factors")),
        ),
        outcome=outcome,
        selection=selection,
        confidence=own if own is not None else (selection.confidence if selection else None),
        evidence=_lines(obj.get("evidence") or rca.get("evidence")),
        warnings=_lines(obj.get("warnings")),
        alternatives=tuple(_alternatives(obj.get("alternative_workflows") or obj.get("alternatives"))),
        recovery=_recovery(obj.get("recovery_analysis")),
        blamed=_blamed(obj, rca),
    )


def _outcome(obj: Mapping[str, Any]) -> InvestigationOutcome:
    word = _text(obj.get("investigation_outcome")).lower().replace("-", "_")
    if word in {"resolved", "problem_resolved", "self_resolved", "no_action_needed", "not_reproducible"}:
        return InvestigationOutcome.RESOLVED
    if word in {"inconclusive", "unknown", "insufficient_data", "insufficient_evidence"}:
        return InvestigationOutcome.INCONCLUSIVE
    return InvestigationOutcome.NONE


def _selection(obj: Mapping[str, Any]) -> Selection | None:
    chosen = obj.get("selected_workflow")
    if isinstance(chosen, str) and chosen.strip():
        chosen = {**{k: obj[k] for k in ("confidence", "parameters", "rationale") if k in obj}, "workflow_id": chosen}
    if not isinstance(chosen, Mapping) and "selected_workflow" not in obj:
        chosen = obj if obj.get("workflow_id") else None
    chosen = _mapping(chosen)
    if not chosen:
        return None
    workflow_id = _text(
        chosen.get("workflow_id") or chosen.get("id") or chosen.get("workflow_name") or chosen.get("name")
    )
    if not workflow_id or workflow_id.lower() in {"null", "none", "n/a"}:
        return None
    confidence = _confidence(chosen.get("confidence"))
    if confidence is None:
        confidence = _confidence(obj.get("confidence"))
    return Selection(
        workflow_id=workflow_id[:253],
        confidence=0.0 if confidence is None else confidence,
        version=_text(chosen.get("version"))[:253],
        container_image=_text(chosen.get("container_image")),
        rationale=_text(chosen.get("rationale") or obj.get("rationale"))[:MAX_TEXT],
        parameters=_parameters(chosen.get("parameters")),
    )


def _parameters(given: Any) -> dict[str, str]:
    """Read ``{NAME: value}`` or ``[{name, value}, …]``; every value as the text that Tekton takes; ``null`` is not given."""
    if isinstance(given, list):
        given = {i.get("name"): i.get("value") for i in given if isinstance(i, Mapping) and i.get("name")}
    return {str(k): _value(v) for k, v in (_mapping(given) or {}).items() if v is not None}


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list | dict):
        items = [_value(v) for v in value] if isinstance(value, list) else value
        return json.dumps(items, ensure_ascii=False)
    return str(value)


def _alternatives(given: Any) -> Iterator[AlternativeAnswer]:
    for item in given[:10] if isinstance(given, list) else ():
        if isinstance(item, Mapping) and (name := _text(item.get("workflow_id") or item.get("workflow_name"))):
            yield AlternativeAnswer(
                workflow_id=name[:253],
                workflow_name=_text(item.get("workflow_name"))[:253],
                container_image=_text(item.get("container_image"))[:1024],
                confidence=_confidence(item.get("confidence")) or 0.0,
                rationale=_text(item.get("rationale"))[:MAX_TEXT],
            )


def _recovery(given: Any) -> RecoveryAnalysis | None:
    fields = _mapping(given)
    if not fields:
        return None
    inner = {**(_mapping(fields.get("previous_attempt_assessment")) or {}), **fields}
    return RecoveryAnalysis(
        failure_understood=inner.get("failure_understood") in (True, "true", "yes"),
        failure_reason_analysis=_text(inner.get("failure_reason_analysis"))[:MAX_TEXT],
        state_changed=inner.get("state_changed") in (True, "true", "yes"),
        current_signal_type=_text(inner.get("current_signal_type"))[:200],
    )


def _blamed(obj: Mapping[str, Any], rca: Mapping[str, Any]) -> TargetResource | None:
    for source in (
        rca.get("affected_resource"),
        obj.get("affected_resource"),
        obj.get("remediation_target"),
        rca.get("target"),
    ):
        fields = _mapping(source)
        if fields and fields.get("kind") and fields.get("name"):
            return TargetResource(
                kind=_text(fields["kind"])[:253],
                name=_text(fields["name"])[:253],
                namespace=_text(fields.get("namespace"))[:253],
            )
    return None


def _severity(given: Any) -> RcaSeverity:
    word = _text(given).lower()
    try:
        return RcaSeverity(word)
    except ValueError:
        return _SEVERITIES.get(word, RcaSeverity.UNKNOWN)


def _confidence(given: Any) -> float | None:
    """Read 0.85, "0.85", "85%", 85 or "high" as a confidence; anything else is none."""
    if isinstance(given, bool) or given is None:
        return None
    if isinstance(given, str):
        word = given.strip().lower()
        if word in {"high", "medium", "low"}:
            return {"high": 0.85, "medium": 0.65, "low": 0.4}[word]
        percent = word.endswith("%")
        try:
            number = float(word.rstrip("% "))
        except ValueError:
            return None
        number = number / 100 if percent else number
    elif isinstance(given, int | float):
        number = float(given)
    else:
        return None
    if 1 < number <= 100:
        number /= 100
    return number if 0 <= number <= 1 else None


def _lines(given: Any) -> tuple[str, ...]:
    items = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    return tuple(text[:1000] for item in items if (text := _text(item)))[:MAX_ITEMS]


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, Mapping | list):
        return json.dumps(value, ensure_ascii=False)[:MAX_TEXT] if value else ""
    return str(value).strip()[:MAX_TEXT]


def _mapping(value: Any) -> dict[str, Any] | None:
    return dict(value) if isinstance(value, Mapping) else None
