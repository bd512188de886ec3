"""Checking parameter values against what a workflow declares. All values are text, as Tekton takes them.

Called where an answer of a model is validated and, again, where a workflow is executed; every error is one sentence that
says what would be right, so that the list can be given back to whoever chose the values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from kubernaut_ray.contracts.catalog import WorkflowParameter
from kubernaut_ray.crds.enums import ParameterType

MAX_VALUE = 4096
_INTEGER = re.compile(r"[+-]?\d{1,18}")


def validate_parameters(parameters: Sequence[WorkflowParameter], values: Mapping[str, str]) -> tuple[str, ...]:
    """Return every error of these values, none when they may be executed."""
    declared = {p.name: p for p in parameters}
    errors = [
        f"{name}: the workflow has no such parameter; it has {', '.join(declared) or 'none'}"
        for name in values
        if name not in declared
    ]
    for parameter in parameters:
        value = values.get(parameter.name)
        if value is None or (value == "" and parameter.required):
            if parameter.required and parameter.default is None:
                errors.append(f"{parameter.name}: required, and not given{_hint(parameter)}")
            continue
        errors.extend(value_errors(parameter, value))
        errors.extend(
            f"{parameter.name}: needs {other}, which is not given"
            for other in parameter.depends_on
            if not values.get(other) and (other not in declared or declared[other].default is None)
        )
    return tuple(errors)


def value_errors(parameter: WorkflowParameter, value: str) -> Iterator[str]:
    """Yield what is wrong with one value."""
    name = parameter.name
    if len(value) > MAX_VALUE:
        yield f"{name}: {len(value)} characters, at most {MAX_VALUE} are taken"
        return
    if "\x00" in value:
        yield f"{name}: holds a NUL character, which no process can be given"
        return
    match parameter.type:
        case ParameterType.INTEGER:
            yield from _integer_errors(parameter, value)
        case ParameterType.BOOLEAN:
            if value not in ("true", "false"):
                yield f"{name}: must be true or false, got {value!r}"
        case ParameterType.ARRAY:
            yield from _array_errors(parameter, value)
        case ParameterType.STRING:
            yield from _text_errors(parameter, value)


def _hint(parameter: WorkflowParameter) -> str:
    if parameter.enum:
        return f" (one of {', '.join(parameter.enum)})"
    return f" ({parameter.description})" if parameter.description else ""


def _integer_errors(parameter: WorkflowParameter, value: str) -> Iterator[str]:
    if not _INTEGER.fullmatch(value):
        yield f"{parameter.name}: must be a whole number, got {value!r}"
        return
    number = int(value)
    if parameter.minimum is not None and number < parameter.minimum:
        yield f"{parameter.name}: must be at least {parameter.minimum}, got {number}"
    if parameter.maximum is not None and number > parameter.maximum:
        yield f"{parameter.name}: must be at most {parameter.maximum}, got {number}"
    if parameter.enum and str(number) not in parameter.enum:
        yield f"{parameter.name}: must be one of {', '.join(parameter.enum)}, got {number}"


def _array_errors(parameter: WorkflowParameter, value: str) -> Iterator[str]:
    try:
        items = json.loads(value)
    except (ValueError, RecursionError):
        items = None
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        yield f'{parameter.name}: must be a JSON list of strings such as ["a", "b"], got {value!r}'
        return
    if parameter.min_length is not None and len(items) < parameter.min_length:
        yield f"{parameter.name}: must have at least {parameter.min_length} items, got {len(items)}"
    if parameter.max_length is not None and len(items) > parameter.max_length:
        yield f"{parameter.name}: must have at most {parameter.max_length} items, got {len(items)}"
    for item in items:
        if parameter.enum and item not in parameter.enum:
            yield f"{parameter.name}: items must be among {', '.join(parameter.enum)}, got {item!r}"
        if parameter.pattern and not re.fullmatch(parameter.pattern, item):
            yield f"{parameter.name}: items must match {parameter.pattern}, got {item!r}"


def _text_errors(parameter: WorkflowParameter, value: str) -> Iterator[str]:
    name = parameter.name
    if parameter.enum and value not in parameter.enum:
        yield f"{name}: must be one of {', '.join(parameter.enum)}, got {value!r}"
    if parameter.pattern and not re.fullmatch(parameter.pattern, value):
        yield f"{name}: must match {parameter.pattern} as a whole, got {value!r}"
    if parameter.min_length is not None and len(value) < parameter.min_length:
        yield f"{name}: must have at least {parameter.min_length} characters, got {len(value)}"
    if parameter.max_length is not None and len(value) > parameter.max_length:
        yield f"{name}: must have at most {parameter.max_length} characters, got {len(value)}"
