"""``kubernaut-ray status``: the list of incidents, or one incident in full, once or as it moves."""

from __future__ import annotations

import asyncio
import sys
from enum import StrEnum
from typing import Annotated, Any

import orjson
import typer
import yaml
from rich.live import Live

from kubernaut_ray import clock
from kubernaut_ray.cli import connection, incidents, render
from kubernaut_ray.cli.connection import CommandError, DataDir, Exit, Kubeconfig, Namespace, out
from kubernaut_ray.crds.enums import Outcome, RemediationPhase
from kubernaut_ray.names import SYSTEM_NAMESPACE

INTERVAL = 0.5


class Format(StrEnum):
    JSON = "json"
    YAML = "yaml"


def status(
    name: Annotated[str | None, typer.Argument(help="A RemediationRequest; all of them without a name.")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow until it ends (a list: until Ctrl-C).")] = False,
    output: Annotated[Format | None, typer.Option("--output", "-o", help="Print objects instead of a picture.")] = None,
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
    kubeconfig: Kubeconfig = None,
    namespace: Namespace = SYSTEM_NAMESPACE,
) -> None:
    """Show incidents: a list, or one with its phases, cause, workflow and notifications.

    With --watch on one incident the exit code says how it ended: 0 completed, 1 anything else, an outcome that nobody can call
    a success among it.

    Examples:

      kubernaut-ray status

      kubernaut-ray status rr-3f2a91c0d4e5-9a1b2c3d --watch

      kubernaut-ray status -o json | jq '.items[].status.outcome'
    """
    if watch and output is not None:
        raise typer.BadParameter("--watch draws a picture; leave out --output")
    connection.run(lambda: _status(connection.find(data_dir, kubeconfig, namespace), name, watch, output))


def _dump(value: Any, output: Format) -> None:
    if output is Format.JSON:
        sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        sys.stdout.write(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


async def _status(system: connection.System, name: str | None, watch: bool, output: Format | None) -> None:
    async with connection.kubernetes(system) as client:

        async def picture() -> tuple[Any, RemediationPhase | None, Outcome | None]:
            now = clock.utcnow()
            if name is None:
                return render.listing(await incidents.remediations(client, system.namespace), now), None, None
            one = await incidents.incident(client, system.namespace, name)
            return render.detail(one, now), one.remediation.status.overall_phase, one.remediation.status.outcome

        if output is not None:
            if name is None:
                items = [r.to_object() for r in await incidents.remediations(client, system.namespace)]
                _dump({"apiVersion": "v1", "kind": "List", "items": items}, output)
            else:
                _dump((await incidents.incident(client, system.namespace, name)).remediation.to_object(), output)
            return
        drawn, phase, outcome = await picture()
        if not watch:
            out.print(drawn)
            if name is not None:
                out.print(f"How it went, step by step: kubernaut-ray timeline {name}", style="dim", highlight=False)
            return
        with Live(drawn, console=out, refresh_per_second=4) as live:
            while phase is None or not phase.terminal:
                await asyncio.sleep(INTERVAL)
                drawn, phase, outcome = await picture()
                live.update(drawn)
        if phase is not RemediationPhase.COMPLETED or outcome is Outcome.INCONCLUSIVE:
            raise CommandError(f"{name} ended {phase}{f' / {outcome}' if outcome else ''}", Exit.FAILED)
