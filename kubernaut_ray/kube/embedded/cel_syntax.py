"""The syntax of the Common Expression Language subset: text → tree. ``cel.py`` gives the tree its meaning.

Grammar from the CEL language definition: conditional, logical, relational (with ``in``), additive, multiplicative, unary,
member access, index, call, literals for numbers, text, booleans, null, lists and maps. Refuses everything else by name.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<float>\d+\.\d+(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+)
    | (?P<int>0x[0-9a-fA-F]+|\d+)(?P<unsigned>[uU])?
    | (?P<raw>[rR](?:'[^'\n]*'|"[^"\n]*"))
    | (?P<text>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<op>\|\||&&|==|!=|<=|>=|\?|[-+*/%!<>()\[\]{}.,:])
    )""",
    re.VERBOSE,
)
RESERVED = frozenset({
    "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package", "namespace",
    "return", "var", "void", "while",
})  # fmt: skip
_MAX_DEPTH = 40
_MAX_STEPS = 200
"""Operators and member accesses in one expression; like the depth, it bounds the stack that evaluation needs."""


class CelError(ValueError):
    """An expression that cannot be read or given a meaning here."""


@dataclass(frozen=True, slots=True)
class Literal:
    value: Any


@dataclass(frozen=True, slots=True)
class Name:
    name: str


@dataclass(frozen=True, slots=True)
class Select:
    target: Tree
    field: str


@dataclass(frozen=True, slots=True)
class Index:
    target: Tree
    index: Tree


@dataclass(frozen=True, slots=True)
class Call:
    """A function call, or a method call when ``target`` is given."""

    target: Tree | None
    function: str
    arguments: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Unary:
    operator: str
    operand: Tree


@dataclass(frozen=True, slots=True)
class Binary:
    operator: str
    left: Tree
    right: Tree


@dataclass(frozen=True, slots=True)
class Conditional:
    test: Tree
    then: Tree
    otherwise: Tree


@dataclass(frozen=True, slots=True)
class ListOf:
    items: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class MapOf:
    pairs: tuple[tuple[Tree, Tree], ...]


Tree = Literal | Name | Select | Index | Call | Unary | Binary | Conditional | ListOf | MapOf

_LEVELS: tuple[tuple[str, ...], ...] = (
    ("||",),
    ("&&",),
    ("==", "!=", "<", "<=", ">", ">=", "in"),
    ("+", "-"),
    ("*", "/", "%"),
)


def _tokens(text: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    position = 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            raise CelError(f"unexpected character at {text[position:].strip()[:12]!r}")
        position = match.end()
        kind = match.lastgroup or ""
        if kind == "unsigned":
            raise CelError("unsigned literals are not supported")
        if kind == "int":
            found.append(("literal", int(match["int"], 0) if match["int"][:2] == "0x" else int(match["int"])))
        elif kind == "float":
            found.append(("literal", float(match["float"])))
        elif kind == "raw":
            found.append(("literal", match["raw"][2:-1]))
        elif kind == "text":
            found.append(("literal", _unquoted(match["text"])))
        else:
            found.append((kind, match[kind]))
    return found


def _unquoted(text: str) -> str:
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        raise CelError(f"bad text literal {text}") from None
    return str(value)


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0
        self._steps = 0

    def parse(self) -> Tree:
        tree = self._expression()
        if self._at < len(self._tokens):
            raise CelError(f"unexpected {self._tokens[self._at][1]!r} after the expression")
        return tree

    def _count_step(self) -> None:
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise CelError(f"the expression is too long (more than {_MAX_STEPS} steps)")

    def _peek(self) -> tuple[str, Any]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _take(self, operator: str) -> bool:
        if self._peek() in (("op", operator), ("name", operator)):
            self._at += 1
            return True
        return False

    def _expect(self, operator: str) -> None:
        if not self._take(operator):
            raise CelError(f"expected {operator!r}, found {self._peek()[1]!r}")

    def _expression(self) -> Tree:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise CelError("the expression is nested too deeply")
        test = self._binary(0)
        if self._take("?"):
            then = self._binary(0)
            self._expect(":")
            test = Conditional(test, then, self._expression())
        self._depth -= 1
        return test

    def _binary(self, level: int) -> Tree:
        if level == len(_LEVELS):
            return self._unary()
        left = self._binary(level + 1)
        while (found := self._peek())[1] in _LEVELS[level] and found[0] in ("op", "name"):
            self._at += 1
            self._count_step()
            left = Binary(str(found[1]), left, self._binary(level + 1))
        return left

    def _unary(self) -> Tree:
        for operator in ("!", "-"):
            if self._take(operator):
                self._depth += 1
                if self._depth > _MAX_DEPTH:
                    raise CelError("the expression is nested too deeply")
                operand = self._unary()
                self._depth -= 1
                return Unary(operator, operand)
        return self._member()

    def _member(self) -> Tree:
        tree = self._primary()
        while True:
            self._count_step()
            if self._take("."):
                kind, name = self._peek()
                if kind != "name":
                    raise CelError(f"expected a field name after '.', found {name!r}")
                self._at += 1
                if self._take("("):
                    tree = Call(tree, name, self._arguments(")"))
                else:
                    if name in RESERVED:
                        raise CelError(f"{name!r} is a reserved word; write __{name}__")
                    tree = Select(tree, name)
            elif self._take("["):
                tree = Index(tree, self._expression())
                self._expect("]")
            else:
                return tree

    def _arguments(self, closing: str) -> tuple[Tree, ...]:
        found: list[Tree] = []
        while not self._take(closing):
            if found:
                self._expect(",")
                if self._take(closing):
                    break
            found.append(self._expression())
        return tuple(found)

    def _primary(self) -> Tree:
        kind, value = self._peek()
        self._at += 1
        if kind == "literal":
            return Literal(value)
        if kind == "name":
            if value in ("true", "false", "null"):
                return Literal({"true": True, "false": False, "null": None}[value])
            if value in RESERVED or value == "in":
                raise CelError(f"{value!r} is a reserved word")
            if self._take("("):
                return Call(None, value, self._arguments(")"))
            return Name(value)
        if (kind, value) == ("op", "("):
            tree = self._expression()
            self._expect(")")
            return tree
        if (kind, value) == ("op", "["):
            return ListOf(self._arguments("]"))
        if (kind, value) == ("op", "{"):
            return self._map()
        raise CelError(f"unexpected {value!r}" if value else "the expression ends too early")

    def _map(self) -> Tree:
        pairs: list[tuple[Tree, Tree]] = []
        while not self._take("}"):
            if pairs:
                self._expect(",")
                if self._take("}"):
                    break
            key = self._expression()
            self._expect(":")
            pairs.append((key, self._expression()))
        return MapOf(tuple(pairs))


def parse(text: str) -> Tree:
    """Parse an expression. Raises ``CelError`` saying what is wrong."""
    return _Parser(text).parse()
