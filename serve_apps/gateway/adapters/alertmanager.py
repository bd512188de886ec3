"""Alertmanager's webhook, version 4 (prometheus/alertmanager ``notify/webhook``; https://prometheus.io/docs/alerting/latest/configuration/#webhook_config).

Every alert of a group is a signal of its own: its labels are the common ones with its own on top. An alert's own status
says whether it fires or is resolved; only an alert without one takes the group's.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
import structlog

from kubernaut_ray import clock
from kubernaut_ray.errors import InvalidInput
from serve_apps.gateway.signal import UNKNOWN_SEVERITY, Delivery, Malformed, Parsed, Signal, cut, text_map

TYPE = "prometheus-alert"
SOURCE = "alertmanager"
_STATUSES = ("firing", "resolved")

log = structlog.get_logger(__name__)


class Alertmanager:
    route = "/prometheus"
    media_types = ("application/json",)

    def parse(self, delivery: Delivery) -> tuple[Parsed, ...]:
        group = _json_object(delivery.body)
        alerts = group.get("alerts")
        if not isinstance(alerts, list) or not alerts:
            what = "is empty" if alerts == [] else "must be a list of alerts"
            raise InvalidInput(f"Alertmanager webhook: alerts {what}", problems=(("alerts", what),))
        if truncated := group.get("truncatedAlerts"):
            # Alertmanager itself cut the group (its max_alerts); we cannot see what it left out.
            log.warning("gateway.group_truncated", truncated=truncated, group=str(group.get("groupKey", ""))[:200])
        # Only a convenience: each alert carries all its labels itself, so a common one that is no text is no problem.
        ignored: list[tuple[str, str]] = []
        common_labels = text_map(group.get("commonLabels"), "commonLabels", ignored)
        common_annotations = text_map(group.get("commonAnnotations"), "commonAnnotations", ignored)
        provider = {k: v for k in ("receiver", "groupKey", "externalURL") if isinstance(v := group.get(k), str)}
        return tuple(
            _signal(alert, index, group.get("status"), common_labels, common_annotations, provider, delivery.received)
            for index, alert in enumerate(alerts)
        )


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidInput(f"the body must be a JSON object, not {type(value).__name__}")
    return value


def _signal(
    alert: Any,
    index: int,
    group_status: Any,
    common_labels: dict[str, str],
    common_annotations: dict[str, str],
    provider: dict[str, str],
    received: datetime,
) -> Parsed:
    path = f"alerts[{index}]"
    if not isinstance(alert, dict):
        return Malformed("", ((path, f"must be an object, not {type(alert).__name__}"),))
    problems: list[tuple[str, str]] = []
    labels = common_labels | text_map(alert.get("labels"), f"{path}.labels", problems)
    annotations = common_annotations | text_map(alert.get("annotations"), f"{path}.annotations", problems)
    name = labels.get("alertname", "")
    if not name:
        problems.append((f"{path}.labels.alertname", "is missing; an alert without a name cannot be told from others"))
    status = alert.get("status") or group_status or "firing"
    if status not in _STATUSES:
        problems.append((f"{path}.status", "must be firing or resolved"))
    starts = _instant(alert.get("startsAt"), f"{path}.startsAt", problems) or received
    if problems:
        return Malformed(name, tuple(problems))
    extra = {k: v for k in ("generatorURL", "fingerprint") if isinstance(v := alert.get(k), str)}
    return Signal(
        name=cut(name, 253),
        type=TYPE,
        source=SOURCE,
        severity=cut(labels.get("severity") or UNKNOWN_SEVERITY, 63),
        firing_time=starts,
        received_time=received,
        labels=labels,
        annotations=annotations,
        description=_description(annotations),
        resolved=status == "resolved",
        provider_data=provider | extra,
        raw=alert,
    )


def _instant(value: Any, path: str, problems: list[tuple[str, str]]) -> datetime | None:
    """Read a time; Go's zero time and an absent one are ``None``."""
    if value is None or value == "" or (isinstance(value, str) and value.startswith("0001-01-01T")):
        return None
    try:
        return clock.parse_rfc3339(value)
    except (ValueError, TypeError, OverflowError):
        problems.append((path, "must be an RFC 3339 time such as 2026-01-31T12:00:00Z"))
        return None


def _description(annotations: dict[str, str]) -> str:
    parts = [annotations[k].strip() for k in ("summary", "description", "message") if annotations.get(k, "").strip()]
    return cut("\n".join(dict.fromkeys(parts)), 32_768)
