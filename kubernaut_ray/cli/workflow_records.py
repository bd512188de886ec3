"""``kubernaut-ray workflow list | show | disable | enable``: what is in the catalog, and what is offered of it.

A workflow is named by its name (its latest version then, or ``--version``) or by its id.
"""

from __future__ import annotations

import difflib
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
import yaml
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kubernaut_ray.cli import columns, connection
from kubernaut_ray.cli.connection import CommandError, DataDir, Exit, out
from kubernaut_ray.clients.data_storage import DataStorage, NotFound
from kubernaut_ray.clock import format_duration
from kubernaut_ray.contracts.catalog import LabelValue, Workflow, WorkflowParameter, WorkflowPatch
from kubernaut_ray.contracts.statistics import Trust
from kubernaut_ray.crds.enums import WorkflowStatus

PAGE = 1000
COLOUR = {WorkflowStatus.ACTIVE: "green", WorkflowStatus.DISABLED: "red", WorkflowStatus.DEPRECATED: "yellow"}


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


Output = Annotated[Format, typer.Option("--output", "-o", help="table, json or yaml.")]
Wanted = Annotated[str, typer.Argument(metavar="NAME|ID", help="The workflow's name, or its id in the catalog.")]
Version = Annotated[str, typer.Option("--version", help="Of a name: this version instead of the latest.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why. People will read it, and so will the search.")]


@asynccontextmanager
async def catalog(data_dir: Path) -> AsyncIterator[DataStorage]:
    """Data Storage of the running system."""
    system = connection.find(data_dir)
    async with DataStorage(system.service("data_storage"), system.token) as storage:
        try:
            yield storage
        except NotFound as error:
            raise CommandError(str(error), Exit.NOT_FOUND) from error


def list_(
    name: Annotated[str, typer.Option(help="Only the versions of this workflow.")] = "",
    status: Annotated[WorkflowStatus | None, typer.Option(help="Only workflows of this status.")] = None,
    output: Output = Format.TABLE,
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
) -> None:
    """List the catalog: every version, which is the latest, and how its executions ended.

    Example: kubernaut-ray workflow list --name restart-rollout
    """

    async def main() -> None:
        async with catalog(data_dir) as storage:
            found = await every(storage, name=name, status=status.value if status else "")
        if output is Format.TABLE:
            out.print(listing(found))
        else:
            _print([one.to_json() for one in found], output)

    connection.run(main)


def show(
    wanted: Wanted,
    version: Version = "",
    output: Output = Format.TABLE,
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
) -> None:
    """Show one workflow in full: what it is for, what it takes, what it runs, how it fared and how far it is trusted where,
    who changed its status and why.

    Examples:

      kubernaut-ray workflow show restart-rollout

      kubernaut-ray workflow show restart-rollout --version 1.0.0 -o yaml
    """

    async def main() -> None:
        async with catalog(data_dir) as storage:
            one = await resolve(storage, wanted, version)
            trust = (await storage.effectiveness(one.workflow_id)).environments
        if output is Format.TABLE:
            out.print(detail(one, trust))
        else:
            _print({**one.to_json(), "trust": [level.to_json() for level in trust]}, output)

    connection.run(main)


def disable(
    wanted: Wanted, reason: Reason, version: Version = "", data_dir: DataDir = connection.DEFAULT_DATA_DIR
) -> None:
    """Stop offering a workflow. Executions under way go on. No older version is offered in its place.

    Example: kubernaut-ray workflow disable restart-rollout --reason "restarts the leader too, see 4711"
    """
    _set(wanted, version, WorkflowStatus.DISABLED, reason, data_dir)


def enable(
    wanted: Wanted, reason: Reason, version: Version = "", data_dir: DataDir = connection.DEFAULT_DATA_DIR
) -> None:
    """Offer a workflow again that was disabled.

    Example: kubernaut-ray workflow enable restart-rollout --reason "fixed in the cluster"
    """
    _set(wanted, version, WorkflowStatus.ACTIVE, reason, data_dir)


