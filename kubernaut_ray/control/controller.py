"""What every controller is built from. Each ``actors/<kind>/controller.py`` has ``build(deps) -> Controller``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.recall import Recall
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.settings import Settings

Wake = Callable[[str, str], None]
"""``wake(namespace, name)``: look at this object again soon. Safe from any task of the same event loop."""


class AuditSink(Protocol):
    """Takes facts. Once ``record`` has returned the event survives this process's death."""

    async def record(self, event: AuditEvent) -> None: ...


@dataclass(frozen=True, slots=True)
class Deps:
    """Everything that a controller may use from outside."""

    client: KubeClient
    settings: Settings
    endpoints: Endpoints
    token: Callable[[], str]
    """The bearer token for our own HTTP services, read anew at each call."""
    wake: Wake
    recall: Recall = field(default_factory=Recall)
    """What events have just told. Empty, always, unless the loop was given it too."""
