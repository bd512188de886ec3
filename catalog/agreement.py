"""Whether what somebody declares of a workflow is what its bundle's schema says.

The schema in the bundle is the single source of truth; a declaration (the spec of a RemediationWorkflow, in the envelope
form's camelCase) may repeat any part of it and is refused when it says something else. Fields that are left out say
nothing. Called at registration. It decides nothing but agreement: whether the schema itself is valid is ``workflow.py``'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from pydantic.alias_generators import to_camel

from catalog.schema_document import (
    ANY,
    EnvelopeDocument,
    FlatDocument,
    Parameter,
    default_text,
    load_mapping,
    value_text,
)
from kubernaut_ray.contracts.catalog import LabelValue, Workflow, WorkflowParameter
from kubernaut_ray.errors import InvalidInput

DIFFERS = "SpecDiffers"
SHOWN = 160
"""Of a longer value only so much is told."""
_OF_THE_OBJECT = ("bundle", "bundleDigest")
"""Fields of ``execution`` that say where the schema comes from, which no schema can say of itself."""
_WHOLE = ("customLabels", "detectedLabels", "engineConfig")
"""Maps that are compared as one: a key that only the schema has is a difference too."""
_Problem = tuple[str, str]


def check(expected: Mapping[str, Any], workflow: Workflow) -> None:
    """Compare a declaration with a workflow as read from its bundle.

    Raises ``InvalidInput`` (reason ``SpecDiffers``) whose problems name every path with both values.
    """
    problems = tuple(differences(expected, workflow)) if expected else ()
    if problems:
        listed = "; ".join(f"{path}: {what}" for path, what in problems)
        raise InvalidInput(
            f"the declaration differs from the schema of {workflow.pinned_image}, which is what counts: {listed}. "
            "Correct these fields or leave them out",
            problems=problems,
            reason=DIFFERS,
        )


def differences(expected: Mapping[str, Any], workflow: Workflow) -> Iterator[_Problem]:
    """Yield (path, both values) for each field that is given and is otherwise in the schema."""
    yield from _compare("spec", _canonical(expected), _declared(workflow))


def _compare(path: str, wanted: Any, said: Any) -> Iterator[_Problem]:
    field = path.rpartition(".")[2]
    if isinstance(wanted, Mapping) and isinstance(said, Mapping):
        for key in wanted if field not in _WHOLE else sorted({*wanted, *said}):
            yield from _compare(f"{path}.{key}", wanted.get(key), said.get(key))
    elif (
        isinstance(wanted, list) and isinstance(said, list) and any(isinstance(item, Mapping) for item in wanted + said)
    ):
        if len(wanted) != len(said):
            yield path, f"has {_names(wanted)} here, {_names(said)} in the bundle's schema"
            return
        for index, (one, other) in enumerate(zip(wanted, said, strict=True)):
            yield from _compare(f"{path}[{index}]", one, other)
    elif wanted != said:
        yield path, f"is {_shown(wanted)} here, {_shown(said)} in the bundle's schema"


def _declared(workflow: Workflow) -> dict[str, Any]:
    """Return the whole envelope spec that a workflow's schema amounts to, in the form in which it is compared."""
    raw = load_mapping(workflow.content, "the bundle's schema")
    document = EnvelopeDocument.model_validate(raw).spec if "spec" in raw else FlatDocument.model_validate(raw)
    maintainers = document.maintainers if not isinstance(document, FlatDocument) else document.metadata.maintainers
    dependencies = None if isinstance(document, FlatDocument) else document.dependencies
    engine_config = document.execution.engine_config
    labels = workflow.labels
    return {
        "version": workflow.version,
        "title": workflow.title,
        "description": {to_camel(k): v for k, v in workflow.description.to_json().items()},
        "actionType": workflow.action_type,
        "owner": workflow.owner,
        "maintainers": [maintainer.model_dump() for maintainer in maintainers],
        "labels": {
            "signalType": _choice(labels.signal_type),
            "severity": _choice(labels.severity),
            "component": _choice(labels.component),
            "environment": _choice(labels.environment),
            "priority": _choice(labels.priority),
        },
        "detectedLabels": dict(labels.detected),
        "customLabels": {key: _choice(value) for key, value in labels.custom.items()},
        "execution": {
            "engine": workflow.execution_engine.value,
            "engineConfig": engine_config,
            "serviceAccountName": workflow.service_account_name,
        },
        "dependencies": dependencies.model_dump(mode="json", by_alias=True)
        if dependencies
        else {"secrets": [], "configMaps": []},
        "parameters": [_parameter(p) for p in workflow.parameters],
        "rollbackParameters": [_parameter(p) for p in document.rollback_parameters],
    }


def _parameter(parameter: WorkflowParameter | Parameter) -> dict[str, Any]:
    return {to_camel(key): value for key, value in parameter.model_dump(mode="json").items()}


def _canonical(expected: Mapping[str, Any]) -> dict[str, Any]:
    """Bring a declaration into the form of ``_declared``: lists where one value stands for a list, text where it means text."""
    spec = dict(expected)
    for field in ("labels", "customLabels"):
        if isinstance(spec.get(field), Mapping):
            spec[field] = {key: _choice(value) for key, value in spec[field].items()}
    if isinstance(spec.get("detectedLabels"), Mapping):
        given = spec["detectedLabels"].items()
        spec["detectedLabels"] = {key: "true" if value is True else value for key, value in given if value is not False}
    for field in ("parameters", "rollbackParameters"):
        if isinstance(spec.get(field), list):
            spec[field] = [_given(p) if isinstance(p, Mapping) else p for p in spec[field]]
    if isinstance(spec.get("execution"), Mapping):
        spec["execution"] = {key: value for key, value in spec["execution"].items() if key not in _OF_THE_OBJECT}
    return spec


def _given(parameter: Mapping[str, Any]) -> dict[str, Any]:
    given = dict(parameter)
    if isinstance(given.get("enum"), list):
        given["enum"] = [value_text(value) for value in given["enum"]]
    if "default" in given:
        given["default"] = default_text(given["default"])
    return given


def _choice(value: LabelValue | Any) -> Any:
    """One value and a list of one mean the same, the order of alternatives means nothing, and ``*`` takes in the others."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(item, str) for item in values):
        return value
    return [ANY] if ANY in values else sorted(set(values))


def _names(items: list[Any]) -> str:
    return f"{len(items)} ({', '.join(str(i.get('name', '?')) if isinstance(i, Mapping) else str(i) for i in items)})"


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    text = orjson.dumps(value).decode()
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
