"""The typer application and what every command shares: version, help, command order."""

from __future__ import annotations

from typing import Annotated

import typer

from kubernaut_ray import __version__
from kubernaut_ray.cli import (
    audit,
    backup,
    crds,
    decide,
    demo,
    doctor,
    intervene,
    policy,
    send,
    silence,
    status,
    timeline,
    up,
    workflow,
)

app = typer.Typer(
    name="kubernaut-ray",
    help="Incident response for Kubernetes that closes the loop: alert, investigation, approval, remediation, audit.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"kubernaut-ray {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Incident response for Kubernetes that closes the loop."""


app.command("demo")(demo.demo)
app.command("up")(up.up)
app.command("send")(send.send)
app.command("status")(status.status)
app.command("timeline")(timeline.timeline)
app.command("approve")(decide.approve)
app.command("reject")(decide.reject)
app.command("cancel")(intervene.cancel)
app.command("unblock")(intervene.unblock)
app.add_typer(workflow.app, name="workflow")
app.add_typer(silence.app, name="silence")
app.add_typer(policy.app, name="policy")
app.add_typer(audit.app, name="audit")
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("crds")(crds.crds)
app.command("doctor")(doctor.doctor)
