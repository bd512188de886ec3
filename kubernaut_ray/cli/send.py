"""``kubernaut-ray send``: post a signal to the gateway as its source would, and show what became of each alert."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import orjson
import typer
from rich.table import Table

from kubernaut_ray.cli import connection
from kubernaut_ray.cli.connection import CommandError, DataDir, Exit, out

ROUTES = {
    "involvedObject": ("kubernetes-event", "application/json"),
    "regarding": ("kubernetes-event", "application/json"),
    "specversion": ("cloudevents", "application/cloudevents+json"),
    "detail-type": ("cloudwatch", "application/json"),
    "AlarmName": ("cloudwatch", "application/json"),
    "TopicArn": ("cloudwatch", "application/json"),
    "orgId": ("grafana", "application/json"),
    "alerts": ("prometheus", "application/json"),
}
"""By a field that only this source's payloads have, in this order: the door's name and the content type."""
_COLOUR = {"created": "green", "duplicate": "yellow", "accepted": "cyan", "rejected": "magenta", "failed": "red"}


def route_of(payload: Any) -> tuple[str, str]:
    """Tell the gateway route and content type of a payload by its shape. Raises ``CommandError`` when it has none."""
    if isinstance(payload, dict):
        for field, (door, content_type) in ROUTES.items():
            if field in payload:
                return f"/api/v1/signals/{door}", content_type
    raise CommandError(
        "this is no payload of a known source: Alertmanager ('alerts'), Grafana ('orgId'), a Kubernetes event "
        "('involvedObject'), CloudWatch ('AlarmName' or 'detail-type') or a CloudEvent ('specversion')",
        Exit.REFUSED,
    )


def send(
    file: Annotated[
        str,
        typer.Argument(
            help="A JSON file as Alertmanager, Grafana, CloudWatch, Kubernetes or a sender of CloudEvents writes it; - reads stdin."
        ),
    ],
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
) -> None:
    """Post a signal to the gateway.

    Examples:

      kubernaut-ray send alert.json

      kubectl get event my-event -o json | kubernaut-ray send -
    """
    connection.run(lambda: _send(file, data_dir))


async def _send(file: str, data_dir: Path) -> None:
    try:
        body = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        payload = orjson.loads(body)
    except OSError as error:
        raise CommandError(f"cannot read {file}: {error.strerror}", Exit.USAGE) from error
    except orjson.JSONDecodeError as error:
        raise CommandError(f"{file} is not JSON: {error}", Exit.REFUSED) from error
    system = connection.find(data_dir)
    route, content_type = route_of(payload)
    url = system.service("gateway") + route
    headers = {"Authorization": f"Bearer {system.token()}", "Content-Type": content_type}
    try:
        async with aiohttp.ClientSession(headers=headers) as session, session.post(url, data=body) as response:
            answer = orjson.loads(await response.read() or b"{}")
            code = response.status
    except aiohttp.ClientError as error:
        raise CommandError(f"the gateway at {url} does not answer: {error}", Exit.UNREACHABLE) from error
    except orjson.JSONDecodeError as error:
        raise CommandError(f"the gateway at {url} answered {code} without JSON", Exit.FAILED) from error
    if code >= 400 and "results" not in answer:
        raise CommandError(
            f"the gateway refused it ({code} {answer.get('title', '')}): {answer.get('detail', '')}",
            Exit.UNREACHABLE if code == 503 else Exit.REFUSED,
        )
    results = answer.get("results") or [answer]
    table = Table("Outcome", "RemediationRequest", "Message", box=None, header_style="bold")
    for one in results:
        outcome = one.get("status", "?")
        table.add_row(
            f"[{_COLOUR.get(outcome, 'white')}]{outcome}[/]",
            one.get("remediationRequestName", "") or "-",
            one.get("message", ""),
        )
    out.print(table)
    if all(one.get("status") == "failed" for one in results):
        raise typer.Exit(Exit.REFUSED)
