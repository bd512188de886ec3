"""The catalog owner as a detached, named actor: one in the cluster, the only opener of the DuckDB file.

``ensure`` gets or creates it and replaces one that was made from other settings. The wrapper carries bytes between callers
and ``catalog.owner.Owner`` and nothing else. Killed, it is started again by Ray and opens the file anew: what it had
acknowledged is there, what it had not is told again by clients that know their events by id.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson
import ray
import structlog

from kubernaut_ray import collector, names
from kubernaut_ray.clock import utcnow
from kubernaut_ray.errors import Permanent
from kubernaut_ray.settings import Settings

OPEN_TIMEOUT = 30.0
"""Seconds to wait for a predecessor to let go of the file."""
CLOSE_TIMEOUT = 20.0
HEALTH_GROUP = "health"

WITHOUT_ARROW = "KUBERNAUT_WITHOUT_ARROW"
"""Environment variable that names the folder by which the runtime hides pyarrow."""

log = structlog.get_logger(__name__)

if TYPE_CHECKING:
    from catalog.owner import Owner


class CatalogOwner:
    """The actor's class. ``settings`` are ``Settings`` in JSON form; ``digest`` names them."""

    def __init__(self, settings: Mapping[str, Any], digest: str) -> None:
        self._digest = digest
        self._owner = _open(Settings(**settings))
        collector.settle()

    async def call(self, method: str, payload: bytes) -> bytes:
        answer = await asyncio.wrap_future(self._owner.call(method, payload))
        if self._owner.broken:
            log.critical("catalog_owner_restarts", reason="the database gave up; a fresh process opens it anew")
            os._exit(1)
        return answer

    async def snapshot(self, have: int) -> bytes:
        return await asyncio.to_thread(self._owner.snapshot, have)

    async def identity(self) -> dict[str, Any]:
        """Say which settings it was made from, and its process."""
        return {"digest": self._digest, "pid": os.getpid()}

    async def health(self) -> bool:
        """Say whether the store answers. Call it in ``HEALTH_GROUP``, which has a thread of its own."""
        await asyncio.wrap_future(self._owner.call("version", b"null"))
        return not self._owner.broken

    async def close(self) -> None:
        """Finish what was accepted, checkpoint, and release the file."""
        await asyncio.to_thread(self._owner.close)


def _open(settings: Settings) -> Owner:
    _allow_arrow()
    # Here and not above: whoever only looks for the actor should not load DuckDB, Arrow and FAISS.
    from catalog.bundles import Bundles
    from catalog.embed import embedder_for
    from catalog.owner import Owner
    from catalog.policy import TrailPolicy

    catalog = settings.catalog
    bundles = Bundles(
        settings.data_dir / "bundles", access=catalog.registry_access, registry_config=catalog.registry_config
    )
    deadline = time.monotonic() + OPEN_TIMEOUT
    while True:
        try:
            return Owner(
                settings.data_dir / "catalog",
                embedder=embedder_for(catalog),
                source=bundles,
                now=utcnow,
                policy=TrailPolicy.of(catalog),
                memory_limit=catalog.database_memory,
                bundles=settings.data_dir / "bundles",
            )
        except Permanent as error:
            if error.reason != "StoreInUse" or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _allow_arrow() -> None:
    """Take away what ``up`` put on the path to keep pyarrow out of processes that do not write through it."""
    hidden = os.environ.get(WITHOUT_ARROW, "")
    sys.path[:] = [entry for entry in sys.path if not hidden or entry != hidden]


def ensure(args: Mapping[str, Any]) -> Any:
    """Return the handle of the running owner, made or replaced as ``args["settings"]`` asks. Blocks until it answers.

    Raises ``Permanent`` when it cannot start, for example because another process has the file open.
    """
    settings = Settings(**args.get("settings", {})).model_dump(mode="json", include={"data_dir", "catalog"})
    settings["catalog"].pop("embedder_api_key")  # comes to the actor by its environment
    digest = hashlib.sha256(orjson.dumps(settings, option=orjson.OPT_SORT_KEYS)).hexdigest()
    try:
        handle = _get_or_create(settings, digest)
        if ray.get(handle.identity.remote())["digest"] != digest:
            stop(handle)
            handle = _get_or_create(settings, digest)
        healthy = handle.health.options(concurrency_group=HEALTH_GROUP)
        ray.get(healthy.remote())
    except ray.exceptions.RayActorError as error:
        raise Permanent(f"the catalog owner did not start: {error}", reason="CatalogOwnerFailed") from error
    return handle


def stop(handle: Any | None = None) -> None:
    """Close the owner in order and end it; nothing happens when there is none."""
    try:
        handle = handle or ray.get_actor(names.CATALOG_OWNER_ACTOR, namespace=names.RAY_NAMESPACE)
    except ValueError:
        return
    try:
        ray.get(handle.close.remote(), timeout=CLOSE_TIMEOUT)
    except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as error:
        log.warning("catalog_owner_not_closed", error=type(error).__name__)
    ray.kill(handle, no_restart=True)


def _get_or_create(settings: Mapping[str, Any], digest: str) -> Any:
    remote: Any = ray.remote  # its annotations leave concurrency groups out
    actor = remote(concurrency_groups={HEALTH_GROUP: 2})(CatalogOwner)
    options = {
        "name": names.CATALOG_OWNER_ACTOR,
        "namespace": names.RAY_NAMESPACE,
        "lifetime": "detached",
        "get_if_exists": True,
        "num_cpus": 0,
        "max_restarts": -1,
        # A call whose outcome is unknown goes back to the client, which knows whether telling again is safe.
        "max_task_retries": 0,
        "max_concurrency": 1000,
    }
    return actor.options(**options).remote(settings, digest)
