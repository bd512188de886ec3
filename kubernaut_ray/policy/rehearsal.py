"""Policies tried out in a process of their own, because rego-cpp ends the process on some sources that it cannot build.

Every bundle passes here before an actor compiles it, and ``policy check`` decides here. The child gets the sources and
one input on its standard input, answers on its standard output, and sees nothing of our environment.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernaut_ray.crds.enums import PolicyFault
from kubernaut_ray.policy.bundle import Module
from kubernaut_ray.policy.interpreter import Compiled, DoesNotCompile, Problem
from kubernaut_ray.policy.verdict import Evaluation, PolicyError, Undefined, Verdict

TIMEOUT = 20.0
"""Seconds for compiling and one evaluation of every entry point."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """``problems`` is empty when the bundle compiles; ``evaluations`` has every entry point on the given input."""

    problems: tuple[Problem, ...]
    evaluations: Mapping[str, Evaluation]


def rehearse(modules: Sequence[Module], entrypoints: Sequence[str], term: str = "{}") -> Rehearsal:
    """Compile and evaluate in a child process; blocks for about 0.2 s."""
    request = json.dumps([[[m.name, m.source] for m in modules], list(entrypoints), term])
    package_root = str(Path(__file__).resolve().parents[2])
    try:
        child = subprocess.run(
            [sys.executable, "-m", "kubernaut_ray.policy.rehearsal"],
            input=request.encode(),
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
            env={"PYTHONPATH": package_root, "PATH": "/usr/bin:/bin"},
        )
    except subprocess.TimeoutExpired:
        return _refused(f"compiling and one evaluation did not end within {TIMEOUT:g} s")
    if child.returncode != 0:
        lines = child.stderr.decode(errors="replace").strip().splitlines()
        why = lines[-1] if lines else f"exit status {child.returncode}"
        return _refused(f"the evaluator broke off on these policies ({why.strip()[:300]})")
    problems, evaluations = json.loads(child.stdout)
    return Rehearsal(
        tuple(Problem(*problem) for problem in problems),
        {entrypoint: _from_json(kind, value) for entrypoint, (kind, value) in evaluations.items()},
    )


def _refused(message: str) -> Rehearsal:
    return Rehearsal((Problem("", 0, 0, message),), {})


def _to_json(evaluation: Evaluation) -> tuple[str, Any]:
    match evaluation:
        case Verdict(value):
            return "verdict", value
        case Undefined():
            return "undefined", None
        case PolicyError(fault, message):
            return fault.value, message


def _from_json(kind: str, value: Any) -> Evaluation:
    if kind == "verdict":
        return Verdict(value)
    return Undefined() if kind == "undefined" else PolicyError(PolicyFault(kind), value)


def _child() -> None:
    sources, entrypoints, term = json.load(sys.stdin)
    problems: tuple[Problem, ...] = ()
    evaluations: dict[str, tuple[str, Any]] = {}
    try:
        compiled = Compiled([Module(name, source) for name, source in sources], entrypoints)
    except DoesNotCompile as error:
        problems = error.problems
    else:
        evaluations = {entrypoint: _to_json(compiled.evaluate(entrypoint, term)) for entrypoint in entrypoints}
    json.dump([[(p.file, p.line, p.column, p.message) for p in problems], evaluations], sys.stdout)


if __name__ == "__main__":
    _child()
