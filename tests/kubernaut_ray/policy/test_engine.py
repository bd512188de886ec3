"""The policy engine: verdicts are verdicts, faults are faults, and a bad version never replaces a good one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubernaut_ray.crds.enums import PolicyFault
from kubernaut_ray.policy import engine as engines
from kubernaut_ray.policy.engine import PolicyEngine
from kubernaut_ray.policy.verdict import Evaluation, PolicyError, Undefined, Verdict

ECHO, RULES, SPIN = "t/echo", "t/rules", "t/spin"
SOURCE = """package t

import rego.v1

echo := input.value

rules := "first" if input.a

rules := "second" if input.b

spin := count([1 | some i in numbers.range(1, input.n); some j in numbers.range(1, input.n); i * j > 0])
"""
ABORTS = """package t

import rego.v1

default level := "unknown"

level := "critical" if lower(input.raw) == "page"

echo if {
    data.t.level == "critical" with input as {"raw": "Page"}
}
"""
"""Correct Rego, on which rego-cpp ends its process."""


class Ticker:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "t.rego").write_text(SOURCE)
    return tmp_path


@pytest.fixture
def clock() -> Ticker:
    return Ticker()


@pytest.fixture
async def engine(directory: Path, clock: Ticker) -> AsyncIterator[PolicyEngine]:
    made = PolicyEngine(directory, (ECHO, RULES, SPIN, "t/missing"), reload_interval=2, monotonic=clock)
    await made.start()
    yield made
    await made.close()


async def echo(engine: PolicyEngine) -> Evaluation:
    return await engine.evaluate(ECHO, {"value": 1}, timeout=1)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param('a "quoted" word', id="quotes"),
        pytest.param("line\nbreak\ttab \\ back\\slash", id="control characters and backslashes"),
        pytest.param("ünï \u2028 😀", id="beyond ASCII"),
        pytest.param('"}]} , "x": [', id="something that looks like JSON"),
        pytest.param({"n": [1, 2.5, None, True, {"deep": []}]}, id="nested"),
        pytest.param(False, id="false is a value"),
        pytest.param(None, id="null is a value"),
    ],
)
async def test_values_come_through_as_they_are(engine: PolicyEngine, value: object) -> None:
    """Whatever an input holds, it reaches the policy as data and comes back equal."""
    assert await engine.evaluate(ECHO, {"value": value}, timeout=1) == Verdict(value)


async def test_no_rule_that_applies_is_undefined_and_not_false(engine: PolicyEngine) -> None:
    """Nothing said is not "no"; neither is an entry point that no policy declares."""
    assert await engine.evaluate(RULES, {}, timeout=1) == Undefined()
    assert await engine.evaluate("t/missing", {}, timeout=1) == Undefined()


async def test_complete_rules_that_conflict_are_reported(engine: PolicyEngine) -> None:
    """Two answers at once are a fault of their own, not a lucky pick."""
    assert await engine.evaluate(RULES, {"a": True}, timeout=1) == Verdict("first")
    answer = await engine.evaluate(RULES, {"a": True, "b": True}, timeout=1)
    assert isinstance(answer, PolicyError)
    assert answer.fault is PolicyFault.CONFLICT
    assert RULES in answer.message


async def test_an_evaluation_beyond_its_deadline_is_given_up_and_the_next_one_works(engine: PolicyEngine) -> None:
    """A slow policy costs its own verdict only."""
    slow = await engine.evaluate(SPIN, {"n": 600}, timeout=0.05)
    assert isinstance(slow, PolicyError)
    assert slow.fault is PolicyFault.TIMEOUT
    assert await echo(engine) == Verdict(1)


async def test_too_many_stuck_evaluations_refuse_more(engine: PolicyEngine) -> None:
    """Given-up evaluations still burn a core each, so their number is limited."""
    for _ in range(engines.MAX_STUCK):
        await engine.evaluate(SPIN, {"n": 600}, timeout=0.01)
    answer = await echo(engine)
    assert isinstance(answer, PolicyError)
    assert answer.fault is PolicyFault.OVERLOADED


async def test_an_input_that_is_too_large_is_refused(engine: PolicyEngine) -> None:
    """The message tells the sizes and not the content."""
    answer = await engine.evaluate(ECHO, {"value": "secret" * engines.MAX_INPUT_BYTES}, timeout=1)
    assert isinstance(answer, PolicyError)
    assert answer.fault is PolicyFault.INPUT_TOO_LARGE
    assert "secret" not in answer.message


async def test_changed_files_take_effect_at_the_next_look(engine: PolicyEngine, directory: Path, clock: Ticker) -> None:
    """Hot reload: not before the interval is over, then at once, with another hash."""
    former = engine.hash
    (directory / "t.rego").write_text(SOURCE.replace("input.value", '"changed"'))
    assert await echo(engine) == Verdict(1)
    clock.now += 3
    assert await echo(engine) == Verdict("changed")
    assert engine.hash != former


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        pytest.param("package t\nimport rego.v1\necho := if {\n", "t.rego:3:", id="syntax error with its place"),
        pytest.param(
            "package t\nimport rego.v1\necho := http.send({})\n", "no function http.send", id="missing built-in"
        ),
        pytest.param(
            ABORTS,
            "the evaluator broke off",
            id="a source that ends the evaluator's process",
        ),
    ],
)
async def test_a_bad_version_keeps_the_last_good_one(
    engine: PolicyEngine, directory: Path, clock: Ticker, source: str, complaint: str
) -> None:
    """What does not compile changes nothing but ``problem``; repairing it clears that."""
    good = engine.hash
    (directory / "t.rego").write_text(source)
    clock.now += 3
    assert await echo(engine) == Verdict(1)
    assert engine.hash == good
    assert complaint in engine.problem
    (directory / "t.rego").write_text(SOURCE)
    clock.now += 3
    assert await echo(engine) == Verdict(1)
    assert engine.problem == ""


async def test_a_vanished_directory_keeps_the_last_good_version(
    engine: PolicyEngine, directory: Path, clock: Ticker
) -> None:
    """A mount that is gone for a moment leaves the policies in force."""
    (directory / "t.rego").unlink()
    clock.now += 3
    assert await echo(engine) == Verdict(1)
    assert "no *.rego file" in engine.problem


async def test_without_any_policy_every_answer_is_a_fault_until_one_appears(tmp_path: Path) -> None:
    """Policies are mandatory; their absence is not an empty policy."""
    clock = Ticker()
    engine = PolicyEngine(tmp_path / "later", (ECHO,), monotonic=clock)
    await engine.start()
    answer = await echo(engine)
    assert isinstance(answer, PolicyError)
    assert answer.fault is PolicyFault.NO_POLICY
    assert engine.hash == ""
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "t.rego").write_text(SOURCE)
    clock.now += 3
    assert await echo(engine) == Verdict(1)
    await engine.close()


async def test_one_version_answers_by_one_set_of_policies(engine: PolicyEngine, directory: Path, clock: Ticker) -> None:
    """A version taken before a reload keeps deciding as before."""
    version = await engine.current()
    assert version is not None
    (directory / "t.rego").write_text(SOURCE.replace("input.value", '"changed"'))
    clock.now += 3
    assert await echo(engine) == Verdict("changed")
    assert await version.evaluate(ECHO, {"value": "old"}, timeout=1) == Verdict("old")
    version.close()
