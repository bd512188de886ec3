"""``kubernaut-ray workflow``: validate a folder, push it as an OCI bundle, register it, search the catalog.

What is in the catalog already is ``workflow_records``' business.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from kubernaut_ray.cli import columns, connection, gaps, workflow_records
from kubernaut_ray.cli.connection import CommandError, DataDir, Exit, out
from kubernaut_ray.contracts.catalog import RegisterWorkflow, SearchFilters, SearchRequest
from kubernaut_ray.settings import RegistryAccess, Settings

app = typer.Typer(
    help="Workflows: validate, push, register, list, show, disable, enable, search, gaps.", no_args_is_help=True
)
app.command("gaps")(gaps.gaps)

Folder = Annotated[
    Path,
    typer.Argument(
        help="Folder with workflow-schema.yaml, pipeline.yaml and its script.", exists=True, file_okay=False
    ),
]
Reference = Annotated[
    str, typer.Option("--to", help="Where to push: REGISTRY/REPO:TAG. The data directory's own store by default.")
]


@app.command()
def validate(folder: Folder) -> None:
    """Check a workflow folder and say everything that is wrong with it.

    Example: kubernaut-ray workflow validate manifests/workflows/restart-rollout
    """

    async def main() -> None:
        from catalog import bundles

        workflow = bundles.pack(folder).workflow
        out.print(
            f"[green]valid[/] {workflow.workflow_name} {workflow.version}: {workflow.action_type}, "
            f"{len(workflow.parameters)} parameters",
            highlight=False,
        )

    connection.run(main)


@app.command()
def push(
    folder: Folder,
    to: Reference = "",
    plain_http: Annotated[bool, typer.Option("--plain-http", help="Plain HTTP to this registry.")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings file; its catalog.registry_* say how to reach registries.")
    ] = None,
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
) -> None:
    """Pack a folder as a Tekton bundle and push it; prints the pinned reference.

    Examples:

      kubernaut-ray workflow push manifests/workflows/restart-rollout

      kubernaut-ray workflow push ./my-workflow --to registry.example.org/workflows/my-workflow:1.0.0

    The login is docker's (docker login), or that of catalog.registry_config.
    """

    async def main() -> None:
        from catalog.bundles import Bundles

        catalog = Settings.load(config).catalog
        access = dict(catalog.registry_access)
        if plain_http:
            access[to.partition("/")[0]] = RegistryAccess(plain_http=True)
        bundles = Bundles(data_dir / "bundles", access=access, registry_config=catalog.registry_config)
        typer.echo(str(bundles.push(folder, to)))

    connection.run(main)


@app.command()
def register(
    reference: Annotated[
        str, typer.Argument(help="Bundle reference REGISTRY/REPO:TAG[@sha256:…], or a workflow folder.")
    ],
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
) -> None:
    """Register a bundle in the catalog; a folder is pushed to the data directory's own store first.

    Registering the same content again changes nothing; other content under the same version is refused.

    Example: kubernaut-ray workflow register manifests/workflows/restart-rollout
    """

    async def main() -> None:
        from catalog.bundles import Bundles

        image, _, digest = reference.partition("@")
        folder = Path(reference)
        if folder.is_dir():
            pinned = Bundles(data_dir / "bundles").push(folder)
            image, digest = pinned.image, pinned.digest
        async with workflow_records.catalog(data_dir) as storage:
            workflow = await storage.register(RegisterWorkflow(container_image=image, container_digest=digest))
        out.print(
            f"[green]registered[/] {workflow.workflow_name} {workflow.version} as {workflow.workflow_id}",
            highlight=False,
        )

    connection.run(main)


app.command("list")(workflow_records.list_)
app.command("show")(workflow_records.show)
app.command("disable")(workflow_records.disable)
app.command("enable")(workflow_records.enable)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What is wrong, in words.")],
    top: Annotated[int, typer.Option("--top", min=1, max=100, help="How many.")] = 5,
    signal_type: Annotated[str, typer.Option(help="For example OOMKilled.")] = "",
    severity: Annotated[str, typer.Option(help="critical, high, medium, low, warning or info.")] = "",
    component: Annotated[str, typer.Option(help="Kind of the target, for example deployment.")] = "",
    environment: Annotated[str, typer.Option(help="production, staging, development or test.")] = "",
    priority: Annotated[str, typer.Option(help="P0 to P3.")] = "",
    explain: Annotated[bool, typer.Option("--explain", help="Also say why the others were not offered.")] = False,
    why: Annotated[
        str, typer.Option("--why", metavar="NAME", help="Say of this workflow exactly why it is, or is not, offered.")
    ] = "",
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
) -> None:
    """Search the catalog as an investigation does.

    Examples:

      kubernaut-ray workflow search "OOMKilled critical memory limit too low" --component deployment

      kubernaut-ray workflow search "OOMKilled critical" --severity low --why increase-memory-limits
    """
    filters = SearchFilters(
        signal_type=signal_type, severity=severity, component=component, environment=environment, priority=priority
    )

    async def main() -> None:
        async with workflow_records.catalog(data_dir) as storage:
            request = SearchRequest(
                query=query, filters=filters, top_k=top, explain=explain, explain_workflow=why.strip()
            )
            answer = await storage.search(request)
        if answer.explanation is not None:
            gaps.show(answer.explanation)
            return
        if not answer.hits:
            raise CommandError("nothing in the catalog fits these labels; try with fewer, or --explain", Exit.NOT_FOUND)
        scores = ("Score", "Semantic", "Lexical", "Labels")
        wide = columns.table("#", "Workflow", "Version", *scores, "What", right=scores, fold=("What",))
        narrow = columns.table("#", "Workflow", "Version", *scores, right=scores, fold=("Workflow",))
        for hit in answer.hits:
            parts, name, what = hit.score_breakdown, hit.workflow.workflow_name, hit.workflow.description.what
            rest = (
                hit.workflow.version, f"{hit.score:.3f}", f"{parts.semantic:.2f}", f"{parts.lexical:.2f}", f"{parts.labels:.2f}",
            )  # fmt: skip
            wide.add_row(str(hit.rank), name, *rest, Text(what))
            narrow.add_row(str(hit.rank), columns.beneath(Text(name), what), *rest)
        out.print(columns.Fitting(wide, narrow))
        if answer.degraded:
            out.print(f"[yellow]degraded:[/] {answer.degraded}", highlight=False)
        for gone in answer.excluded:
            out.print(f"[dim]not offered: {gone.workflow_name}: {gone.reason}[/]", highlight=False)

    connection.run(main)
