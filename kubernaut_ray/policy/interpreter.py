"""The only user of rego-cpp (``regopy``): compile modules once, evaluate entry points, turn every odd answer into a type.

A ``Compiled`` belongs to the thread that made it; the evaluator gives wrong answers when an interpreter is shared. What
rego-cpp does and this module repairs: errors come as exceptions, as text in place of JSON, or as an output that is not
ok; input built from Python values is not escaped, so input always goes in as JSON text; a call of a built-in that
rego-cpp lacks is silently undefined, so such calls are refused at compilation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import regopy

from kubernaut_ray.crds.enums import PolicyFault
from kubernaut_ray.policy.bundle import Module
from kubernaut_ray.policy.verdict import Evaluation, PolicyError, Undefined, Verdict

_POSITION = re.compile(r"\(error (?:\d+:(?P<file>[^|\s]*))?\|(?P<offset>\d+)\|")
_MESSAGE = re.compile(r"\(errormsg (\d+):")
_TEXT = re.compile(r'"(?:\\.|[^"\\\n])*"|`[^`]*`|#[^\n]*')
_CALL = re.compile(r"(?<![\w.\]])([a-z_]\w*(?:\.[a-z_]\w*)*)\(")
_FUNCTION = re.compile(r"^\s*(?:default\s+)?([a-z_]\w*)\(", re.MULTILINE)
_IMPORT = re.compile(r"^\s*import\s+(?:[\w.]+\.)?(\w+)(?:\s+as\s+(\w+))?", re.MULTILINE)
_KEYWORDS = frozenset({"if", "in", "not", "some", "every", "else", "with", "as", "default", "contains"})
_CONFLICT = "must not produce multiple outputs"
MAX_OUTPUT = 65_536
"""Characters of one answer as JSON; more is a fault, because answers go into statuses and audit."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason why a policy does not compile. ``line`` and ``column`` count from 1; 0 when the place is not known."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.message}" if place else self.message


class DoesNotCompile(Exception):
    """Carries every ``Problem`` found."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


class Compiled:
    """Modules compiled for a fixed set of entry points, written ``package/path/rule``."""

    def __init__(self, modules: Sequence[Module], entrypoints: Sequence[str]) -> None:
        """Compile. Raises ``DoesNotCompile``."""
        self._interpreter = regopy.Interpreter()
        self._interpreter.log_level = regopy.LogLevel.NONE
        self._interpreter.strict_built_in_errors = True
        self._entrypoints = frozenset(entrypoints)
        if missing := tuple(_lacking(modules, self._interpreter)):
            raise DoesNotCompile(missing)
        problems: list[Problem] = []
        for module in modules:
            try:
                self._interpreter.add_module(module.name, module.source)
            except regopy.RegoError as error:
                problems.extend(_problems(str(error), modules, module.name))
        if problems:
            raise DoesNotCompile(tuple(problems))
        try:
            self._bundle = self._interpreter.build(None, list(entrypoints))
        except regopy.RegoError as error:
            raise DoesNotCompile(tuple(_problems(str(error), modules, ""))) from error
        if not self._bundle.ok():
            raise DoesNotCompile(
                (Problem("", 0, 0, "the policies could not be built, and the evaluator does not say why"),)
            )

    def evaluate(self, entrypoint: str, term: str) -> Evaluation:
        """Evaluate one entry point on an input given as JSON text."""
        if entrypoint not in self._entrypoints:
            raise ValueError(f"{entrypoint} was not compiled; give it to the engine with the others")
        try:
            self._interpreter.set_input_term(term)
            output = self._interpreter.query_bundle_entrypoint(self._bundle, entrypoint)
        except regopy.RegoError as error:
            return _fault(entrypoint, str(error))
        except json.JSONDecodeError as error:
            # Some errors are printed where the JSON of the result should be.
            return _fault(entrypoint, error.doc)
        if not output.ok():
            root = output.node()
            return _fault(entrypoint, " ".join(root.at(index).json() for index in range(len(root))))
        if (size := len(str(output))) > MAX_OUTPUT:
            return PolicyError(
                PolicyFault.OUTPUT_TOO_LARGE, f"{entrypoint}: an answer of {size} characters; at most {MAX_OUTPUT}"
            )
        values: list[Any] = output.results[0].expressions if output.results else []
        return Verdict(values[0]) if values else Undefined()


def _fault(entrypoint: str, text: str) -> PolicyError:
    message = "; ".join(_messages(text)) or "the evaluator gave an answer that is not JSON and no reason for it"
    fault = PolicyFault.CONFLICT if _CONFLICT in message else PolicyFault.EVALUATION
    return PolicyError(fault, f"{entrypoint}: {message}")


def _messages(text: str) -> Iterator[str]:
    """Yield the messages of a rego-cpp error tree; each is written with its length in front."""
    seen = set()
    for match in _MESSAGE.finditer(text):
        message = text[match.end() : match.end() + int(match[1])]
        if message not in seen:
            seen.add(message)
            yield message


def _problems(text: str, modules: Sequence[Module], default: str) -> Iterator[Problem]:
    sources = {module.name: module.source.encode() for module in modules}
    places = [(m["file"] or default, int(m["offset"])) for m in _POSITION.finditer(text)]
    messages = [text[m.end() : m.end() + int(m[1])] for m in _MESSAGE.finditer(text)]
    if not messages:
        yield Problem(default, 0, 0, text.strip()[:500])
    for index, message in enumerate(messages):
        file, offset = places[index] if index < len(places) else (default, -1)
        if file not in sources or offset < 0:
            yield Problem(file, 0, 0, message)
            continue
        before = sources[file][:offset]
        yield Problem(file, before.count(b"\n") + 1, offset - before.rfind(b"\n"), message)


def _lacking(modules: Sequence[Module], interpreter: Any) -> Iterator[Problem]:
    """Yield calls of functions that neither the evaluator nor any module has."""
    blanked = {module.name: _TEXT.sub(lambda m: " " * len(m[0]), module.source) for module in modules}
    defined = {name for text in blanked.values() for name in _FUNCTION.findall(text)}
    for name, text in blanked.items():
        imported = {alias or last for last, alias in _IMPORT.findall(text)} | {"data", "input"}
        for match in _CALL.finditer(text):
            function = match[1]
            if function in defined or function in _KEYWORDS or function.split(".")[0] in imported:
                continue
            if not interpreter.is_builtin(function):
                before = text[: match.start()]
                column = match.start() - before.rfind("\n")
                yield Problem(name, before.count("\n") + 1, column, f"this evaluator has no function {function}")
