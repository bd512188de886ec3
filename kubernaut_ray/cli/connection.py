"""How a command finds a running system: a data directory's ``endpoints.json``, or a cluster's kubeconfig.

Also where errors become one clear line and an exit code.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from kubernaut_ray import names
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.errors import InvalidInput, KubernautError, Retryable
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import NotFound

DEFAULT_DATA_DIR = Path.home() / ".kubernaut"
PIPED_WIDTH = 160
"""Characters of a line that no terminal shows: a table in a file or a pipe is not squeezed into 80."""


def _console(*, stderr: bool = False) -> Console:
    shown = (sys.stderr if stderr else sys.stdout).isatty() or "COLUMNS" in os.environ
    return Console(stderr=stderr, width=None if shown else PIPED_WIDTH)


out = _console()
err = _console(stderr=True)
T = TypeVar("T")

DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir",
        envvar="KUBERNAUT_DATA_DIR",
        help="Data directory of the running system.",
        show_default="~/.kubernaut",
    ),
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig", envvar="KUBERNAUT_KUBECONFIG", help="A cluster to talk to instead of a data directory."
    ),
]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Where Kubernaut's objects live.")]


class Exit(IntEnum):
    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    REFUSED = 5


class CommandError(Exception):
    """Ends a command with a message that says what to do and an exit code that means something."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class System:
    """A running system as a command sees it."""

    endpoints: Endpoints
    kubeconfig: Path | None
    namespace: str
    token_file: Path | None

    def token(self) -> str:
        """The bearer token for the HTTP APIs: ``KUBERNAUT_TOKEN``, or the data directory's token file."""
        given = os.environ.get("KUBERNAUT_TOKEN")
        if given:
            return given
        if self.token_file is None:
            raise CommandError("no token: set KUBERNAUT_TOKEN, or name a --data-dir that holds one", Exit.UNREACHABLE)
        return self.token_file.read_text().strip()

    def service(self, name: str) -> str:
        """The base URL of one of our services."""
        url = os.environ.get(f"KUBERNAUT_{name.upper()}_URL") or getattr(self.endpoints, name)
        if not url:
            raise CommandError(
                f"where is {name}? Name a --data-dir of a running system, or set KUBERNAUT_{name.upper()}_URL "
                "(for a cluster: kubectl port-forward its Service first)",
                Exit.UNREACHABLE,
            )
        return str(url)


def find(data_dir: Path, kubeconfig: Path | None = None, namespace: str = names.SYSTEM_NAMESPACE) -> System:
    """Find the system that a command is about: named by the environment, or a data directory's.

    Raises ``CommandError`` when nothing is there.
    """
    if kubeconfig is not None:
        return System(Endpoints(), kubeconfig, namespace, None)
    try:
        endpoints = Endpoints.load(data_dir)
    except FileNotFoundError:
        if any(os.environ.get(f"KUBERNAUT_{name.upper()}_URL") for name in Endpoints.model_fields):
            return System(Endpoints(), None, namespace, None)
        raise CommandError(
            f"nothing runs in {data_dir}; start it with: kubernaut-ray up --data-dir {data_dir}", Exit.UNREACHABLE
        ) from None
    return System(endpoints, data_dir / "kubeconfig", namespace, data_dir / "token")


@asynccontextmanager
async def kubernetes(system: System) -> AsyncIterator[KubeClient]:
    client = await KubeClient.connect(system.kubeconfig)
    async with client:
        yield client


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a command's coroutine; turn our errors into one line on stderr and an exit code."""
    try:
        return asyncio.run(main())
    except CommandError as error:
        err.print(f"[red]error:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(error.code) from None
    except InvalidInput as error:
        err.print(f"[red]error:[/] {error}", highlight=False, soft_wrap=True)
        for path, problem in error.problems:
            err.print(f"  [yellow]{path}[/]: {problem}", highlight=False, soft_wrap=True)
        raise typer.Exit(Exit.REFUSED) from None
    except NotFound as error:
        err.print(f"[red]error:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(Exit.NOT_FOUND) from None
    except Retryable as error:
        err.print(f"[red]error:[/] cannot reach it now: {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(Exit.UNREACHABLE) from None
    except KubernautError as error:
        err.print(f"[red]error:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(Exit.FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
