"""``policy check`` as a person and a pipeline see it: decisions, problems with their place, tests, exit codes."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from click.testing import Result
from typer.testing import CliRunner

from actors.ai_analysis.approval import approval_input
from actors.signal_processing.classify import policy_input
from kubernaut_ray.cli import app
from kubernaut_ray.policy.example import EXAMPLE
from kubernaut_ray.settings import AnalysisSettings
from tests import build

PRIORITY = """package signalprocessing.priority

import rego.v1

{rules}
"""
CLASHING = """result := {"priority": "P0"} if input.severity == "critical"

result := {"priority": "P3"} if input.environment == "production"
"""


def run(*arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(app, ["policy", "check", *arguments], input=given, env={"COLUMNS": "200"})


def write(directory: Path, rules: str, tests: str = "") -> str:
    (directory / "priority.rego").write_text(PRIORITY.format(rules=rules))
    if tests:
        header = "package priority_test\n\nimport rego.v1\n\nimport data.signalprocessing.priority\n\n"
        (directory / "priority_test.rego").write_text(header + tests)
    return str(directory)


def test_the_shipped_policies_decide_on_the_example() -> None:
    """Without arguments: a critical signal in production is P0, and it needs leave."""
    result = run()
    assert result.exit_code == 0, result.output
    assert '"policy_name":"critical-production"' in result.output
    assert "production always needs approval" in result.output
    assert "tests pass" in result.output


def test_the_example_is_what_the_controllers_send() -> None:
    """Field by field the form of both inputs, but the two words that the policies themselves decide."""
    request = build.remediation_request()
    processing = build.signal_processing(request)
    context = processing.status.kubernetes_context
    assert context is not None
    sent = {
        **policy_input(processing.spec, context),
        **approval_input(build.ai_analysis(request), AnalysisSettings()),
    }
    assert set(EXAMPLE) == set(sent) - {"environment", "severity"}
    assert set(EXAMPLE["signal"]) == set(sent["signal"])
    assert set(EXAMPLE["target"]) == set(sent["target"])
    assert set(EXAMPLE["owner_chain"][0]) == set(sent["owner_chain"][0])
    assert set(EXAMPLE["workflow"]) == set(sent["workflow"])


def test_the_example_can_be_printed_and_given_back(tmp_path: Path) -> None:
    """What ``--example`` prints is an input."""
    printed = run("--example")
    assert (printed.exit_code, orjson.loads(printed.output)) == (0, EXAMPLE)
    file = tmp_path / "input.json"
    file.write_text(printed.output)
    assert run("--input", str(file)).exit_code == 0
    assert run("--input", "-", given=printed.output).exit_code == 0


@pytest.mark.parametrize(
    ("given", "priority"),
    [
        pytest.param({"signal": {"severity": "Page"}, "namespace": {"labels": {"kubernaut.ai/environment": "prod"}}}, "P0", id="judged first"),
        pytest.param({"signal": {"severity": "Page"}, "environment": "staging"}, "P1", id="said by the input"),
        pytest.param({}, "P2", id="nothing known"),
    ],
)  # fmt: skip
def test_environment_and_severity_go_into_the_other_questions(given: dict[str, object], priority: str) -> None:
    """As in the system, unless the input says them."""
    answer = orjson.loads(run("--input", "-", "-o", "json", given=orjson.dumps(given).decode()).output)
    decided = {one["question"]: one.get("answer") for one in answer["decisions"]}
    assert decided["signalprocessing/priority/result"]["priority"] == priority


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        pytest.param("result := {", ["priority.rego:5", "does not compile"], id="a syntax error, with its place"),
        pytest.param(
            'result := {"priority": http.send({})}',
            ["priority.rego:5:24", "no function http.send"],
            id="a function that is not there",
        ),
        pytest.param(
            CLASHING,
            ["ConflictingRules", "multiple outputs", "look at result (priority.rego:5, priority.rego:7)"],
            id="rules in conflict",
        ),
        pytest.param('result := "P0"', ["not understood"], id="an answer of the wrong form"),
        pytest.param('result := {"priority": "P9"}', ["'P9' is not one of P0, P1, P2, P3"], id="an unknown word"),
        pytest.param('result := {"priority": 1 / 0}', ["EvaluationFailed", "divide by zero"], id="an error in a rule"),
        pytest.param(
            'result := {"priority": "P0", "policy_name": concat("", [x | some i in numbers.range(1, 70000); x := "n"])}',
            ["OutputTooLarge", "at most 65536"],
            id="an answer that is too large",
        ),
    ],
)
def test_policies_at_fault_end_with_code_one(tmp_path: Path, rules: str, said: list[str]) -> None:
    """Every fault is named, none is hidden behind a default."""
    result = run(write(tmp_path, rules), "-i", "-", given='{"severity": "critical", "environment": "production"}')
    assert result.exit_code == 1
    assert [text for text in said if text not in " ".join(result.output.split())] == []


def test_failing_tests_are_named_and_end_with_code_one(tmp_path: Path) -> None:
    """Passed ones are counted; a conflict inside a test is told as such."""
    tests = (
        'test_right if priority.result.priority == "P1"\n\n'
        'test_wrong if priority.result.priority == "P0"\n\n'
        "test_clash if {\n\tpriority.twice == 1 with input.a as true with input.b as true\n}\n"
    )
    rules = 'result := {"priority": "P1"}\n\ntwice := 1 if input.a\n\ntwice := 2 if input.b'
    result = run(write(tmp_path, rules, tests))
    shown = " ".join(result.output.split())
    assert result.exit_code == 1
    assert "1 of 3 tests pass" in shown
    assert "priority_test.test_wrong does not hold" in shown
    assert "ConflictingRules" in shown


def test_an_undefined_answer_and_missing_packages_are_told_but_no_fault(tmp_path: Path) -> None:
    """A folder may hold some of the policies only; a rule without a default is worth a word."""
    result = run(write(tmp_path, 'result := {"priority": "P0"} if input.never'))
    assert result.exit_code == 0
    assert "undefined: no rule applies" in result.output
    assert "signalprocessing/severity/result" in result.output


def test_json_has_everything(tmp_path: Path) -> None:
    """The report for machines: hash, decisions, problems with numbers, tests."""
    tests = 'test_right if priority.result.priority == "P1"\n'
    result = run(write(tmp_path, 'result := {"priority": "P1", "policy_name": "mine"}', tests), "-o", "json")
    report = orjson.loads(result.output)
    assert (report["ok"], report["compiles"], report["problems"]) == (True, True, [])
    assert len(report["policyHash"]) == 64
    assert report["tests"] == [{"name": "priority_test.test_right", "passed": True, "message": ""}]
    (decision,) = report["decisions"]
    assert decision["answer"] == {"priority": "P1", "policy_name": "mine"}
    broken = orjson.loads(run(write(tmp_path, "result := [1,"), "-o", "json").output)
    assert not broken["compiles"]
    assert {"priority.rego"} == {problem["file"] for problem in broken["problems"]}
    assert all(problem["line"] > 0 for problem in broken["problems"])


@pytest.mark.parametrize(
    ("arguments", "given", "said"),
    [
        pytest.param(("nowhere",), None, "no such directory", id="no such folder"),
        pytest.param((".",), None, "no *.rego file there", id="no policies there"),
        pytest.param(("-i", "missing.json"), None, "cannot read missing.json", id="no such input"),
        pytest.param(("-i", "-"), "{not json", "the standard input is not JSON", id="no JSON"),
        pytest.param(("-i", "-"), "[1]", "not a JSON object", id="no object"),
        pytest.param(("-i", "-"), '{"a": "' + "x" * 300_000 + '"}', "policies get at most 262144", id="too large"),
        pytest.param(("--nonsense",), None, "No such option", id="no such option"),
    ],
)
def test_wrong_use_ends_with_code_two(
    arguments: tuple[str, ...], given: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipeline can tell a bad command from a bad policy."""
    monkeypatch.chdir(tmp_path)
    result = run(*arguments, given=given)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
