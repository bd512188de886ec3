"""Structural schemas (apiextensions v1) as compiled trees: prune, default and validate JSON values.

``compiled`` reads an OpenAPI v3 structural schema and refuses what is not structural or cannot be evaluated here, so that
no constraint is ever silently ignored. Both CRDs and the built-in kinds' generated schemas become such trees.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kubernaut_ray.kube.embedded.cel import Rule
from kubernaut_ray.kube.embedded.cel_syntax import CelError
from kubernaut_ray.kube.embedded.formats import FORMATS
from kubernaut_ray.kube.embedded.patches import copied
from kubernaut_ray.kube.embedded.status import Cause, Obj, invalid_value, required, shown, unsupported

_NONE: Any = object()
_TYPES = ("object", "array", "string", "integer", "number", "boolean")


class SchemaError(ValueError):
    """A schema that cannot be used; ``path`` points into the schema."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path, self.why = path, why


@dataclass(slots=True)
class Node:
    """One compiled schema."""

    type: str = ""
    properties: dict[str, Node] = field(default_factory=dict)
    additional: Node | bool | None = None
    items: Node | None = None
    required: tuple[str, ...] = ()
    enum: tuple[Any, ...] | None = None
    pattern: re.Pattern[str] | None = None
    format: str = ""
    bounds: dict[str, float] = field(default_factory=dict)
    nullable: bool = False
    int_or_string: bool = False
    preserve: bool = False
    embedded: bool = False
    default: Any = _NONE
    list_type: str = ""
    map_keys: tuple[str, ...] = ()
    atomic_map: bool = False
    rules: tuple[Rule, ...] = ()
    all_of: tuple[Node, ...] = ()
    any_of: tuple[Node, ...] = ()
    one_of: tuple[Node, ...] = ()
    negated: Node | None = None
    has_defaults: bool = False
    has_rules: bool = False
    ruled: dict[str, Node] = field(default_factory=dict)
    """The properties that have rules, or something below them does."""
    combined: bool = False
    """Whether there is an allOf, anyOf, oneOf or not."""

    def child(self, name: str) -> Node | None:
        """Return the schema of a field."""
        found = self.properties.get(name)
        if found is None and isinstance(self.additional, Node):
            return self.additional
        return found


_BOUNDS = (
    "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "multipleOf",
)  # fmt: skip
_KNOWN = {
    *_BOUNDS,
    "type", "properties", "additionalProperties", "items", "required", "enum", "pattern", "format", "nullable", "default",
    "exclusiveMinimum", "exclusiveMaximum", "uniqueItems", "allOf", "anyOf", "oneOf", "not", "description", "title", "example",
    "externalDocs", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string", "x-kubernetes-embedded-resource",
    "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type", "x-kubernetes-validations",
}  # fmt: skip


_NUMBER = (int, float)
_SHAPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(_BOUNDS, _NUMBER),
    **dict.fromkeys(("type", "pattern", "format", "x-kubernetes-list-type", "x-kubernetes-map-type"), str),
    **dict.fromkeys(("required", "enum", "allOf", "anyOf", "oneOf", "x-kubernetes-validations"), list),
    "x-kubernetes-list-map-keys": list,
    "properties": dict,
}