def _set(wanted: str, version: str, status: WorkflowStatus, reason: str, data_dir: Path) -> None:
    if not reason.strip():
        raise typer.BadParameter("say why in a few words", param_hint="--reason")

    async def main() -> None:
        async with catalog(data_dir) as storage:
            one = await resolve(storage, wanted, version)
            changed = await storage.patch_workflow(one.workflow_id, WorkflowPatch(status=status, reason=reason))
        word = "enabled" if status is WorkflowStatus.ACTIVE else "disabled"
        out.print(f"[green]{word}[/] {changed.workflow_name} {changed.version}", highlight=False)
        if status is WorkflowStatus.ACTIVE and not changed.is_latest_version:
            out.print(
                "[yellow]a higher version is in the catalog, so this one is still not offered[/]", highlight=False
            )

    connection.run(main)


async def every(storage: DataStorage, *, name: str = "", status: str = "") -> list[Workflow]:
    """Return all records, by name and from the newest version down."""
    found: list[Workflow] = []
    while True:
        page = await storage.workflows(limit=PAGE, offset=len(found), name=name, status=status)
        found.extend(page.workflows)
        if not page.pagination.has_more:
            break
    newest_first = sorted(found, key=_version_key, reverse=True)
    return sorted(newest_first, key=lambda one: one.workflow_name)


async def resolve(storage: DataStorage, wanted: str, version: str) -> Workflow:
    """Find the record that somebody means. Raises ``CommandError`` that names what there is."""
    if _is_id(wanted):
        one = await storage.workflow(wanted)
        if one is None:
            raise CommandError(
                f"no workflow has the id {wanted}; kubernaut-ray workflow list -o json shows ids", Exit.NOT_FOUND
            )
        if version and one.version != version:
            raise CommandError(f"{wanted} is {one.workflow_name} {one.version}, not {version}", Exit.NOT_FOUND)
        return one
    versions = await every(storage, name=wanted)
    if not versions:
        known = {one.workflow_name for one in await every(storage)}
        close = difflib.get_close_matches(wanted, known, n=3)
        hint = f"did you mean {', '.join(close)}?" if close else "kubernaut-ray workflow list shows what there is"
        raise CommandError(f"no workflow is called {wanted!r}; {hint}", Exit.NOT_FOUND)
    if version:
        chosen = next((one for one in versions if one.version == version), None)
    else:
        chosen = next((one for one in versions if one.is_latest_version), versions[0])
    if chosen is None:
        there = ", ".join(one.version for one in versions)
        raise CommandError(f"{wanted} has no version {version}; there are {there}", Exit.NOT_FOUND)
    return chosen


def listing(workflows: Sequence[Workflow]) -> RenderableType:
    """A table of records; a star marks the latest version of each workflow."""
    if not workflows:
        return Text("The catalog is empty. Register a folder with: kubernaut-ray workflow register FOLDER", style="dim")
    middle, numbers = ("Version", "Status"), ("Runs", "Success", "Average")
    wide = columns.table("Name", *middle, *numbers, "What", right=numbers, fold=("What",))
    narrow = columns.table("Name", *middle, *numbers, right=numbers, fold=("Name",))
    for one in workflows:
        rest = (
            f"{one.version}{' *' if one.is_latest_version else ''}", Text(one.status, style=COLOUR.get(one.status, "dim")),
            str(one.total_executions or "-"), _rate(one), _average(one),
        )  # fmt: skip
        wide.add_row(one.workflow_name, *rest, Text(one.description.what))
        narrow.add_row(columns.beneath(Text(one.workflow_name), one.description.what), *rest)
    wide.caption = narrow.caption = "* latest version: the only one that is offered"
    return columns.Fitting(wide, narrow)


