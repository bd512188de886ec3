"""The CEL subset of x-kubernetes-validations."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.kube.embedded.cel import Rule
from kubernaut_ray.kube.embedded.cel_syntax import CelError, parse

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "count": {"type": "integer"},
        "ratio": {"type": "number"},
        "on": {"type": "boolean"},
        "namespace": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "ports": {
            "type": "array",
            "items": {"type": "object", "properties": {"name": {"type": "string"}, "port": {"type": "integer"}}},
        },
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "nested": {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {"type": "integer"}}}}},
    },
}
VALUE: dict[str, Any] = {
    "name": "web-1",
    "count": 3,
    "ratio": 0.5,
    "on": True,
    "namespace": "prod",
    "tags": ["a", "b"],
    "ports": [{"name": "http", "port": 80}, {"name": "https", "port": 443}],
    "labels": {"app": "web"},
    "nested": {"a": {"b": 1}},
}


def rule(text: str, **extra: Any) -> Rule:
    return Rule.compiled({"rule": text, **extra}, SCHEMA)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("self.count == 3", True),
        ("self.count != 3", False),
        ("self.count > 2 && self.count <= 3", True),
        ("self.count < 2 || self.name == 'web-1'", True),
        ("!(self.on)", False),
        ("self.ratio < 1.0", True),
        ("self.count + 1 == 4 && self.count * 2 - 1 == 5 && 7 / 2 == 3 && -7 % 2 == -1", True),
        ("has(self.name) && !has(self.labels.missing)", True),
        ("has(self.nested.a.b)", True),
        ("size(self.tags) == 2 && self.tags.size() == 2 && size(self.name) == 5", True),
        ("'a' in self.tags && !('z' in self.tags) && 'app' in self.labels", True),
        ("self.count in [1, 2, 3]", True),
        ("self.name.startsWith('web') && self.name.endsWith(\"1\") && self.name.contains('-')", True),
        ("self.name.matches('^[a-z]+-[0-9]$')", True),
        ("self.tags.all(t, size(t) == 1)", True),
        ("self.tags.exists(t, t == 'b') && self.tags.exists_one(t, t == 'b')", True),
        ("self.ports.filter(p, p.port > 100).map(p, p.name) == ['https']", True),
        ("self.labels.all(k, k.startsWith('a'))", True),
        ("self.on ? self.count == 3 : false", True),
        ("self.ports[1].port == 443 && self.labels['app'] == 'web'", True),
        ("self.__namespace__ == 'prod'", True),
        ("true || self.labels['missing'] == 'x'", True),
        ("self.labels['missing'] == 'x' || true", True),
        ("false && self.labels['missing'] == 'x'", False),
        ("self.tags + ['c'] == ['a', 'b', 'c']", True),
        ("{'a': 1}['a'] == 1", True),
        ("string(self.count) == '3' && int('4') == 4", True),
        ("null == null", True),
        ("1 < 2 == true", True),
    ],
)
def test_expressions(text: str, holds: bool) -> None:
    """Values, operators, functions and macros, with CEL's precedence and its error-absorbing logic."""
    assert holds is (rule(text).problems(VALUE, None) == [])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("self.missing == 1", "undefined field 'missing'"),
        ("self.nested.a.c == 1", "undefined field 'c'"),
        ("has(self.missing)", "undefined field 'missing'"),
        ("other == 1", "undeclared reference to 'other'"),
        ("timestamp(self.name) > timestamp('x')", "function 'timestamp' is not supported"),
        ("self.name.reverse() == 'x'", "function 'reverse' is not supported"),
        ("self.namespace == 'x'", "reserved word"),
        ("self.count ==", "ends too early"),
        ("self.count = 1", "unexpected character"),
        ("(self.count == 1", r"expected '\)'"),
        ("self.name.matches('[')", "no regular expression"),
        ("has(self)", "takes one field selection"),
        ("", "needs the text"),
        ("size(1, 2) == 1", "takes 1 arguments"),
        ("self.tags.all(1, true)", "takes a variable"),
        ("1u == 1u", "unsigned"),
    ],
)
def test_refusals(text: str, why: str) -> None:
    """What cannot be evaluated is refused when the rule is compiled, and says why."""
    with pytest.raises(CelError, match=why):
        rule(text)


def test_transition_rules_need_an_old_value() -> None:
    """A rule about oldSelf is skipped on creation and enforced on change."""
    immutable = rule("self == oldSelf", message="spec is immutable")
    assert immutable.problems(VALUE, None) == []
    assert immutable.problems(VALUE, dict(VALUE)) == []
    assert immutable.problems({**VALUE, "count": 4}, VALUE) == [
        ("", "FieldValueInvalid", 'Invalid value: "object": spec is immutable')
    ]


def test_transition_inside_a_disjunction() -> None:
    """Write-once: set it if unset, then never again."""
    once = rule("!has(oldSelf.name) || self.name == oldSelf.name")
    assert once.problems({"name": "x"}, {}) == []
    assert once.problems({"name": "y"}, {"name": "x"}) != []


def test_a_rule_that_fails_to_evaluate_is_a_problem() -> None:
    """A missing optional field is not true."""
    [(_, _, message)] = rule("self.name == 'x'").problems({}, None)
    assert "no such key: name" in message


def test_message_expression_reason_and_path() -> None:
    """The rule chooses words, cause and place."""
    given_ = rule(
        "self.count < 3",
        messageExpression="'count is ' + string(self.count)",
        reason="FieldValueForbidden",
        fieldPath=".count",
    )
    assert given_.problems(VALUE, None) == [(".count", "FieldValueForbidden", "Forbidden: count is 3")]


@given(st.text(alphabet="selfoldSelf.()[]{}&|!=<>+-*/%?:,'\"0123456789 has", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """The parser answers every text with a tree or a CelError."""
    with contextlib.suppress(CelError):
        parse(text)


def test_deep_nesting_is_refused() -> None:
    """No text exhausts the stack."""
    with pytest.raises(CelError, match="too deeply"):
        parse("(" * 5000 + "1" + ")" * 5000)
    with pytest.raises(CelError, match="too deeply"):
        parse("!" * 5000 + "true")
    with pytest.raises(CelError, match="too long"):
        parse("1" + " + 1" * 5000)