def compiled(schema: Any, path: str = "openAPIV3Schema", *, nested: bool = False) -> Node:
    """Compile a structural schema. ``nested`` is for the value validations inside allOf, anyOf, oneOf and not."""
    if not isinstance(schema, Mapping):
        raise SchemaError(path, "must be an object")
    for key in schema:
        if key not in _KNOWN:
            raise SchemaError(f"{path}.{key}", f"unknown field {key!r} in a structural schema")
    for key, wanted in _SHAPES.items():
        if schema.get(key) is not None and (
            not isinstance(schema[key], wanted) or (wanted is _NUMBER and schema[key] is True)
        ):
            raise SchemaError(f"{path}.{key}", f"{shown(schema[key])} is of the wrong type")
    for key in ("required", "x-kubernetes-list-map-keys"):
        if not all(isinstance(name, str) for name in schema.get(key) or ()):
            raise SchemaError(f"{path}.{key}", "must be a list of names")
    node = Node(
        type=schema.get("type") or "",
        required=tuple(schema.get("required") or ()),
        enum=tuple(schema["enum"]) if schema.get("enum") is not None else None,
        format=schema.get("format") or "",
        nullable=bool(schema.get("nullable")),
        int_or_string=bool(schema.get("x-kubernetes-int-or-string")),
        preserve=bool(schema.get("x-kubernetes-preserve-unknown-fields")),
        embedded=bool(schema.get("x-kubernetes-embedded-resource")),
        list_type=schema.get("x-kubernetes-list-type") or "",
        map_keys=tuple(schema.get("x-kubernetes-list-map-keys") or ()),
        atomic_map=schema.get("x-kubernetes-map-type") == "atomic",
        bounds={k: schema[k] for k in _BOUNDS if schema.get(k) is not None},
    )
    for key in ("exclusiveMinimum", "exclusiveMaximum", "uniqueItems"):
        if schema.get(key):
            node.bounds[key] = 1
    if node.type and node.type not in _TYPES:
        raise SchemaError(f"{path}.type", f"{node.type!r} is not one of {', '.join(_TYPES)}")
    if not node.type and not nested and not (node.int_or_string or node.preserve):
        raise SchemaError(f"{path}.type", "Required value: must not be empty for specified object fields")
    if schema.get("pattern") is not None:
        try:
            node.pattern = re.compile(schema["pattern"])
        except re.error as error:
            raise SchemaError(f"{path}.pattern", f"{schema['pattern']!r} is no regular expression: {error}") from None
    _compile_children(node, schema, path, nested=nested)
    for i, rule in enumerate(schema.get("x-kubernetes-validations") or ()):
        where = f"{path}.x-kubernetes-validations[{i}]"
        try:
            node.rules = (*node.rules, Rule.compiled(rule, schema))
        except CelError as error:
            raise SchemaError(f"{where}.rule", f"{shown(rule)} cannot be evaluated by this server: {error}") from None
    if schema.get("default") is not None:
        node.default = schema["default"]
        value = copied(node.default)
        apply_defaults(node, value)
        if wrong := validate(node, value, "default", None):
            raise SchemaError(f"{path}.default", "; ".join(str(w) for w in wrong))
    below = [*node.properties.values(), *(n for n in (node.items, node.additional) if isinstance(n, Node))]
    node.has_defaults = any(n.default is not _NONE or n.has_defaults for n in below)
    node.has_rules = bool(node.rules) or any(n.has_rules for n in below)
    node.ruled = {name: child for name, child in node.properties.items() if child.has_rules}
    return node


def _compile_children(node: Node, schema: Mapping[str, Any], path: str, *, nested: bool) -> None:
    properties = schema.get("properties") or {}
    node.properties = {k: compiled(v, f"{path}.properties[{k}]", nested=nested) for k, v in properties.items()}
    additional = schema.get("additionalProperties")
    if isinstance(additional, Mapping):
        if properties:
            raise SchemaError(
                f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive"
            )
        node.additional = compiled(additional, f"{path}.additionalProperties", nested=nested)
    elif additional is not None:
        node.additional = bool(additional)
    if schema.get("items") is not None:
        node.items = compiled(schema["items"], f"{path}.items", nested=nested)
    elif node.type == "array" and not nested:
        raise SchemaError(f"{path}.items", "Required value: must be specified")
    if node.list_type not in ("", "atomic", "set", "map"):
        raise SchemaError(f"{path}.x-kubernetes-list-type", "must be atomic, set or map")
    if node.list_type == "map" and not node.map_keys:
        raise SchemaError(f"{path}.x-kubernetes-list-map-keys", "Required value: must not be empty if list-type is map")
    for key, attribute in (("allOf", "all_of"), ("anyOf", "any_of"), ("oneOf", "one_of")):
        parts = schema.get(key) or ()
        setattr(node, attribute, tuple(compiled(p, f"{path}.{key}[{i}]", nested=True) for i, p in enumerate(parts)))
    node.combined = bool(node.all_of or node.any_of or node.one_of or schema.get("not") is not None)
    if schema.get("not") is not None:
        node.negated = compiled(schema["not"], f"{path}.not", nested=True)


# pruning


def prune(node: Node, value: Any, path: str, *, root: bool = False) -> list[str]:
    """Drop fields that the schema does not know, in place. Returns their paths."""
    dropped: list[str] = []
    if isinstance(value, dict):
        kept = ("apiVersion", "kind", "metadata") if root or node.embedded else ()
        for key, item in tuple(value.items()):
            if key in kept:
                continue
            child = node.child(key)
            if child is not None:
                if isinstance(item, (dict, list)):
                    dropped += prune(child, item, f"{path}.{key}" if path else key)
            elif not node.preserve and node.additional is not True:
                del value[key]
                dropped.append(f"{path}.{key}" if path else key)
    elif isinstance(value, list) and node.items is not None:
        for i, item in enumerate(value):
            if isinstance(item, (dict, list)):
                dropped += prune(node.items, item, f"{path}[{i}]")
    return dropped


# defaulting


def has_default(node: Node) -> bool:
    """Whether a value that is missing is filled in."""
    return node.default is not _NONE


