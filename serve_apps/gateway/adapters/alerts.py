"""Groups of alerts as Alertmanager's webhook carries them; Grafana's is the same and more. Called by those two adapters.

Every alert of a group is a signal of its own: its labels are the common ones with its own on top. An alert's own status
says whether it fires or is resolved; only an alert without one takes the group's. One bad alert never sinks the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from kubernaut_ray.errors import InvalidInput
from serve_apps.gateway.adapters.reading import STATUSES, Problems, description, instant, json_object
from serve_apps.gateway.signal import UNKNOWN_SEVERITY, Delivery, Malformed, Parsed, Signal, cut, text_map

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Sender:
    """What tells one sender of such groups from another. The fields named are kept as the signal's provider data."""

    title: str
    type: str
    source: str
    group_fields: tuple[str, ...]
    alert_fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Group:
    """What the alerts of one delivery share."""

    sender: Sender
    delivery: Delivery
    status: Any
    labels: dict[str, str]
    annotations: dict[str, str]
    provider: dict[str, Any]


def read(delivery: Delivery, sender: Sender) -> tuple[Parsed, ...]:
    """Return the alerts of the group in order. Raises ``InvalidInput`` when there is no list of alerts."""
    body = json_object(delivery.body)
    alerts = body.get("alerts")
    if not isinstance(alerts, list) or not alerts:
        what = "is empty" if alerts == [] else "must be a list of alerts"
        raise InvalidInput(f"{sender.title}: alerts {what}", problems=(("alerts", what),))
    if truncated := body.get("truncatedAlerts"):
        # The sender itself cut the group (its max_alerts); we cannot see what it left out.
        log.warning("gateway.group_truncated", truncated=truncated, group=str(body.get("groupKey", ""))[:200])
    # Only a convenience: each alert carries all its labels itself, so a common one that is no text is no problem.
    ignored: Problems = []
    group = _Group(
        sender=sender,
        delivery=delivery,
        status=body.get("status"),
        labels=text_map(body.get("commonLabels"), "commonLabels", ignored),
        annotations=text_map(body.get("commonAnnotations"), "commonAnnotations", ignored),
        provider=_kept(body, sender.group_fields),
    )
    return tuple(_signal(alert, f"alerts[{index}]", group) for index, alert in enumerate(alerts))


def _signal(alert: Any, path: str, group: _Group) -> Parsed:
    if not isinstance(alert, dict):
        return Malformed("", ((path, f"must be an object, not {type(alert).__name__}"),))
    problems: Problems = []
    labels = group.labels | text_map(alert.get("labels"), f"{path}.labels", problems)
    annotations = group.annotations | text_map(alert.get("annotations"), f"{path}.annotations", problems)
    name = labels.get("alertname", "")
    if not name:
        problems.append((f"{path}.labels.alertname", "is missing; an alert without a name cannot be told from others"))
    status = alert.get("status") or group.status or "firing"
    if status not in STATUSES:
        problems.append((f"{path}.status", "must be firing or resolved"))
    starts = instant(alert.get("startsAt"), f"{path}.startsAt", problems) or group.delivery.received
    if problems:
        return Malformed(name, tuple(problems))
    return Signal(
        name=cut(name, 253),
        type=group.sender.type,
        source=group.sender.source,
        severity=cut(labels.get("severity") or UNKNOWN_SEVERITY, 63),
        firing_time=starts,
        received_time=group.delivery.received,
        labels=labels,
        annotations=annotations,
        description=description(annotations),
        resolved=status == "resolved",
        provider_data=group.provider | _kept(alert, group.sender.alert_fields),
        raw=alert,
    )


def _kept(obj: Mapping[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    return {k: v for k in fields if (v := obj.get(k)) not in (None, "")}
