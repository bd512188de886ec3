"""``python -m kubernaut_ray.kube.pipelines --kubeconfig F --data-dir D``: the embedded pipeline runner as a process."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

import structlog
from pydantic import TypeAdapter

from kubernaut_ray.errors import KubernautError
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.pipelines.credentials import Cluster
from kubernaut_ray.kube.pipelines.oci import Stores
from kubernaut_ray.kube.pipelines.runner import Runner, only_one, run_until
from kubernaut_ray.names import WORKFLOW_NAMESPACE
from kubernaut_ray.settings import RegistryAccess

_ACCESS = TypeAdapter(dict[str, RegistryAccess])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m kubernaut_ray.kube.pipelines", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True, help="how to reach the API server")
    parser.add_argument("--data-dir", type=Path, required=True, help="bundles, logs and scratch folders live here")
    parser.add_argument("--namespace", default=WORKFLOW_NAMESPACE, help="where PipelineRuns are watched")
    parser.add_argument("--slots", type=int, default=8, help="TaskRuns at a time")
    parser.add_argument("--drain-timeout", type=float, default=20.0, help="seconds that running steps get on SIGTERM")
    parser.add_argument(
        "--registry-access", type=_ACCESS.validate_json, help="catalog.registry_access of the settings, as JSON"
    )
    parser.add_argument("--registry-config", type=Path, help="docker config.json with registry logins")
    return parser.parse_args()


async def main(arguments: argparse.Namespace) -> None:
    """Run until SIGTERM or SIGINT, then drain."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    client = await KubeClient.connect(arguments.kubeconfig)
    stores = Stores(
        arguments.data_dir / "bundles",
        access=arguments.registry_access,
        registry_config=arguments.registry_config,
    )
    runner = Runner(
        client,
        Cluster.read(arguments.kubeconfig),
        stores,
        arguments.data_dir,
        namespace=arguments.namespace,
        slots=arguments.slots,
        drain_timeout=arguments.drain_timeout,
    )
    await run_until(stop, client, runner, ready=lambda: print("ready: pipeline runner", flush=True))  # noqa: T201


if __name__ == "__main__":
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    given = _arguments()
    try:
        with only_one(given.data_dir):
            asyncio.run(main(given))
    except KubernautError as error:
        sys.exit(f"pipeline runner: {error}")
