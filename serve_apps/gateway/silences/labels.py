"""What the matchers of a silence see of a signal: its labels, and what the gateway knows about it besides."""

from __future__ import annotations

from serve_apps.gateway.owners import Resolution
from serve_apps.gateway.signal import Signal


def labels_of(signal: Signal, resolution: Resolution) -> dict[str, str]:
    """Return a signal's labels with ``alertname``, ``severity``, ``namespace``, ``signal_type`` and ``target_…``.

    Its own labels win, but over the target, which is what the cluster says.
    """
    target = resolution.target
    return {
        "alertname": signal.name,
        "severity": signal.severity,
        "namespace": target.namespace,
        **signal.labels,
        "signal_type": signal.type,
        "target_kind": target.kind,
        "target_name": target.name,
        "target_namespace": target.namespace,
    }
