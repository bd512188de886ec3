"""Alertmanager's webhook, version 4 (prometheus/alertmanager ``notify/webhook``; https://prometheus.io/docs/alerting/latest/configuration/#webhook_config)."""

from __future__ import annotations

from serve_apps.gateway.adapters import alerts
from serve_apps.gateway.adapters.adapter import TokenSuffices
from serve_apps.gateway.signal import Delivery, Parsed

TYPE = "prometheus-alert"
SOURCE = "alertmanager"

_SENDER = alerts.Sender(
    title="Alertmanager webhook",
    type=TYPE,
    source=SOURCE,
    group_fields=("receiver", "groupKey", "externalURL"),
    alert_fields=("generatorURL", "fingerprint"),
)


class Alertmanager(TokenSuffices):
    route = "/prometheus"
    media_types = ("application/json",)
    repeats = True

    def parse(self, delivery: Delivery) -> tuple[Parsed, ...]:
        return alerts.read(delivery, _SENDER)
