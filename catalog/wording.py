"""Pydantic's errors about ``workflow-schema.yaml`` in plain sentences: the path, what is wrong, what would be right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from catalog.schema_document import KEBAB, PARAMETER, PASCAL, SEMVER, EnvelopeDocument, FlatDocument

_UNION_BRANCH = re.compile(r"^(bool|str|constrained-str)$|[\[(]")
"""Parts of pydantic's error locations that name a branch of a union, not a field."""
_VERSION = "MAJOR.MINOR.PATCH such as 1.2.0"
_MEANT = {
    SEMVER: f"a semantic version {_VERSION}",
    KEBAB: "lower-case letters, digits and hyphens, such as restart-rollout",
    PARAMETER: "capitals, digits and underscores, such as TARGET_NAME",
    PASCAL: "words run together with capitals, such as RestartPod",
}
_KINDS = "kind WorkflowSchema goes with kubernaut.io/v1alpha1, kind RemediationWorkflow with kubernaut.ai/v1alpha1"


def problem(error: ErrorDetails) -> tuple[str, str]:
    """Return an error's path in the document and its sentence."""
    path = ""
    for part in error["loc"]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not _UNION_BRANCH.search(part):
            path += f".{part}" if path else part
    return path, _sentence(error, path)


def _sentence(error: ErrorDetails, path: str) -> str:
    got, field = error["input"], path.rpartition(".")[2]
    shown = f", got {got!r}" if isinstance(got, str | int | float | bool) and len(str(got)) <= 80 else ""
    context = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return f"required, and missing{_misspelt(field, got)}"
        case "extra_forbidden":
            close = difflib.get_close_matches(field, _FIELDS, n=1)
            hint = f"did you mean {close[0]}?" if close and close[0] != field else "check its spelling and its place"
            return f"no such field here; {hint}"
        case "string_type" if field == "version":
            return f"must be a semantic version {_VERSION}{shown}"
        case "string_type":
            return f"must be text{shown}; put it in quotes"
        case "string_pattern_mismatch":
            pattern = str(context["pattern"])
            return f"must be {_MEANT.get(pattern, f'like {pattern}')}{shown}"
        case "literal_error" if field in {"apiVersion", "api_version"}:
            return f"must be {context['expected']}{shown}; {_KINDS}"
        case "enum" | "literal_error":
            return f"must be {context['expected']}{shown}"
        case "bool_parsing" | "bool_type":
            return f"must be true or false{shown}"
        case "int_parsing" | "int_type" | "int_from_float":
            return f"must be a whole number{shown}"
        case "too_short":
            return f"must have at least {context['min_length']} entry"
        case "too_long":
            return f"may have at most {context['max_length']} entries, has {context['actual_length']}"
        case "string_too_short":
            return "must not be empty"
        case "string_too_long":
            return f"may have at most {context['max_length']} characters"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"must be a mapping of fields{shown}"
        case "tuple_type" | "list_type":
            return f"must be a list{shown}"
        case _:
            return f"{error['msg'][:1].lower()}{error['msg'][1:]}{shown}"


def _misspelt(field: str, siblings: Any) -> str:
    """Name the key beside a missing field that looks like it."""
    if not isinstance(siblings, dict):
        return ""
    close = difflib.get_close_matches(field, [key for key in siblings if key not in _FIELDS], n=1)
    return f"; is {close[0]!r} meant for it?" if close else ""


def _fields(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[str]:
    """Yield the name of every field of a document, as it is written."""
    seen.add(model)
    for name, field in model.model_fields.items():
        yield field.alias or name
        for found in _models(field.annotation):
            if found not in seen:
                yield from _fields(found, seen)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models(part)


_FIELDS = frozenset(name for model in (FlatDocument, EnvelopeDocument) for name in _fields(model, set()))
