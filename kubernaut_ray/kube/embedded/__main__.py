"""``python -m kubernaut_ray.kube.embedded``: the embedded API server as a process of its own.

Prints one line starting with ``ready`` when it serves. SIGTERM and SIGINT end it in order; a store that can no longer commit
ends it with exit code 1, since only a restart brings memory and disk together again.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import Literal

import uvloop

from kubernaut_ray import collector
from kubernaut_ray.kube.embedded.log import LogFailed
from kubernaut_ray.kube.embedded.server import EmbeddedServer


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m kubernaut_ray.kube.embedded", description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="where objects, keys and the kubeconfig live")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: any free one)")
    parser.add_argument(
        "--durability",
        choices=("power-loss", "process-crash"),
        default="power-loss",
        help="what an acknowledged write survives; process-crash saves one fsync per commit (default: %(default)s)",
    )
    return parser.parse_args()


async def _serve(arguments: argparse.Namespace) -> int:
    synchronous: Literal["FULL", "NORMAL"] = "FULL" if arguments.durability == "power-loss" else "NORMAL"
    server = EmbeddedServer(arguments.data_dir, arguments.port, arguments.host, synchronous=synchronous)
    ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def end(code: int) -> None:
        if not ended.done():
            ended.set_result(code)

    def fault(error: BaseException) -> None:
        print(f"the store cannot commit: {error}", file=sys.stderr)  # noqa: T201 (a process's last words)
        end(1)

    server.on_fault = fault
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end, 0)
    try:
        await server.start()
    except (LogFailed, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    collector.settle()
    print(f"ready url={server.url} kubeconfig={server.kubeconfig}", flush=True)  # noqa: T201
    code = await ended
    await server.stop()
    return code


def main() -> None:
    sys.exit(uvloop.run(_serve(_arguments())))


if __name__ == "__main__":
    main()
