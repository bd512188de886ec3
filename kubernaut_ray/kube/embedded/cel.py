"""``x-kubernetes-validations``: a small, correct subset of CEL over JSON values.

Covers comparison, logic, arithmetic, ``in``, ``has``, ``size``, the text functions and the ``all``, ``exists``, ``exists_one``,
``map`` and ``filter`` macros over ``self`` and ``oldSelf``. A rule that uses anything else is refused when the CRD is
stored: a rule is either evaluated or not accepted, never ignored. Field names are checked against the schema, as the real
server's type checker does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from kubernaut_ray.kube.embedded import cel_syntax as syntax
from kubernaut_ray.kube.embedded.cel_syntax import CelError, Tree

Scope = Mapping[str, Any]
Thunk = Callable[[Scope], Any]
Schema = Mapping[str, Any]
Meaning = tuple[Thunk, Schema | None]
Names = Mapping[str, Schema | None]

_REASONS = ("FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate")
_RULE_FIELDS = {"rule", "message", "messageExpression", "reason", "fieldPath", "optionalOldSelf"}


class Unevaluable(Exception):
    """An expression failed on this value (a missing key, a division by zero, values of the wrong type)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One validation rule of a schema node."""

    test: Thunk
    text: str
    message: str
    message_expression: Thunk | None
    reason: str
    field_path: str
    transition: bool
    kind: str

    @classmethod
    def compiled(cls, rule: Any, schema: Schema) -> Rule:
        """Compile an ``x-kubernetes-validations`` item in its schema. Raises ``CelError``."""
        if not isinstance(rule, Mapping) or not isinstance(rule.get("rule"), str) or not rule["rule"].strip():
            raise CelError("a rule needs the text of an expression under 'rule'")
        if unknown := set(rule) - _RULE_FIELDS:
            raise CelError(f"unknown fields {sorted(unknown)}")
        if rule.get("optionalOldSelf"):
            raise CelError("optionalOldSelf is not supported")
        reason = rule.get("reason") or "FieldValueInvalid"
        if reason not in _REASONS:
            raise CelError(f"reason {reason!r} is not one of {', '.join(_REASONS)}")
        schemas: dict[str, Schema | None] = {"self": schema, "oldSelf": schema}
        tree = syntax.parse(rule["rule"])
        expression = rule.get("messageExpression")
        return cls(
            test=_meaning(tree, schemas)[0],
            text=rule["rule"].strip(),
            message=rule.get("message") or f"failed rule: {rule['rule'].strip()}",
            message_expression=_meaning(syntax.parse(expression), schemas)[0] if expression else None,
            reason=reason,
            field_path=rule.get("fieldPath") or "",
            transition=_uses_old(tree),
            kind=schema.get("type") or "object",
        )

    def problems(self, value: Any, old: Any) -> list[tuple[str, str, str]]:
        """Return ``(path below the node, cause reason, message)`` when the rule does not hold.

        A rule about ``oldSelf`` is skipped when there is no old value.
        """
        if self.transition and old is None:
            return []
        scope = {"self": value, "oldSelf": old}
        try:
            held = self.test(scope)
            if held is True:
                return []
            message = self.message
            if self.message_expression is not None:
                message = str(self.message_expression(scope))
        except Unevaluable as error:
            message = f"rule evaluation failed: {self.text}: {error}"
        prefix = {
            "FieldValueInvalid": f'Invalid value: "{self.kind}": ',
            "FieldValueForbidden": "Forbidden: ",
            "FieldValueRequired": "Required value: ",
            "FieldValueDuplicate": f'Duplicate value: "{self.kind}": ',
        }[self.reason]
        return [(self.field_path, self.reason, prefix + message)]


def expression(text: str, names: Names) -> Thunk:
    """Compile an expression of these variables. Raises ``CelError``; the result raises ``Unevaluable``."""
    return _meaning(syntax.parse(text), names)[0]


def _uses_old(tree: Tree) -> bool:
    match tree:
        case syntax.Name(name):
            return name == "oldSelf"
        case syntax.Literal():
            return False
        case syntax.Select(target, _):
            return _uses_old(target)
        case syntax.Index(target, index):
            return _uses_old(target) or _uses_old(index)
        case syntax.Call(target, _, arguments):
            return (target is not None and _uses_old(target)) or any(map(_uses_old, arguments))
        case syntax.Unary(_, operand):
            return _uses_old(operand)
        case syntax.Binary(_, left, right):
            return _uses_old(left) or _uses_old(right)
        case syntax.Conditional(test, then, otherwise):
            return any(map(_uses_old, (test, then, otherwise)))
        case syntax.ListOf(items):
            return any(map(_uses_old, items))
        case syntax.MapOf(pairs):
            return any(_uses_old(k) or _uses_old(v) for k, v in pairs)


def _field_name(escaped: str) -> str:
    """Undo the escaping of property names that CEL cannot spell."""
    if (
        escaped.startswith("__")
        and escaped.endswith("__")
        and escaped[2:-2] in syntax.RESERVED | {"true", "false", "null", "in"}
    ):
        return escaped[2:-2]
    for written, meant in (("__dot__", "."), ("__dash__", "-"), ("__slash__", "/"), ("__underscores__", "__")):
        escaped = escaped.replace(written, meant)
    return escaped


def _field_schema(schema: Schema | None, name: str) -> Schema | None:
    if schema is None:
        return None
    if name in (schema.get("properties") or {}):
        return schema["properties"][name]  # type: ignore[no-any-return]
    additional = schema.get("additionalProperties")
    if isinstance(additional, Mapping):
        return additional
    if schema.get("x-kubernetes-embedded-resource") and name in ("apiVersion", "kind", "metadata"):
        return None
    if "properties" in schema and name in ("apiVersion", "kind", "metadata"):
        return None
    raise CelError(f"undefined field {name!r}")


def _item_schema(schema: Schema | None) -> Schema | None:
    if schema is None:
        return None
    items = schema.get("items") or (schema.get("additionalProperties") if schema.get("type") == "object" else None)
    return items if isinstance(items, Mapping) else None


def _meaning(tree: Tree, names: Names) -> Meaning:
    """Turn a tree into a function of its scope, with the schema of its result where that is known."""
    match tree:
        case syntax.Literal(value):
            return (lambda _: value), None
        case syntax.Name(name):
            if name not in names:
                raise CelError(f"undeclared reference to {name!r}")
            return (lambda scope: scope[name]), names[name]
        case syntax.Select(target, escaped):
            inner, schema = _meaning(target, names)
            field = _field_name(escaped)
            below = _field_schema(schema, field)
            return (lambda scope: _select(inner(scope), field)), below
        case syntax.Index(target, index):
            inner, schema = _meaning(target, names)
            at = _meaning(index, names)[0]
            return (lambda scope: _indexed(inner(scope), at(scope))), _item_schema(schema)
        case syntax.Unary(operator, operand):
            inner = _meaning(operand, names)[0]
            return (lambda scope: _unary(operator, inner(scope))), None
        case syntax.Binary("&&" | "||" as operator, left, right):
            one, two = _meaning(left, names)[0], _meaning(right, names)[0]
            decisive = operator == "||"
            return (lambda scope: _decided((partial(one, scope), partial(two, scope)), decisive=decisive)), None
        case syntax.Binary(operator, left, right):
            one, two = _meaning(left, names)[0], _meaning(right, names)[0]
            return (lambda scope: _binary(operator, one(scope), two(scope))), None
        case syntax.Conditional(test, then, otherwise):
            check = _meaning(test, names)[0]
            (yes, schema), no = _meaning(then, names), _meaning(otherwise, names)[0]
            return (lambda scope: yes(scope) if _truth(check(scope)) else no(scope)), schema
        case syntax.ListOf(items):
            parts = [_meaning(item, names)[0] for item in items]
            return (lambda scope: [part(scope) for part in parts]), None
        case syntax.MapOf(pairs):
            made = [(_meaning(k, names)[0], _meaning(v, names)[0]) for k, v in pairs]
            return (lambda scope: {k(scope): v(scope) for k, v in made}), None
        case syntax.Call(target, function, arguments):
            return _call(target, function, arguments, names)


_MACROS = ("all", "exists", "exists_one", "map", "filter")


def _call(target: Tree | None, function: str, arguments: tuple[Tree, ...], names: Names) -> Meaning:
    if function == "has" and target is None:
        if len(arguments) != 1 or not isinstance(arguments[0], syntax.Select):
            raise CelError("has() takes one field selection, as in has(self.field)")
        inner, schema = _meaning(arguments[0].target, names)
        field = _field_name(arguments[0].field)
        _field_schema(schema, field)
        return (lambda scope: _has(inner(scope), field)), None
    if target is not None and function in _MACROS:
        return _macro(target, function, arguments, names)
    parts = [_meaning(a, names)[0] for a in ((target, *arguments) if target is not None else arguments)]
    known = _METHODS if target is not None else _FUNCTIONS
    if function not in known:
        raise CelError(f"function {function!r} is not supported")
    count, implementation = known[function]
    if len(parts) != count:
        raise CelError(f"{function}() takes {count - (target is not None)} arguments")
    if function == "matches" and isinstance(arguments[-1], syntax.Literal):
        _pattern(arguments[-1].value, at_compile=True)

    def call(scope: Scope) -> Any:
        try:
            return implementation(*(part(scope) for part in parts))
        except (TypeError, ValueError, AttributeError) as error:
            raise Unevaluable(f"{function}(): no such overload ({error})") from None

    return call, None


def _macro(target: Tree, function: str, arguments: tuple[Tree, ...], names: Names) -> Meaning:
    wanted = (2, 3) if function == "map" else (2,)
    if len(arguments) not in wanted or not isinstance(arguments[0], syntax.Name):
        raise CelError(f"{function}() takes a variable and an expression")
    inner, schema = _meaning(target, names)
    variable = arguments[0].name
    over_keys = schema is not None and schema.get("type") == "object"
    within = {**names, variable: None if over_keys else _item_schema(schema)}
    body = [_meaning(a, within)[0] for a in arguments[1:]]

    def each(scope: Scope) -> list[Scope]:
        values = inner(scope)
        if not isinstance(values, (list, dict)):
            raise Unevaluable(f"{function}(): not a list or a map")
        return [{**scope, variable: value} for value in values]

    def run(scope: Scope) -> Any:
        scopes = each(scope)
        match function:
            case "map" if len(body) == 2:
                return [body[1](s) for s in scopes if _truth(body[0](s))]
            case "map":
                return [body[0](s) for s in scopes]
            case "filter":
                return [s[variable] for s in scopes if _truth(body[0](s))]
            case "exists_one":
                return sum(_truth(body[0](s)) for s in scopes) == 1
            case _:
                return _decided([partial(body[0], s) for s in scopes], decisive=function == "exists")

    return run, (schema if function == "filter" else None)


def _decided(tests: Iterable[Callable[[], Any]], *, decisive: bool) -> bool:
    """Combine tests by or (decisive ``True``) or and (``False``): an error counts only if no other test decides."""
    error: Unevaluable | None = None
    for test in tests:
        try:
            if _truth(test()) is decisive:
                return decisive
        except Unevaluable as failed:
            error = failed
    if error is not None:
        raise error
    return not decisive


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Unevaluable("no such overload: expected a bool")
    return value


def _select(value: Any, field: str) -> Any:
    if not isinstance(value, dict) or field not in value:
        raise Unevaluable(f"no such key: {field}")
    return value[field]


def _has(value: Any, field: str) -> bool:
    if not isinstance(value, dict):
        raise Unevaluable(f"no such key: {field}")
    return value.get(field) is not None


def _indexed(value: Any, index: Any) -> Any:
    if isinstance(value, dict) and index in value:
        return value[index]
    if isinstance(value, list) and isinstance(index, int) and 0 <= index < len(value):
        return value[index]
    raise Unevaluable(f"no such key or index: {index}")


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _unary(operator: str, value: Any) -> Any:
    if operator == "!":
        return not _truth(value)
    if not _number(value):
        raise Unevaluable("no such overload: -")
    return -value


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, bool) is not isinstance(right, bool):
        return False
    return bool(left == right)


def _binary(operator: str, left: Any, right: Any) -> Any:
    if operator in ("==", "!="):
        return _equal(left, right) is (operator == "==")
    if operator == "in":
        if isinstance(right, dict):
            return left in right
        if isinstance(right, list):
            return any(_equal(left, item) for item in right)
        raise Unevaluable("no such overload: in")
    numbers = _number(left) and _number(right)
    texts = isinstance(left, str) and isinstance(right, str)
    if operator in ("<", "<=", ">", ">=") and (numbers or texts):
        return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator]
    if operator == "+" and (numbers or texts or (isinstance(left, list) and isinstance(right, list))):
        return left + right
    if operator in ("-", "*") and numbers:
        return left - right if operator == "-" else left * right
    if operator in ("/", "%") and numbers:
        return _divided(operator, left, right)
    raise Unevaluable(f"no such overload: {operator}")


def _divided(operator: str, left: float, right: float) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        if right == 0:
            raise Unevaluable("division by zero" if operator == "/" else "modulus by zero")
        quotient = abs(left) // abs(right) * (1 if (left < 0) is (right < 0) else -1)
        return quotient if operator == "/" else left - quotient * right
    if operator == "%" or right == 0:
        raise Unevaluable(f"no such overload: {operator}")
    return left / right


def _pattern(text: Any, *, at_compile: bool = False) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        if at_compile:
            raise CelError(f"{text!r} is no regular expression: {error}") from None
        raise Unevaluable(f"{text!r} is no regular expression: {error}") from None


_FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "size": (1, len),
    "int": (1, int),
    "double": (1, float),
    "string": (1, lambda v: {True: "true", False: "false"}[v] if isinstance(v, bool) else str(v)),
}
_METHODS: dict[str, tuple[int, Callable[..., Any]]] = {
    "size": (1, len),
    "startsWith": (2, str.startswith),
    "endsWith": (2, str.endswith),
    "contains": (2, lambda text, part: part in text if isinstance(text, str) else _binary("in", part, None)),
    "matches": (2, lambda text, pattern: bool(_pattern(pattern).search(text))),
    "lowerAscii": (1, str.lower),
    "upperAscii": (1, str.upper),
    "trim": (1, str.strip),
    "split": (2, str.split),
    "join": (2, lambda items, glue: glue.join(items)),
}
