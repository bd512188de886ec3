"""The sources of signals. A new one is a module with an ``Adapter`` and one line in ``adapters``.

An adapter turns the bytes of one request into signals and says which entries are none, and why. It neither looks anything
up in the cluster nor decides what becomes of a signal.
"""

from __future__ import annotations

from kubernaut_ray.settings import Settings
from serve_apps.gateway.adapters.adapter import Adapter, check_media_type
from serve_apps.gateway.adapters.alertmanager import Alertmanager
from serve_apps.gateway.adapters.cloudevents import CloudEvents
from serve_apps.gateway.adapters.cloudwatch import CloudWatch
from serve_apps.gateway.adapters.grafana import Grafana
from serve_apps.gateway.adapters.kubernetes_event import KubernetesEvent

__all__ = ["PREFIX", "Adapter", "adapters", "check_media_type"]

PREFIX = "/api/v1/signals"


def adapters(settings: Settings) -> tuple[Adapter, ...]:
    """Return every source's adapter, set up for one gateway."""
    return (
        Alertmanager(),
        KubernetesEvent(),
        Grafana(),
        CloudWatch(settings.gateway.cloudwatch),
        CloudEvents(),
    )
