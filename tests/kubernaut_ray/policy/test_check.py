"""``policy check``: every problem with its place, what the policies decide, and whether their own tests pass."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kubernaut_ray import shipped
from kubernaut_ray.policy.check import ENTRYPOINTS, check
from kubernaut_ray.policy.verdict import Undefined, Verdict


def test_the_shipped_policies_compile_pass_their_tests_and_answer_everything() -> None:
    """No entry point of the shipped policies is missing or undefined on an empty input."""
    report = check(shipped.directory() / "policies")
    assert [test for test in report.tests if not test.passed] == []
    assert len(report.tests) > 30
    assert report.ok
    assert report.missing == ()
    assert [e for e in ENTRYPOINTS if not isinstance(report.evaluations[e], Verdict)] == []


def test_every_shipped_policy_is_in_the_kustomization() -> None:
    """A policy that nobody mounts decides nothing."""
    listed = (shipped.directory() / "kustomization.yaml").read_text()
    files = [path.name for path in (shipped.directory() / "policies").glob("*.rego") if "_test" not in path.name]
    assert [name for name in files if f"policies/{name}" not in listed] == []


def test_a_verdict_on_an_input_and_what_no_package_declares(tmp_path: Path) -> None:
    """What is decided, what is undefined, what is missing."""
    (tmp_path / "approval.rego").write_text(
        "package aianalysis.approval\nimport rego.v1\nrequire_approval := input.confidence < 0.5\n"
    )
    report = check(tmp_path, {"confidence": 0.7})
    assert report.ok
    assert report.evaluations["aianalysis/approval/require_approval"] == Verdict(False)
    assert report.evaluations["aianalysis/approval/reason"] == Undefined()
    assert "signalprocessing/severity/result" in report.missing


def test_every_file_that_does_not_parse_is_named_with_line_and_column(tmp_path: Path) -> None:
    """All problems at once, each where it is."""
    (tmp_path / "one.rego").write_text("package one\nimport rego.v1\n\nx := if {\n")
    (tmp_path / "two.rego").write_text("package two\nimport rego.v1\ny := net.cidr_contains(input.a, input.b)\n")
    (tmp_path / "three.rego").write_text("package three\nimport rego.v1\nz := [1, 2\n")
    report = check(tmp_path)
    assert not report.ok
    assert [str(p) for p in report.problems if p.file == "two.rego"] == [
        "two.rego:3:6: this evaluator has no function net.cidr_contains"
    ]
    (tmp_path / "two.rego").unlink()
    places = {(problem.file, problem.line) for problem in check(tmp_path).problems}
    assert {("one.rego", 4), ("three.rego", 3)} <= places


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('x := sprintf("call http.send(%s)", ["a"])', id="in a string"),
        pytest.param("# http.send({}) would be nice\nx := 1", id="in a comment"),
        pytest.param("x := `http.send(1)`", id="in a raw string"),
        pytest.param("f(a) := a + 1\n\nx := f(1)", id="a function of its own"),
        pytest.param("import data.other\n\nx := other.f(1)", id="a function of another package"),
        pytest.param("x if not (1 == 2)", id="a keyword before a parenthesis"),
    ],
)
def test_what_only_looks_like_a_missing_function_is_not_refused(tmp_path: Path, text: str) -> None:
    """The search for missing built-ins reads calls, not words."""
    (tmp_path / "a.rego").write_text(f"package a\n\nimport rego.v1\n\n{text}\n")
    (tmp_path / "b.rego").write_text("package other\n\nimport rego.v1\n\nf(a) := a\n")
    assert [p for p in check(tmp_path).problems if "has no function" in p.message] == []


def test_a_test_that_fails_is_named(tmp_path: Path) -> None:
    """A false and an undefined test both fail."""
    (tmp_path / "a.rego").write_text("package a\nimport rego.v1\nx := 1\n")
    (tmp_path / "a_test.rego").write_text(
        "package a_test\nimport rego.v1\nimport data.a\ntest_right if a.x == 1\ntest_wrong if a.x == 2\n"
    )
    report = check(tmp_path, entrypoints=("a/x",))
    assert {test.name: test.passed for test in report.tests} == {"a_test.test_right": True, "a_test.test_wrong": False}
    assert not report.ok


def test_policies_see_nothing_of_our_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that tries policies out gets no secret to leak."""
    monkeypatch.setitem(os.environ, "KUBERNAUT_SECRET", "s3cret")
    (tmp_path / "a.rego").write_text("package a\nimport rego.v1\nx := opa.runtime()\n")
    report = check(tmp_path, entrypoints=("a/x",))
    assert "s3cret" not in str(report)
