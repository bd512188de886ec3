"""``kubernaut-ray up``: run the whole system in the foreground until SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kubernaut_ray import logs
from kubernaut_ray.cli import connection
from kubernaut_ray.cli.connection import err, out
from kubernaut_ray.settings import Settings

Llm = Annotated[
    Literal["evidence", "openai", "anthropic"],
    typer.Option(
        "--llm", help="Who investigates: the built-in deterministic model, or an LLM (key from the environment)."
    ),
]


def up(
    data_dir: Annotated[
        Path,
        typer.Option(
            "--data-dir", envvar="KUBERNAUT_DATA_DIR", help="Where all state lives.", show_default="~/.kubernaut"
        ),
    ] = connection.DEFAULT_DATA_DIR,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="HTTP port; 0 keeps the last one or picks one.")
    ] = 0,
    kubeconfig: Annotated[
        Path | None,
        typer.Option("--kubeconfig", help="Run against this cluster instead of the embedded API server.", exists=True),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings file (YAML).", exists=True, dir_okay=False)
    ] = None,
    llm: Llm = "evidence",
    llm_base_url: Annotated[
        str, typer.Option(help="An OpenAI-compatible endpoint, for example http://127.0.0.1:11434/v1.")
    ] = "",
    llm_model: Annotated[str, typer.Option(help="The model's name at that endpoint.")] = "",
    dashboard: Annotated[bool, typer.Option(help="Run Ray's dashboard.")] = True,
    shipped_workflows: Annotated[bool, typer.Option(help="Register the workflows that come with Kubernaut.")] = True,
    simulate_workloads: Annotated[
        bool, typer.Option(help="Play Deployment controller and kubelet on the embedded API server (demos, tests).")
    ] = False,
) -> None:
    """Run the whole system in the foreground. Prints a line that starts with `ready`; SIGTERM or Ctrl-C drains and ends it.

    Started again on the same directory it goes on where it was.

    Examples:

      kubernaut-ray up

      kubernaut-ray up --data-dir ./data --llm openai --llm-base-url http://127.0.0.1:11434/v1 --llm-model qwen3

      kubernaut-ray up --kubeconfig ~/.kube/config
    """
    overrides: dict[str, Any] = {
        "data_dir": data_dir,
        "server": {"dashboard": dashboard} | ({"port": port} if port else {}),
    }
    if kubeconfig is not None:
        overrides["kubeconfig"] = kubeconfig
    if llm != "evidence" or llm_base_url or llm_model:
        overrides["llm"] = {"provider": llm, "base_url": llm_base_url, "model": llm_model}

    async def main() -> None:
        settings = Settings.load(config, **overrides)
        logs.configure(settings.log_format, settings.log_level)
        from kubernaut_ray.runtime.system import System

        system = System(
            settings,
            progress=lambda text: err.print(f"[dim]… {text}[/]", highlight=False),
            simulate_workloads=simulate_workloads,
            shipped_workflows=shipped_workflows,
        )
        await serve_until_told(system)

    connection.run(main)


async def serve_until_told(system: Any) -> None:
    """Start, print ``ready``, wait for SIGTERM or SIGINT, drain."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    starting = asyncio.create_task(system.start())
    waiting = asyncio.create_task(told.wait())
    try:
        await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            out.print(f"ready  data directory {system.data_dir}", highlight=False, soft_wrap=True)
            for name, url in system.endpoints.model_dump().items():
                if url:
                    out.print(f"  {name:<14} {url}", highlight=False, soft_wrap=True)
            out.print(
                f"  kubectl        kubectl --kubeconfig {system.kubeconfig} get rr -A", highlight=False, soft_wrap=True
            )
            await waiting
            err.print("[dim]… draining[/]")
    finally:
        starting.cancel()
        waiting.cancel()
        await asyncio.gather(starting, waiting, return_exceptions=True)
        await system.stop()