def detail(one: Workflow, trust: Sequence[Trust] = ()) -> RenderableType:
    """One record, a line a fact; ``trust`` is how it fared by environment."""
    table = Table(box=None, show_header=False, pad_edge=False)
    said, labels = one.description, one.labels
    runs = (
        f"{one.successful_executions} of {one.total_executions} succeeded ({_rate(one)})"
        if one.total_executions
        else "-"
    )
    facts: list[tuple[str, str | Text]] = [
        ("Name", one.workflow_name),
        ("Version", f"{one.version}{' (latest)' if one.is_latest_version else ''}"),
        ("Follows", one.previous_version or "-"),
        ("Id", one.workflow_id),
        ("Title", one.title or "-"),
        ("Action", one.action_type),
        ("Owner", one.owner or "-"),
        ("Status", Text(one.status, style=COLOUR.get(one.status, "dim"))),
        ("Changed", _changed(one)),
        ("What", said.what),
        ("When", said.when_to_use or "-"),
        ("Not when", said.when_not_to_use or "-"),
        ("Needs", said.preconditions or "-"),
        ("Labels", " ".join(f"{k}={_label(getattr(labels, k))}" for k in ("signal_type", "severity", "component", "environment", "priority"))),
        *(("Custom", f"{key}={_label(value)}") for key, value in labels.custom.items()),
        *(("Requires", f"{key}={value}") for key, value in labels.detected.items()),
        *(("Parameter", _parameter(parameter)) for parameter in one.parameters),
        ("Engine", one.execution_engine),
        ("Account", one.service_account_name or "-"),
        ("Bundle", one.pinned_image),
        ("Schema", f"sha256:{one.content_hash}"),
        ("Registered", f"{_instant(one.created_at)}{f' by {one.source}' if one.source else ''}"),
        ("Runs", runs),
        ("Average", _average(one)),
        ("Last run", _instant(one.last_execution_at)),
        *(("Trust", _trusted(level)) for level in trust),
    ]  # fmt: skip
    for label, fact in facts:
        table.add_row(Text(label, style="bold"), Text(fact) if isinstance(fact, str) else fact)
    return table


def _trusted(trust: Trust) -> str:
    row = f", {trust.failures_in_a_row} in a row did not" if trust.failures_in_a_row > 1 else ""
    return (
        f"{trust.environment}: {trust.level}, helped in {trust.effective} of {trust.assessed}{row} "
        f"(chance {trust.mean:.0%}, hardly below {trust.lower:.0%})"
    )


def _changed(one: Workflow) -> str:
    if one.status_changed_at is None:
        return "-"
    why = f": {one.status_changed_reason}" if one.status_changed_reason else ""
    return f"{_instant(one.status_changed_at)} by {one.status_changed_by or 'unknown'}{why}"


def _parameter(parameter: WorkflowParameter) -> str:
    limits = [
        f"{name} {value}"
        for name, value in (("from", parameter.minimum), ("to", parameter.maximum), ("default", parameter.default))
        if value is not None
    ]
    of = [f"one of {', '.join(parameter.enum)}"] if parameter.enum else []
    facts = ", ".join((str(parameter.type), "required" if parameter.required else "optional", *of, *limits))
    return f"{parameter.name} ({facts}){f': {parameter.description}' if parameter.description else ''}"


def _label(value: LabelValue) -> str:
    return value if isinstance(value, str) else "|".join(value)


def _rate(one: Workflow) -> str:
    return "-" if one.actual_success_rate is None else f"{one.actual_success_rate:.0%}"


def _average(one: Workflow) -> str:
    if one.average_duration_seconds is None:
        return "-"
    return format_duration(timedelta(seconds=one.average_duration_seconds))


def _instant(instant: datetime | None) -> str:
    return "-" if instant is None else instant.strftime("%Y-%m-%d %H:%M:%S UTC")


def _is_id(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _version_key(one: Workflow) -> tuple[bool, tuple[Any, ...], str]:
    """The latest first, then by number; what exactly precedes what is the catalog's to say."""
    core = one.version.removeprefix("v").partition("+")[0].partition("-")
    return one.is_latest_version, tuple(int(part) for part in core[0].split(".")), "" if core[1] else "~"


def _print(body: object, output: Format) -> None:
    if output is Format.JSON:
        typer.echo(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode())
    else:
        typer.echo(yaml.safe_dump(body, sort_keys=False, allow_unicode=True), nl=False)
