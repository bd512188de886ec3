"""Warning Events on our objects: what ``kubectl describe`` shows when something cannot go on.

One Event per object, reason and message; said again, its count grows. Writing one is best effort: it must never stand in
the way of the work.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

import structlog

from kubernaut_ray import clock
from kubernaut_ray.control.decision import Key
from kubernaut_ray.errors import KubernautError
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import AlreadyExists
from kubernaut_ray.kube.resources import EVENT, Resource

MESSAGE_LIMIT = 1000

log = structlog.get_logger(__name__)


async def warn(
    client: KubeClient,
    resource: Resource,
    key: Key,
    *,
    uid: str,
    reason: str,
    message: str,
    component: str,
    now: datetime,
) -> None:
    """Write the Event, or count it up when it was said before."""
    text = message if len(message) <= MESSAGE_LIMIT else f"{message[: MESSAGE_LIMIT - 1]}…"
    digest = hashlib.sha256(f"{resource.kind}\x1f{uid}\x1f{reason}\x1f{text}".encode()).hexdigest()[:16]
    name = f"{key.name[:230]}.{digest}"
    namespace = key.namespace or "default"
    stamp = clock.rfc3339(now)[:19] + "Z"
    involved: dict[str, Any] = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": key.name,
        "namespace": key.namespace,
        "uid": uid,
    }
    event = {
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {field: value for field, value in involved.items() if value},
        "reason": reason,
        "message": text,
        "type": "Warning",
        "source": {"component": component},
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
    try:
        try:
            await client.create(EVENT, event, namespace)
        except AlreadyExists:
            known = await client.get(EVENT, name, namespace)
            again = {"count": int(known.get("count") or 1) + 1, "lastTimestamp": stamp}
            await client.patch(EVENT, name, again, namespace)
    except KubernautError as error:
        log.info("event.not_written", reason=reason, error=str(error))
