"""``workflow-schema.yaml`` to a catalog record: both forms, strictly, with every problem told at once.

Called by registration in Data Storage, by ``kubernaut-ray workflow validate`` and by packing. It refuses what it does not
understand: an unknown field is an error, because a misspelt ``requird`` would otherwise run a workflow without its
parameter.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from catalog import wording
from catalog.job import job_problems
from catalog.parameters import validate_parameters, value_errors
from catalog.schema_document import (
    ANY,
    INVALID,
    CamelDescription,
    Description,
    EnvelopeDocument,
    FlatDocument,
    Parameter,
    action_type_of,
    load_mapping,
)
from kubernaut_ray import names
from kubernaut_ray.contracts.catalog import (
    LabelValue,
    Workflow,
    WorkflowDescription,
    WorkflowLabels,
    WorkflowParameter,
)
from kubernaut_ray.crds.enums import ExecutionEngine, ParameterType
from kubernaut_ray.errors import InvalidInput

__all__ = ["FILE", "INVALID", "parse_schema", "validate_parameters"]

FILE = "workflow-schema.yaml"
RESERVED = "TARGET_RESOURCE"
"""Passed to every pipeline by the execution itself."""
_FLAT_TOP = "apiVersion: kubernaut.io/v1alpha1 with kind: WorkflowSchema"
_ENVELOPE_TOP = "apiVersion: kubernaut.ai/v1alpha1 with kind: RemediationWorkflow"
_Problem = tuple[str, str]


def parse_schema(text: str, *, container_image: str = "", container_digest: str = "") -> Workflow:
    """Read a schema into a catalog record; the bundle's image and digest are filled in when given.

    Raises ``InvalidInput`` whose ``problems`` are (path, what is wrong and what would be right) pairs.
    """
    raw = load_mapping(text, FILE)
    model: type[FlatDocument | EnvelopeDocument]
    body: Any
    match raw.get("kind"):
        case "WorkflowSchema":
            model, body = FlatDocument, raw
        case "RemediationWorkflow":
            model, body = EnvelopeDocument, raw.get("spec")
        case other:
            what = f"kind {other!r}" if other is not None else "no kind"
            raise InvalidInput(
                f"{FILE}: {what}; write {_FLAT_TOP}, or {_ENVELOPE_TOP}",
                problems=(("kind", f"must be WorkflowSchema or RemediationWorkflow, got {other!r}"),),
                reason=INVALID,
            )
    prefix = "" if model is FlatDocument else "spec."
    problems = list(_cross_problems(body if isinstance(body, dict) else {}, prefix))
    document: FlatDocument | EnvelopeDocument | None = None
    try:
        document = model.model_validate(raw)
    except ValidationError as error:
        problems = [wording.problem(e) for e in error.errors(include_url=False)] + problems
    workflow = None
    if document is not None:
        workflow = _flat(document) if isinstance(document, FlatDocument) else _envelope(document)
        problems += _semantic_problems(workflow, prefix)
        if workflow.execution_engine is ExecutionEngine.JOB:
            problems += [(f"{prefix}{path}", what) for path, what in job_problems(document)]
    if problems or workflow is None:
        listed = "; ".join(f"{path}: {what}" for path, what in problems)
        raise InvalidInput(f"{FILE} has {len(problems)} problem(s): {listed}", problems=tuple(problems), reason=INVALID)
    return workflow.model_copy(
        update={
            "container_image": container_image or workflow.container_image,
            "container_digest": container_digest or workflow.container_digest,
            "content": text,
            "content_hash": hashlib.sha256(text.encode()).hexdigest(),
        }
    )


def _cross_problems(body: Mapping[str, Any], prefix: str) -> Iterator[_Problem]:
    """Yield what only shows between parameters; works on raw data, so that it is told even beside other problems."""
    for section in ("parameters", "rollback_parameters", "rollbackParameters"):
        given = body.get(section)
        entries = [p for p in given if isinstance(p, dict)] if isinstance(given, list) else []
        known = [p.get("name") for p in entries]
        for index, entry in enumerate(entries):
            path, name = f"{prefix}{section}[{index}]", entry.get("name")
            if name in known[:index]:
                yield f"{path}.name", f"{name!r} is declared twice"
            if name == RESERVED:
                yield f"{path}.name", f"{RESERVED} is passed to every pipeline by itself; do not declare it"
            for key in ("depends_on", "dependsOn"):
                for other in entry.get(key) or () if isinstance(entry.get(key), list) else ():
                    if other not in known:
                        yield f"{path}.{key}", f"{other!r} is no parameter of this workflow"
                    if other == name:
                        yield f"{path}.{key}", "a parameter cannot depend on itself"


def _semantic_problems(workflow: Workflow, prefix: str) -> Iterator[_Problem]:
    for index, parameter in enumerate(workflow.parameters):
        for field, what in _parameter_problems(parameter):
            yield f"{prefix}parameters[{index}].{field}", what


def _parameter_problems(parameter: WorkflowParameter) -> Iterator[_Problem]:
    kind = parameter.type
    textual = kind in (ParameterType.STRING, ParameterType.ARRAY)
    if (parameter.minimum is not None or parameter.maximum is not None) and kind is not ParameterType.INTEGER:
        yield "minimum", f"minimum and maximum are for type integer, this is {kind}"
    if parameter.minimum is not None and parameter.maximum is not None and parameter.minimum > parameter.maximum:
        yield "minimum", f"{parameter.minimum} is above maximum {parameter.maximum}"
    if (parameter.min_length is not None or parameter.max_length is not None) and not textual:
        yield "min_length", f"lengths are for types string and array, this is {kind}"
    shortest, longest = parameter.min_length, parameter.max_length
    if shortest is not None and longest is not None and shortest > longest:
        yield "min_length", f"{parameter.min_length} is above max_length {parameter.max_length}"
    if parameter.enum and kind is ParameterType.BOOLEAN:
        yield "enum", "a boolean is true or false already"
    if parameter.pattern:
        if not textual:
            yield "pattern", f"patterns are for types string and array, this is {kind}"
        try:
            re.compile(parameter.pattern)
        except re.error as error:
            yield "pattern", f"not a regular expression: {error}"
            return
    if parameter.default is not None:
        for what in value_errors(parameter, parameter.default):
            yield "default", what.removeprefix(f"{parameter.name}: ")


def _label(values: Sequence[str]) -> LabelValue:
    if ANY in values:
        return ANY
    return values[0] if len(values) == 1 else tuple(values)


def _detected(labels: Mapping[str, bool | str] | None) -> dict[str, str]:
    """A false requirement requires nothing."""
    return {k: "true" if v is True else v for k, v in (labels or {}).items() if v is not False}


def _parameter(parameter: Parameter) -> WorkflowParameter:
    return WorkflowParameter.model_validate({name: getattr(parameter, name) for name in Parameter.model_fields})


def _description(given: Description | CamelDescription) -> WorkflowDescription:
    return WorkflowDescription.model_validate(given.model_dump())


def _flat(document: FlatDocument) -> Workflow:
    meta, labels = document.metadata, document.labels
    image, digest = _split_digest(document.execution.bundle)
    return Workflow(
        workflow_id=names.workflow_id(meta.workflow_id, meta.version),
        workflow_name=meta.workflow_id,
        version=meta.version,
        title=meta.name or meta.workflow_id.replace("-", " ").capitalize(),
        action_type=meta.action_type or action_type_of(meta.workflow_id),
        description=_description(meta.description),
        owner=meta.owner or next((m.name for m in meta.maintainers), ""),
        labels=WorkflowLabels(
            signal_type=_label(labels.signal_type),
            severity=_label(labels.severity),
            component=_label(labels.component),
            environment=_label(labels.environment),
            priority=_label(labels.priority),
            custom=dict(labels.model_extra or {}),
            detected=_detected(document.detected_labels),
        ),
        parameters=tuple(_parameter(p) for p in document.parameters),
        execution_engine=document.execution.engine,
        service_account_name=document.execution.service_account_name,
        container_image=image,
        container_digest=digest,
    )


def _envelope(document: EnvelopeDocument) -> Workflow:
    name, spec = document.metadata.name, document.spec
    image, digest = _split_digest(spec.execution.bundle)
    return Workflow(
        workflow_id=names.workflow_id(name, spec.version),
        workflow_name=name,
        version=spec.version,
        title=spec.title or name.replace("-", " ").capitalize(),
        action_type=spec.action_type,
        description=_description(spec.description),
        owner=spec.owner or next((m.name for m in spec.maintainers), ""),
        labels=WorkflowLabels(
            signal_type=_label(spec.labels.signal_type),
            severity=_label(spec.labels.severity),
            component=_label(spec.labels.component),
            environment=_label(spec.labels.environment),
            priority=_label(spec.labels.priority),
            custom=dict(spec.custom_labels or {}),
            detected=_detected(spec.detected_labels),
        ),
        parameters=tuple(_parameter(p) for p in spec.parameters),
        execution_engine=spec.execution.engine,
        service_account_name=spec.execution.service_account_name,
        container_image=image,
        container_digest=digest or spec.execution.bundle_digest,
    )


def _split_digest(bundle: str) -> tuple[str, str]:
    image, _, digest = bundle.partition("@")
    return image, digest