def apply_defaults(node: Node, value: Any) -> None:
    """Fill in defaults, in place, as apiextensions does: only inside objects that exist or are defaulted themselves."""
    if isinstance(value, dict):
        for key, child in node.properties.items():
            if child.default is not _NONE and (key not in value or (value[key] is None and not child.nullable)):
                value[key] = copied(child.default)
            if child.has_defaults and key in value:
                apply_defaults(child, value[key])
        if isinstance(node.additional, Node) and node.additional.has_defaults:
            for item in value.values():
                apply_defaults(node.additional, item)
    elif isinstance(value, list) and node.items is not None and node.items.has_defaults:
        for item in value:
            apply_defaults(node.items, item)


def drop_nulls(node: Node, value: Any) -> None:
    """Remove ``null`` where the schema does not allow it, in place: clients mean "unset"."""
    if isinstance(value, dict):
        for key, item in tuple(value.items()):
            if item is None:
                child = node.child(key)
                if child is not None and not child.nullable and not child.preserve:
                    del value[key]
            elif isinstance(item, (dict, list)) and (child := node.child(key)) is not None:
                drop_nulls(child, item)
    elif isinstance(value, list) and node.items is not None:
        for item in value:
            if isinstance(item, (dict, list)):
                drop_nulls(node.items, item)


# validation


