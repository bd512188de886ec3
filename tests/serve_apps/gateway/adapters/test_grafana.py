"""Grafana's webhook: Alertmanager's alerts with Grafana's own things around them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubernaut_ray.errors import InvalidInput
from serve_apps.gateway import target
from serve_apps.gateway.adapters.grafana import Grafana
from serve_apps.gateway.kinds import Kinds
from serve_apps.gateway.signal import Delivery, Ignored, Malformed, Parsed, Signal
from tests.build import NOW


def alert(**fields: Any) -> dict[str, Any]:
    """An alert as Grafana 11 sends it."""
    return {
        "status": "firing",
        "labels": {
            "alertname": "High memory usage",
            "grafana_folder": "Shop",
            "namespace": "shop",
            "pod": "web-1",
            "severity": "critical",
        },
        "annotations": {
            "description": "The pod has high memory usage",
            "runbook_url": "https://runbooks.example.org/1234",
            "summary": "Triggered for pod web-1",
        },
        "startsAt": "2026-03-01T12:51:03.157076+02:00",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "https://grafana.example.org/alerting/1afz29v7z/edit",
        "fingerprint": "c6eadffa33fcdf37",
        "silenceURL": "https://grafana.example.org/alerting/silence/new?alertmanager=grafana&matchers=alertname%3DT2",
        "dashboardURL": "",
        "panelURL": "https://grafana.example.org/d/abc?viewPanel=2",
        "values": {"B": 44.23943737541908, "C": 1},
        "valueString": "[ var='B' labels={pod=web-1} value=44.23943737541908 ]",
    } | fields


def webhook(*alerts: Any, **fields: Any) -> bytes:
    group = {
        "receiver": "kubernaut",
        "status": "firing",
        "orgId": 1,
        "alerts": list(alerts),
        "groupLabels": {},
        "commonLabels": {"team": "blue"},
        "commonAnnotations": {},
        "externalURL": "https://grafana.example.org/",
        "version": "1",
        "groupKey": "{}:{}",
        "truncatedAlerts": 0,
        "title": "[FIRING:2]  (blue)",
        "state": "alerting",
        "message": "**Firing**\n\nLabels:\n - alertname = T2\n",
    }
    return json.dumps(group | fields).encode()


def parse(body: bytes) -> tuple[Parsed, ...]:
    return Grafana().parse(Delivery(body, {}, NOW))


def one(body: bytes) -> Signal:
    (entry,) = parse(body)
    assert isinstance(entry, Signal), entry
    return entry


def test_an_alert_becomes_a_signal() -> None:
    """Links and values are kept beside what Alertmanager would send; empty links are left out."""
    signal = one(webhook(alert()))

    assert (signal.name, signal.type, signal.severity) == ("High memory usage", "grafana-alert", "critical")
    assert signal.firing_time.isoformat() == "2026-03-01T10:51:03.157076+00:00"
    assert signal.labels["team"] == "blue"
    assert signal.description == "Triggered for pod web-1\nThe pod has high memory usage"
    assert signal.provider_data["values"] == {"B": 44.23943737541908, "C": 1}
    assert signal.provider_data["orgId"] == 1
    assert "dashboardURL" not in signal.provider_data
    assert [str(c) for c in target.candidates(signal, Kinds())] == ["shop/pod/web-1"]


def test_every_alert_stands_for_itself() -> None:
    """Firing, resolved and malformed in one group; the group's state decides nothing."""
    firing, resolved, malformed = parse(
        webhook(alert(), alert(status="resolved"), alert(labels={"pod": "x"}), status="firing", state="alerting")
    )
    assert isinstance(firing, Signal)
    assert isinstance(resolved, Signal)
    assert (firing.resolved, resolved.resolved) == (False, True)
    assert isinstance(malformed, Malformed)


@pytest.mark.parametrize("name", ["DatasourceNoData", "DatasourceError"])
def test_a_rule_without_data_is_not_the_rule_s_own_alert(name: str) -> None:
    """It keeps the name that Grafana gives it, so that it neither opens nor resolves what the rule is about."""
    labels = {
        "alertname": name,
        "rulename": "High memory usage",
        "datasource_uid": "p",
        "ref_id": "A",
        "severity": "critical",
    }
    signal = one(webhook(alert(labels=labels, values=None, valueString="")))
    assert (signal.name, signal.labels["rulename"]) == (name, "High memory usage")


def test_the_contact_point_s_test_asks_for_nothing() -> None:
    """What the button Test sends is answered, and opens no incident."""
    labels = {"alertname": "TestAlert", "instance": "Grafana"}
    (entry,) = parse(webhook(alert(labels=labels, annotations={"summary": "Notification test"})))
    assert isinstance(entry, Ignored)


@pytest.mark.parametrize("body", [b'{"title": "x", "alerts": []}', b'{"title": "x"}', b"[]", b"{"])
def test_a_body_without_alerts_is_refused(body: bytes) -> None:
    """A custom payload, for example, is not understood."""
    with pytest.raises(InvalidInput):
        parse(body)
