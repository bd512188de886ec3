"""``kubernaut-ray timeline NAME``: a whole incident as its audit trail tells it, also when its objects are long gone."""

from __future__ import annotations

import sys
from typing import Annotated

import orjson
import typer
import yaml

from kubernaut_ray.cli import connection, story
from kubernaut_ray.cli.connection import CommandError, DataDir, Exit, Kubeconfig, Namespace, out
from kubernaut_ray.cli.status import Format
from kubernaut_ray.clients.data_storage import DataStorage
from kubernaut_ray.contracts.timeline import IncidentStory, Timeline
from kubernaut_ray.names import SYSTEM_NAMESPACE


def timeline(
    name: Annotated[str, typer.Argument(help="A RemediationRequest, whether or not it still exists.")],
    every: Annotated[
        bool, typer.Option("--all", "-a", help="Every fact, also those that only say more of another.")
    ] = False,
    output: Annotated[
        Format | None, typer.Option("--output", "-o", help="Print the account and its events instead of a picture.")
    ] = None,
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
    kubeconfig: Kubeconfig = None,
    namespace: Namespace = SYSTEM_NAMESPACE,
) -> None:
    """Show how an incident went: who did what, when, why and how long it took, and what the audit trail lacks.

    Examples:

      kubernaut-ray timeline rr-3f2a91c0d4e5-9a1b2c3d

      kubernaut-ray timeline rr-3f2a91c0d4e5-9a1b2c3d --all

      kubernaut-ray timeline rr-3f2a91c0d4e5-9a1b2c3d -o json | jq .incident.gaps
    """
    connection.run(lambda: _timeline(connection.find(data_dir, kubeconfig, namespace), name, every, output))


async def _timeline(system: connection.System, name: str, every: bool, output: Format | None) -> None:
    async with DataStorage(system.service("data_storage"), system.token) as storage:
        found = await storage.timeline(name)
    if not found.events:
        raise CommandError(f"nothing is on record about {name}; see: kubernaut-ray status", Exit.NOT_FOUND)
    match output:
        case Format.JSON:
            sys.stdout.write(orjson.dumps(found.to_json(), option=orjson.OPT_INDENT_2).decode() + "\n")
        case Format.YAML:
            sys.stdout.write(yaml.safe_dump(found.to_json(), sort_keys=False, allow_unicode=True))
        case None:
            out.print(story.account(_incident(found), every=every))


def _incident(found: Timeline) -> IncidentStory:
    if found.incident is None:
        raise CommandError("this Data Storage is older than the command and tells events only; use -o json")
    return found.incident