_TYPE_NAMES: Mapping[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


def _type_of(value: Any) -> str:
    return _TYPE_NAMES.get(type(value), "null")


def _fits(node: Node, value: Any, kind: str) -> bool:
    if node.int_or_string:
        return kind in ("integer", "string")
    if not node.type or node.type == kind:
        return True
    if node.type == "number":
        return kind == "integer"
    return node.type == "integer" and kind == "number" and float(value).is_integer()


def validate(node: Node, value: Any, path: str, old: Any, *, skip: tuple[str, ...] = ()) -> list[Cause]:
    """Check a value. ``old`` is the value before the change, or ``None``; ``skip`` names fields checked elsewhere."""
    if value is None:
        if node.nullable:
            return []
        return [invalid_value(path, None, f'{path} in body must be of type {node.type or "object"}: "null"')]
    kind = _type_of(value)
    if not _fits(node, value, kind):
        wanted = "integer or string" if node.int_or_string else node.type
        return [_wrong(path, value if kind not in ("object", "array") else kind, f'must be of type {wanted}: "{kind}"')]
    causes: list[Cause] = []
    if node.enum is not None and value not in node.enum:
        causes.append(unsupported(path, value, node.enum))
    match kind:
        case "string":
            if node.bounds or node.format or node.pattern is not None:
                causes += _check_text(node, value, path)
        case "integer" | "number":
            causes += check_number(node, value, path)
        case "object":
            causes += _check_object(node, value, path, old, skip)
        case "array":
            causes += _check_list(node, value, path, old)
        case _:
            pass
    if node.combined:
        causes += _check_combinations(node, value, path)
    if node.rules and not causes:
        causes += broken_rules(node, value, path, old)
    return causes


def untouched(value: Mapping[str, Any], old: Mapping[str, Any]) -> frozenset[str]:
    """Return the fields that are the very same objects in memory as before."""
    return frozenset([key for key, item in value.items() if item is old.get(key, _NONE)])


def rule_problems(node: Node, value: Any, path: str, old: Any) -> list[Cause]:
    """Ask only the validation rules of a value and of what it holds: everything else is known to be right."""
    if not node.has_rules:
        return []
    causes: list[Cause] = []
    if isinstance(value, dict):
        before = old if isinstance(old, dict) else {}
        other = node.additional if isinstance(node.additional, Node) and node.additional.has_rules else None
        for key, item in value.items() if node.ruled or other is not None else ():
            child = node.ruled.get(key, other)
            if child is not None:
                causes += rule_problems(child, item, _join(path, key), before.get(key))
    elif isinstance(value, list) and node.items is not None and node.items.has_rules:
        previous = _by_key(node, old)
        for i, item in enumerate(value):
            known = previous.get(item_key(item, node.map_keys)) if isinstance(item, dict) else None
            causes += rule_problems(node.items, item, f"{path}[{i}]", known)
    return causes or broken_rules(node, value, path, old)


def broken_rules(node: Node, value: Any, path: str, old: Any) -> list[Cause]:
    """Ask the validation rules of a value itself."""
    return [
        Cause(f"{path}{sub}", reason, message)
        for rule in node.rules
        for sub, reason, message in rule.problems(value, old)
    ]


def _by_key(node: Node, items: Any) -> dict[Any, Any]:
    """Return the items of a map list by what identifies them."""
    if node.list_type != "map" or not isinstance(items, list):
        return {}
    return {item_key(item, node.map_keys): item for item in items if isinstance(item, dict)}


def _wrong(path: str, value: Any, why: str) -> Cause:
    return invalid_value(path, value, f"{path} in body {why}")


def _check_text(node: Node, value: str, path: str) -> list[Cause]:
    causes = []
    if (limit := node.bounds.get("maxLength")) is not None and len(value) > limit:
        causes.append(Cause(path, "FieldValueTooLong", f"Too long: may not be more than {int(limit)} bytes"))
    if (limit := node.bounds.get("minLength")) is not None and len(value) < limit:
        causes.append(_wrong(path, value, f"should be at least {int(limit)} chars long"))
    if node.pattern is not None and not node.pattern.search(value):
        causes.append(_wrong(path, value, f"should match '{node.pattern.pattern}'"))
    check = FORMATS.get(node.format)
    if check is not None and not check(value):
        causes.append(_wrong(path, value, f'must be of type {node.format}: "{value[:100]}"'))
    return causes


def check_number(node: Node, value: float, path: str) -> list[Cause]:
    """Say what is wrong with a number."""
    bounds, causes = node.bounds, []
    if (low := bounds.get("minimum")) is not None and (value < low or (value == low and "exclusiveMinimum" in bounds)):
        than = "greater than" if "exclusiveMinimum" in bounds else "greater than or equal to"
        causes.append(_wrong(path, value, f"should be {than} {low}"))
    if (high := bounds.get("maximum")) is not None and (
        value > high or (value == high and "exclusiveMaximum" in bounds)
    ):
        than = "less than" if "exclusiveMaximum" in bounds else "less than or equal to"
        causes.append(_wrong(path, value, f"should be {than} {high}"))
    if (step := bounds.get("multipleOf")) and value % step:
        causes.append(_wrong(path, value, f"should be a multiple of {step}"))
    size = {"int32": 2**31, "int64": 2**63}.get(node.format)
    if size is not None and not -size <= value < size:
        causes.append(_wrong(path, value, f"must fit {node.format}"))
    return causes


def _check_object(node: Node, value: Obj, path: str, old: Any, skip: tuple[str, ...]) -> list[Cause]:
    before = old if isinstance(old, dict) else {}
    causes = [required(_join(path, name)) for name in node.required if name not in value]
    count = len(value)
    if (limit := node.bounds.get("maxProperties")) is not None and count > limit:
        causes.append(Cause(path, "FieldValueTooMany", f"Too many: {count}: must have at most {int(limit)} items"))
    if (limit := node.bounds.get("minProperties")) is not None and count < limit:
        causes.append(_wrong(path, "object", f"should have at least {int(limit)} properties"))
    for key, item in value.items():
        if key in skip:
            continue
        child = node.child(key)
        if child is not None:
            causes += validate(child, item, _join(path, key), before.get(key))
        elif node.additional is False and not node.preserve and not node.embedded:
            causes.append(_wrong(_join(path, key), key, "is a forbidden property"))
    return causes


def _check_list(node: Node, value: list[Any], path: str, old: Any) -> list[Cause]:
    causes = []
    count = len(value)
    if (limit := node.bounds.get("maxItems")) is not None and count > limit:
        causes.append(Cause(path, "FieldValueTooMany", f"Too many: {count}: must have at most {int(limit)} items"))
    if (limit := node.bounds.get("minItems")) is not None and count < limit:
        causes.append(_wrong(path, value, f"should have at least {int(limit)} items"))
    previous = _by_key(node, old)
    if node.items is not None:
        for i, item in enumerate(value):
            before = previous.get(item_key(item, node.map_keys)) if previous and isinstance(item, dict) else None
            causes += validate(node.items, item, f"{path}[{i}]", before)
    if not causes and (node.list_type in ("map", "set") or "uniqueItems" in node.bounds):
        seen: set[Any] = set()
        for i, item in enumerate(value):
            key = item_key(item, node.map_keys) if node.list_type == "map" else repr(item)
            if key in seen:
                causes.append(Cause(f"{path}[{i}]", "FieldValueDuplicate", f"Duplicate value: {item!r}"))
            seen.add(key)
    return causes


def item_key(item: Any, keys: tuple[str, ...]) -> Any:
    """Return what identifies an item of a map list."""
    return tuple(repr(item.get(k)) for k in keys)


def _check_combinations(node: Node, value: Any, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for part in node.all_of:
        causes += validate(part, value, path, None)
    if node.any_of and all(validate(part, value, path, None) for part in node.any_of):
        causes.append(_wrong(path, value, "must validate at least one schema (anyOf)"))
    if node.one_of and sum(not validate(part, value, path, None) for part in node.one_of) != 1:
        causes.append(_wrong(path, value, "must validate one and only one schema (oneOf)"))
    if node.negated is not None and not validate(node.negated, value, path, None):
        causes.append(_wrong(path, value, "must not validate the schema (not)"))
    return causes


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
