"""What a directory of policies decides, and why it does not compile: the work behind ``kubernaut-ray policy check``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from kubernaut_ray.crds.enums import PolicyFault
from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.policy import bundle as bundles
from kubernaut_ray.policy.answers import complaint
from kubernaut_ray.policy.bundle import Module
from kubernaut_ray.policy.engine import MAX_INPUT_BYTES
from kubernaut_ray.policy.interpreter import Problem
from kubernaut_ray.policy.rehearsal import rehearse
from kubernaut_ray.policy.verdict import Evaluation, PolicyError, Undefined, Verdict

SIGNAL_PROCESSING = (
    "signalprocessing/environment/result",
    "signalprocessing/severity/result",
    "signalprocessing/priority/result",
    "signalprocessing/business/result",
    "signalprocessing/labels/labels",
)
APPROVAL = ("aianalysis/approval/require_approval", "aianalysis/approval/reason")
ENTRYPOINTS = SIGNAL_PROCESSING + APPROVAL
"""Everything that the system asks of policies."""
_ENVIRONMENT, _SEVERITY = SIGNAL_PROCESSING[:2]
_COMPLETE_RULE = re.compile(
    r"^(?!default\b|package\b|import\b)([a-z_]\w*(?:\([^)\n]*\))?)\s*(?::=|=(?!=)|if\b)", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class TestOutcome:
    name: str
    """``package.rule``."""
    passed: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """``missing`` are entry points that no package declares; ``problems`` say why it does not compile."""

    sha256: str
    packages: tuple[str, ...]
    problems: tuple[Problem, ...]
    evaluations: Mapping[str, Evaluation]
    tests: tuple[TestOutcome, ...]
    missing: tuple[str, ...]

    @property
    def faults(self) -> Mapping[str, str]:
        """Entry points that gave no usable answer on this input (rules in conflict, errors, words that nobody knows)."""
        found = {entrypoint: fault(entrypoint, answer) for entrypoint, answer in self.evaluations.items()}
        return {entrypoint: message for entrypoint, message in found.items() if message}

    @property
    def ok(self) -> bool:
        """It compiles, its own tests pass, and what it says on the input is understood."""
        return not self.problems and not self.faults and all(test.passed for test in self.tests)


def check(
    directory: Path, input_: Mapping[str, Any] | None = None, *, entrypoints: Sequence[str] = ENTRYPOINTS
) -> Report:
    """Compile the policies, run their tests, and evaluate the entry points on ``input_``. Raises ``InvalidInput``.

    As in the system, what the policies say of environment and severity is in the input of the other questions, unless
    ``input_`` has these fields itself.
    """
    subject = dict(input_ or {})
    size = len(orjson.dumps(subject))
    if size > MAX_INPUT_BYTES:
        raise InvalidInput(f"the input has {size} bytes; policies get at most {MAX_INPUT_BYTES}")
    bundle = bundles.load(directory)
    tests = bundles.load_tests(directory)
    packages = tuple(sorted({module.package for module in bundle.modules}))
    missing = tuple(e for e in entrypoints if e.rsplit("/", 1)[0].replace("/", ".") not in packages)
    wanted = [entrypoint for entrypoint in entrypoints if entrypoint not in missing]
    rehearsal = rehearse(bundle.modules, wanted, orjson.dumps(subject).decode())
    problems, evaluations = rehearsal.problems, dict(rehearsal.evaluations)
    judged = {**_judged(evaluations), **subject}
    if not problems and judged != subject:
        rest = [entrypoint for entrypoint in wanted if entrypoint not in {_ENVIRONMENT, _SEVERITY}]
        evaluations |= rehearse(bundle.modules, rest, orjson.dumps(judged).decode()).evaluations
    evaluations = {e: _placed(e, answer, bundle.modules) for e, answer in evaluations.items()}
    outcomes: tuple[TestOutcome, ...] = ()
    if not problems and tests:
        rules = {
            f"{module.package.replace('.', '/')}/{rule}": f"{module.package}.{rule}"
            for module in tests
            for rule in module.test_rules
        }
        tried = rehearse((*bundle.modules, *tests), tuple(rules))
        problems = tried.problems
        outcomes = tuple(_outcome(rules[entrypoint], answer) for entrypoint, answer in tried.evaluations.items())
    return Report(bundle.sha256, packages, problems, evaluations, outcomes, missing)


def fault(entrypoint: str, answer: Evaluation) -> str:
    """Say what is wrong with an answer; empty for one that is understood, and for a question that no rule applied to."""
    match answer:
        case PolicyError():
            return str(answer)
        case Undefined():
            return ""
        case Verdict(value):
            return complaint(entrypoint, value)


def _judged(evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
    environment, severity = evaluations.get(_ENVIRONMENT), evaluations.get(_SEVERITY)
    found: dict[str, Any] = {}
    if isinstance(environment, Verdict) and not complaint(_ENVIRONMENT, environment.value):
        found["environment"] = environment.value["environment"]
    if isinstance(severity, Verdict) and not complaint(_SEVERITY, severity.value):
        found["severity"] = severity.value
    return found


def _placed(entrypoint: str, answer: Evaluation, modules: Sequence[Module]) -> Evaluation:
    """Add to a conflict, whose place the evaluator does not tell, the rules of its package that have several bodies."""
    if not (isinstance(answer, PolicyError) and answer.fault is PolicyFault.CONFLICT):
        return answer
    package = entrypoint.rsplit("/", 1)[0].replace("/", ".")
    places: dict[str, list[str]] = {}
    for module in modules:
        for found in _COMPLETE_RULE.finditer(module.source) if module.package == package else ():
            line = module.source.count("\n", 0, found.start()) + 1
            places.setdefault(found[1], []).append(f"{module.name}:{line}")
    rivals = [f"{rule} ({', '.join(where)})" for rule, where in places.items() if len(where) > 1]
    hint = f"; look at {'; '.join(rivals)}, and join them with else" if rivals else ""
    return PolicyError(answer.fault, answer.message + hint)


def _outcome(name: str, answer: Evaluation) -> TestOutcome:
    match answer:
        case Verdict(True):
            return TestOutcome(name, passed=True)
        case PolicyError():
            return TestOutcome(name, passed=False, message=str(answer))
        case _:
            return TestOutcome(name, passed=False, message="does not hold")
