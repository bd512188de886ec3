"""Grafana unified alerting's webhook (https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/).

The alerts are Alertmanager's, with Grafana's links and measured values beside them. A signal is called what Grafana calls
the alert: a rule whose query found nothing or failed arrives as ``DatasourceNoData`` or ``DatasourceError`` with the rule in
the label ``rulename``. These stay signals of their own name, because they say that nothing is known of the rule's own
condition: they must neither open nor end what the rule itself is about. The alert that the button *Test* of a contact point
sends is answered, and asks for nothing.
"""

from __future__ import annotations

from serve_apps.gateway.adapters import alerts
from serve_apps.gateway.adapters.adapter import TokenSuffices
from serve_apps.gateway.signal import Delivery, Ignored, Parsed, Signal

TYPE = "grafana-alert"
SOURCE = "grafana"

_SENDER = alerts.Sender(
    title="Grafana webhook",
    type=TYPE,
    source=SOURCE,
    group_fields=("receiver", "groupKey", "externalURL", "orgId"),
    alert_fields=(
        *("generatorURL", "fingerprint", "silenceURL", "dashboardURL", "panelURL", "imageURL"),
        *("valueString", "values"),
    ),
)
_TEST = {"alertname": "TestAlert", "instance": "Grafana"}


class Grafana(TokenSuffices):
    route = "/grafana"
    media_types = ("application/json",)
    repeats = True

    def parse(self, delivery: Delivery) -> tuple[Parsed, ...]:
        return tuple(_without_test(entry) for entry in alerts.read(delivery, _SENDER))


def _without_test(entry: Parsed) -> Parsed:
    if isinstance(entry, Signal) and _TEST.items() <= entry.labels.items():
        return Ignored(entry.name, "this is Grafana's test of the contact point; it arrived and asks for nothing")
    return entry
