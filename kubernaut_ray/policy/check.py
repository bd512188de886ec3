"""What a directory of policies decides, and why it does not compile: the work behind ``kubernaut-ray policy check``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from kubernaut_ray.policy import bundle as bundles
from kubernaut_ray.policy.interpreter import Problem
from kubernaut_ray.policy.rehearsal import rehearse
from kubernaut_ray.policy.verdict import Evaluation, Verdict

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


@dataclass(frozen=True, slots=True)
class TestOutcome:
    name: str
    """``package.rule``."""
    passed: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """``ok`` means: it compiles and its own tests pass. ``missing`` are entry points that no package declares."""

    sha256: str
    packages: tuple[str, ...]
    problems: tuple[Problem, ...]
    evaluations: Mapping[str, Evaluation]
    tests: tuple[TestOutcome, ...]
    missing: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems and all(test.passed for test in self.tests)


def check(
    directory: Path, input_: Mapping[str, Any] | None = None, *, entrypoints: Sequence[str] = ENTRYPOINTS
) -> Report:
    """Compile the policies, run their tests, and evaluate the entry points on ``input_``. Raises ``InvalidInput``."""
    bundle = bundles.load(directory)
    tests = bundles.load_tests(directory)
    packages = tuple(sorted({module.package for module in bundle.modules}))
    missing = tuple(e for e in entrypoints if e.rsplit("/", 1)[0].replace("/", ".") not in packages)
    wanted = [entrypoint for entrypoint in entrypoints if entrypoint not in missing]
    rehearsal = rehearse(bundle.modules, wanted, orjson.dumps(input_ or {}).decode())
    outcomes: tuple[TestOutcome, ...] = ()
    problems = rehearsal.problems
    if not problems and tests:
        rules = {
            f"{module.package.replace('.', '/')}/{rule}": f"{module.package}.{rule}"
            for module in tests
            for rule in module.test_rules
        }
        tried = rehearse((*bundle.modules, *tests), tuple(rules))
        problems = tried.problems
        outcomes = tuple(_outcome(rules[entrypoint], answer) for entrypoint, answer in tried.evaluations.items())
    return Report(bundle.sha256, packages, problems, rehearsal.evaluations, outcomes, missing)


def _outcome(name: str, answer: Evaluation) -> TestOutcome:
    if answer == Verdict(True):
        return TestOutcome(name, passed=True)
    return TestOutcome(name, passed=False, message=str(answer))
