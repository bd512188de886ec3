"""Alertmanager's matchers: ``severity="critical"``, ``team=~"a|b"``, ``env!=test``, ``name!~"x.*"``, in braces or not.

Notification routes and silences are made of these. Parses the ``matchers:`` lists of Alertmanager 0.22 and later (names and
values quoted or bare, several in one text separated by commas) and the older ``match`` and ``match_re`` maps. A label that
is missing counts as empty; expressions match the whole value. They are RE2's, as Alertmanager's are, and take time linear in
the value: an expression that backtracks could hold up everything else. What does not parse is refused with the place where
it stops making sense.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import re2

from kubernaut_ray.errors import InvalidInput

Operator = Literal["=", "!=", "=~", "!~"]
MAX_EXPRESSION = 4096

_NAME = re.compile(r"""[^\s{}!=~,\\"'`]+""")
_OPERATOR = re.compile(r"=~|!~|!=|=")
_QUOTED = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")
_BARE = re.compile(r'[^,"]*')
_ESCAPES = {"n": "\n", '"': '"', "\\": "\\"}


class Expression(Protocol):
    """A compiled regular expression; ``fullmatch`` gives ``None`` when it does not match."""

    def fullmatch(self, text: str) -> object: ...


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label. ``expression`` is compiled for ``=~`` and ``!~``."""

    name: str
    operator: Operator
    value: str
    expression: Expression | None = field(default=None, compare=False)

    @classmethod
    def of(cls, name: str, operator: Operator, value: str) -> Matcher:
        """Build a matcher; raises ``InvalidInput`` on an expression that does not compile."""
        if not name:
            raise InvalidInput("a matcher needs a label name")
        if operator in {"=", "!="}:
            return cls(name, operator, value)
        try:
            return cls(name, operator, value, expression(value))
        except InvalidInput as error:
            raise InvalidInput(f"matcher {name}{operator}{value!r}: {error}") from error

    @property
    def narrows(self) -> bool:
        """Whether it is not met by every label set that lacks the label, as Alertmanager counts: negative ones are not."""
        match self.operator:
            case "=":
                return self.value != ""
            case "=~":
                return not self.matches({})
            case "!=" | "!~":
                return True

    def matches(self, labels: Mapping[str, str]) -> bool:
        have = labels.get(self.name, "")
        if self.expression is None:
            return (have == self.value) is (self.operator == "=")
        return (self.expression.fullmatch(have) is not None) is (self.operator == "=~")

    def __str__(self) -> str:
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.name}{self.operator}"{escaped}"'


def expression(text: str) -> Expression:
    """Compile an expression in RE2's syntax. Raises ``InvalidInput``."""
    if len(text) > MAX_EXPRESSION:
        raise InvalidInput(f"the expression has {len(text)} characters; {MAX_EXPRESSION} are allowed")
    options = re2.Options()
    options.log_errors = False
    try:
        compiled: Expression = re2.compile(text, options)
    except re2.error as error:
        (cause,) = error.args
        told = cause.decode(errors="replace") if isinstance(cause, bytes) else cause
        raise InvalidInput(f"the expression does not compile: {told}") from error
    except UnicodeEncodeError as error:
        raise InvalidInput("the expression is no text: it holds half of a surrogate pair") from error
    return compiled


def parse(text: str) -> tuple[Matcher, ...]:
    """Parse one entry of a ``matchers:`` list. Raises ``InvalidInput``."""
    inner = text.strip()
    if inner.startswith("{") != inner.endswith("}") and inner.startswith("{"):
        raise InvalidInput(f"matcher {text!r}: the opening brace is never closed")
    if inner.startswith("{"):
        inner = inner[1:-1]
    found: list[Matcher] = []
    position = _blank(inner, 0)
    while position < len(inner):
        matcher, position = _one(inner, position)
        found.append(matcher)
        if position < len(inner):
            if inner[position] != ",":
                raise InvalidInput(f"matcher {text!r}: expected a comma at {inner[position:]!r}")
            position = _blank(inner, position + 1)
    return tuple(found)


def parse_all(
    matchers: Iterable[str] = (), match: Mapping[str, str] | None = None, match_re: Mapping[str, str] | None = None
) -> tuple[Matcher, ...]:
    """Return the matchers of a route in all three spellings, all of which must hold."""
    listed = [matcher for text in matchers for matcher in parse(text)]
    equal = [Matcher.of(name, "=", value) for name, value in (match or {}).items()]
    alike = [Matcher.of(name, "=~", value) for name, value in (match_re or {}).items()]
    return (*equal, *alike, *listed)


def _one(text: str, position: int) -> tuple[Matcher, int]:
    name, position = _quoted(text, position)
    if name is None:
        bare = _NAME.match(text, position)
        if bare is None:
            raise InvalidInput(f"matcher {text!r}: expected a label name at {text[position:]!r}")
        name, position = bare[0], bare.end()
    operator = _OPERATOR.match(text, position := _blank(text, position))
    if operator is None:
        raise InvalidInput(f'matcher {text!r}: expected =, !=, =~ or !~ after {name!r}, for example {name}="value"')
    value, after = _quoted(text, _blank(text, operator.end()))
    if value is None:
        bare = _BARE.match(text, after)
        value, after = (bare[0].strip(), bare.end()) if bare else ("", after)
    return Matcher.of(name, _operator(operator[0]), value), _blank(text, after)


def _quoted(text: str, position: int) -> tuple[str | None, int]:
    found = _QUOTED.match(text, position)
    if found is None:
        if text[position : position + 1] == '"':
            raise InvalidInput(f"matcher {text!r}: the quote at {text[position:]!r} is never closed")
        return None, position
    return _ESCAPE.sub(lambda m: _ESCAPES.get(m[1], m[0]), found[1]), found.end()


def _blank(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _operator(text: str) -> Operator:
    match text:
        case "=" | "!=" | "=~" | "!~":
            return text
        case _:
            raise AssertionError(text)
