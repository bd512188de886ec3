"""From the parameters that a model gave to the ones that are executed.

The target is never the model's to name: ``TARGET_RESOURCE_*`` come from the resolved target of the incident. Harmless
differences of spelling are mended; everything else is checked against the workflow's schema, all errors at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from catalog.workflow import validate_parameters
from kubernaut_ray.contracts.catalog import Workflow, WorkflowParameter
from kubernaut_ray.contracts.investigation import IncidentRequest
from kubernaut_ray.crds.enums import ParameterType
from kubernaut_ray.crds.shared import TargetResource

_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


@dataclass(frozen=True, slots=True)
class Prepared:
    """``values`` are what would be executed, valid only without ``errors``; ``warnings`` tell what was overruled."""

    values: dict[str, str]
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def target_values(target: TargetResource) -> dict[str, str]:
    """Return the parameters that name the target."""
    return {
        "TARGET_RESOURCE_KIND": target.kind,
        "TARGET_RESOURCE_NAME": target.name,
        "TARGET_RESOURCE_NAMESPACE": target.namespace,
        "TARGET_RESOURCE_API_VERSION": target.api_version,
    }


def prepare(workflow: Workflow, given: Mapping[str, str], target: TargetResource) -> Prepared:
    """Mend, fill in the target and the defaults, and validate."""
    declared = {p.name: p for p in workflow.parameters}
    injected = target_values(target)
    warnings = tuple(
        f"{name}: {given[name]!r} was given; the resolved target's {value!r} is used"
        for name, value in injected.items()
        if name in declared and name in given and given[name] != value
    )
    values = {p.name: p.default for p in workflow.parameters if p.default is not None}
    for name, value in given.items():
        parameter = declared.get(name) or declared.get(name.upper().replace("-", "_"))
        if parameter is None and name in injected:
            continue
        values[parameter.name if parameter else name] = _mended(parameter, value) if parameter else value
    values.update({name: value for name, value in injected.items() if name in declared and (value or name in values)})
    for name, parameter in declared.items():
        if values.get(name) == "" and not parameter.required:
            del values[name]
    return Prepared(values, validate_parameters(workflow.parameters, values), warnings)


def repeats(request: IncidentRequest, workflow: Workflow, parameters: dict[str, str]) -> int | None:
    """Return the number (from 1) of the failed attempt that had this workflow and these parameters."""
    for number, attempt in enumerate(request.previous_executions, 1):
        before = attempt.selected_workflow
        same = before.workflow_id == workflow.workflow_id or before.workflow_name == workflow.workflow_name != ""
        if same and _given(workflow, before.parameters) == _given(workflow, parameters):
            return number
    return None


def _given(workflow: Workflow, parameters: dict[str, str]) -> dict[str, str]:
    return {**{p.name: p.default for p in workflow.parameters if p.default is not None}, **parameters}


def schema_text(workflow: Workflow) -> str:
    """Render the parameter schema for a model to read."""
    return "\n".join(
        json.dumps(p.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False)
        for p in workflow.parameters
        if not p.name.startswith("TARGET_RESOURCE_")
    )


def _mended(parameter: WorkflowParameter, value: str) -> str:
    """Return the value as the schema spells it, where it is the same value; else as it was given."""
    text = value.strip()
    match parameter.type:
        case ParameterType.BOOLEAN:
            word = text.lower()
            return "true" if word in _TRUE else "false" if word in _FALSE else value
        case ParameterType.INTEGER:
            whole, dot, zeros = text.partition(".")
            return whole if dot and whole.lstrip("+-").isdigit() and set(zeros) <= {"0"} else text
        case ParameterType.ARRAY:
            return value if text.startswith("[") else json.dumps([p.strip() for p in text.split(",") if p.strip()])
        case ParameterType.STRING:
            same = [e for e in parameter.enum if e.lower() == text.lower()]
            return same[0] if len(same) == 1 else value
