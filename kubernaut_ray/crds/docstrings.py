"""What stands under the fields of a model: read from the source when a schema is written, and only then.

pydantic can do it at each import (``use_attribute_docstrings``), but parses the module once for every class in it, which
costs every process a quarter of a second for texts that only the schemas hold.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema


class Described(GenerateJsonSchema):
    """JSON Schema whose properties carry the docstrings of their fields."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        describe(made, schema["cls"])
        return made


def describe(schema: JsonSchemaValue, model: type[BaseModel]) -> None:
    """Put the docstrings of a model's fields into its JSON Schema, where nothing else is said."""
    properties: Mapping[str, dict[str, Any]] = schema.get("properties", {})
    texts = fields(model)
    for name, field in model.model_fields.items():
        shown = properties.get(field.alias or name, properties.get(name))
        if shown is not None and name in texts:
            shown.setdefault("description", texts[name])


def fields(model: type[BaseModel]) -> Mapping[str, str]:
    """Return the docstrings under the fields of a class and its bases, by Python name; the class's own win."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            found.update(_parsed(base.__module__).get(base.__qualname__, {}))
    return found


@lru_cache
def _parsed(module: str) -> Mapping[str, Mapping[str, str]]:
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {name: dict(_told(body)) for name, body in _classes(tree.body, "")}


def _classes(body: list[ast.stmt], within: str) -> Iterator[tuple[str, list[ast.stmt]]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield f"{within}{node.name}", node.body
            yield from _classes(node.body, f"{within}{node.name}.")


def _told(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for field, said in pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(said, ast.Expr)
            and isinstance(said.value, ast.Constant)
            and isinstance(said.value.value, str)
        ):
            yield field.target.id, inspect.cleandoc(said.value.value)
