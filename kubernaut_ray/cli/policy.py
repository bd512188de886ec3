"""``kubernaut-ray policy check``: what a directory of policies decides for an input, and why it does not compile.

Works without a running system. The exit code is for pipelines: 0 all good, 1 the policies are at fault (they do not compile,
a test fails, rules conflict, an answer is not understood), 2 the command was used wrongly.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kubernaut_ray import shipped
from kubernaut_ray.cli.connection import Exit, err, out
from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.policy import check as checks
from kubernaut_ray.policy.check import Report
from kubernaut_ray.policy.example import EXAMPLE
from kubernaut_ray.policy.interpreter import Problem
from kubernaut_ray.policy.verdict import Undefined, Verdict

app = typer.Typer(help="Policies: see what they decide before they are in force.", no_args_is_help=True)
_WIDEST = 300


class Format(StrEnum):
    JSON = "json"


@app.callback()
def policy() -> None:
    """Policies: see what they decide before they are in force."""


def _example(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(orjson.dumps(EXAMPLE, option=orjson.OPT_INDENT_2).decode() + "\n")
        raise typer.Exit


@app.command()
def check(
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Folder of *.rego files; the shipped policies without one.")
    ] = None,
    input_: Annotated[
        str, typer.Option("--input", "-i", help="A JSON file to decide on; - reads stdin. A built-in example without.")
    ] = "",
    output: Annotated[Format | None, typer.Option("--output", "-o", help="Print JSON instead of tables.")] = None,
    _: Annotated[
        bool,
        typer.Option(
            "--example", callback=_example, is_eager=True, help="Print the example input, to start from, and exit."
        ),
    ] = False,
) -> None:
    """Say what policies decide, whether their own tests (*_test.rego) pass, and why they do not compile.

    What the policies make of environment and severity goes into the input of the others, as in the running system, unless
    the input has these fields itself.

    Examples:

      kubernaut-ray policy check manifests/policies

      kubernaut-ray policy check --example > input.json

      kubernaut-ray policy check ./my-policies --input input.json -o json
    """
    chosen = directory or shipped.directory() / "policies"
    try:
        report = checks.check(chosen, _read(input_))
    except InvalidInput as error:
        err.print(f"[red]error:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(Exit.USAGE) from None
    if output is Format.JSON:
        sys.stdout.write(orjson.dumps(_json(chosen, report), option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        for part in _picture(chosen, report, given=bool(input_)):
            out.print(part, highlight=False)
    if not report.ok:
        raise typer.Exit(Exit.FAILED)


def _read(source: str) -> dict[str, Any]:
    if not source:
        return dict(EXAMPLE)
    named = "the standard input" if source == "-" else source
    try:
        value = orjson.loads(sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes())
    except OSError as error:
        raise InvalidInput(f"cannot read {source}: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"{named} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidInput(f"{named} is not a JSON object; kubernaut-ray policy check --example prints one")
    return value


def _picture(directory: Path, report: Report, *, given: bool) -> list[RenderableType]:
    """Draw the report: problems, else decisions and tests, and one line that sums up."""
    parts: list[RenderableType] = [
        Text.assemble((str(directory), "bold"), f"  sha256 {report.sha256[:12]}  {', '.join(report.packages)}")
    ]
    if report.problems:
        parts += [_table("Why it does not compile", ("Where", "What"), [_place(p) for p in report.problems])]
    if report.evaluations:
        about = "on your input" if given else "on the built-in example (see --example)"
        decisions = [_decision(report, entrypoint) for entrypoint in report.evaluations]
        parts.append(_table(f"What it decides {about}", ("Question", "Answer"), decisions))
    if report.missing:
        parts.append(
            Text(f"No package answers {', '.join(report.missing)}: the system's safe word would stand in.", "yellow")
        )
    failed = [test for test in report.tests if not test.passed]
    if failed:
        rows = [(Text(test.name), Text(test.message, "red")) for test in failed]
        parts.append(_table("Tests that fail", ("Test", "Why"), rows))
    passed = f"{len(report.tests) - len(failed)} of {len(report.tests)} tests pass" if report.tests else "no tests"
    if report.problems:
        summed = f"does not compile: {len(report.problems)} problem(s)"
    elif report.faults:
        summed = f"{len(report.faults)} question(s) get no usable answer; {passed}"
    else:
        summed = f"compiles; {passed}"
    parts.append(Text.assemble(("✓ ", "green") if report.ok else ("✗ ", "red"), summed))
    return parts


def _table(title: str, columns: tuple[str, str], rows: list[tuple[Text, Text]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", title=title, title_justify="left", pad_edge=False)
    table.add_column(columns[0], no_wrap=False, overflow="fold")
    table.add_column(columns[1], overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _place(problem: Problem) -> tuple[Text, Text]:
    where = (
        f"{problem.file}:{problem.line}:{problem.column}" if problem.line else problem.file or "(nowhere in particular)"
    )
    return Text(where, "yellow"), Text(problem.message)


def _decision(report: Report, entrypoint: str) -> tuple[Text, Text]:
    answer, wrong = report.evaluations[entrypoint], report.faults.get(entrypoint)
    match answer:
        case Verdict(value):
            shown = Text(orjson.dumps(value).decode()[:_WIDEST])
            if wrong:
                shown.append(f"\nnot understood: {wrong}", "red")
        case Undefined():
            shown = Text("undefined: no rule applies; add a default", "yellow")
        case _:
            shown = Text(wrong or "", "red")
    return Text(entrypoint), shown


def _json(directory: Path, report: Report) -> dict[str, Any]:
    return {
        "directory": str(directory),
        "policyHash": report.sha256,
        "ok": report.ok,
        "compiles": not report.problems,
        "packages": report.packages,
        "problems": [
            {"file": p.file, "line": p.line, "column": p.column, "message": p.message} for p in report.problems
        ],
        "decisions": [_decided(report, entrypoint) for entrypoint in report.evaluations],
        "missing": report.missing,
        "tests": [{"name": t.name, "passed": t.passed, "message": t.message} for t in report.tests],
    }


def _decided(report: Report, entrypoint: str) -> dict[str, Any]:
    answer = report.evaluations[entrypoint]
    decided: dict[str, Any] = {"question": entrypoint, "defined": isinstance(answer, Verdict)}
    if isinstance(answer, Verdict):
        decided["answer"] = answer.value
    if fault := report.faults.get(entrypoint):
        decided["fault"] = fault
    return decided
