"""AWS CloudWatch alarms: as SNS notifications (signed, or raw message delivery) and as EventBridge's state change events.

Sources: the CloudWatch user guide, *Notifying users on alarm changes* and *Alarm events and EventBridge*. ALARM fires, OK
resolves; INSUFFICIENT_DATA says nothing of the condition and asks for nothing. Metric math and composite alarms are taken
as they come: dimensions count where all metrics of the alarm agree on them.

What dimensions become labels: in the metric namespaces of Container Insights, and wherever a dimension ``Namespace`` shows
that Kubernetes is meant, the Kubernetes word (``NodeName`` is ``node``, ``FullPodName`` is ``pod``). There ``PodName`` is
the name of the *workload* of the pods (aws/amazon-cloudwatch-agent), which is why it becomes ``workload``. Any other
dimension is ``dimension_NAME``, so that none of AWS's many services is taken for a Kubernetes Service.

An alarm has no severity of its own and its notification no tags: ``severity: critical`` (or ``=``) in the alarm's description
is read, as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.settings import CloudWatchSettings
from serve_apps.gateway.adapters import sns
from serve_apps.gateway.adapters.reading import DESCRIPTION_LENGTH, Problems, instant, json_object, optional, text
from serve_apps.gateway.signal import UNKNOWN_SEVERITY, Delivery, Ignored, Malformed, Parsed, Signal, cut
from serve_apps.problem import Problem

TYPE = "cloudwatch-alarm"
SOURCE = "cloudwatch"

_STATES = ("ALARM", "OK", "INSUFFICIENT_DATA")
_STATE_CHANGE = "CloudWatch Alarm State Change"
_SETTING = "gateway.cloudwatch"

_KUBERNETES = {
    "ClusterName": "cluster",
    "Namespace": "namespace",
    "PodName": "workload",
    "FullPodName": "pod",
    "Service": "service",
    "NodeName": "node",
    "ContainerName": "container",
}
_ARN = re.compile(r"arn:[a-z-]+:cloudwatch:([a-z0-9-]+):([0-9]+):alarm:.+", re.DOTALL)
_SEVERITY = re.compile(r"\bseverity[\"']?\s*[:=]\s*[\"']?([A-Za-z0-9_.-]+)", re.IGNORECASE)
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Metric:
    namespace: str
    name: str
    dimensions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Alarm:
    """An alarm's change of state, whichever way it came. ``path`` names its fields in this form, for problems."""

    name: str
    state: str
    reason: str
    description: str
    arn: str
    changed: Any
    previous: str
    metrics: tuple[_Metric, ...]
    state_path: str
    changed_path: str
    raw: Mapping[str, Any]


class CloudWatch:
    route = "/cloudwatch"
    media_types = ("text/plain", "application/json")
    repeats = False

    def __init__(self, settings: CloudWatchSettings, fetch: sns.Fetch | None = None) -> None:
        self._settings = settings
        self._fetch = fetch or sns.fetcher(settings.fetch_timeout)
        self._verifier = sns.Verifier(self._fetch)

    async def authenticate(self, delivery: Delivery) -> None:
        """Prove that SNS sent this, and confirm the subscription that it asks to confirm, if that is allowed."""
        body = json_object(delivery.body)
        if not sns.is_envelope(body):
            self._unsigned(delivery)
            return
        envelope = sns.read(body)
        self._listens_to(envelope.topic)
        if envelope.type == "SubscriptionConfirmation" and not self._settings.confirm_subscriptions:
            log.warning("gateway.sns_subscription_refused", topic=envelope.topic[:300])
            raise Problem(
                403,
                detail=f"subscriptions are not confirmed here; set {_SETTING}.confirm_subscriptions to true and request the "
                "confirmation again, or confirm it in AWS with the token of this message",
            )
        await self._verifier.verify(envelope, delivery.received)
        if envelope.type == "SubscriptionConfirmation":
            await sns.confirm(envelope, self._fetch)
            log.info("gateway.sns_subscription_confirmed", topic=envelope.topic)
        elif envelope.type == "UnsubscribeConfirmation":
            log.warning("gateway.sns_unsubscribed", topic=envelope.topic)

    def parse(self, delivery: Delivery) -> tuple[Parsed, ...]:
        body = json_object(delivery.body)
        if not sns.is_envelope(body):
            return (_entry(body, delivery, "", {}),)
        envelope = sns.read(body)
        match envelope.type:
            case "SubscriptionConfirmation":
                return (Ignored(envelope.type, f"the subscription to {envelope.topic} is confirmed"),)
            case "UnsubscribeConfirmation":
                return (Ignored(envelope.type, f"{envelope.topic} no longer sends its alarms here"),)
            case "Notification":
                provider = {"topicArn": envelope.topic, "messageId": envelope.message_id}
                try:
                    message = json_object(envelope.message, "Message")
                except InvalidInput as error:
                    return (Malformed("", (("Message", f"must be a CloudWatch alarm; {error}"),)),)
                return (_entry(message, delivery, "Message.", provider),)

    def _unsigned(self, delivery: Delivery) -> None:
        if not self._settings.allow_unsigned:
            raise Problem(
                403,
                detail="this carries no SNS signature; turn raw message delivery off at the subscription, "
                f"or set {_SETTING}.allow_unsigned to true",
            )
        if topic := delivery.headers.get("x-amz-sns-topic-arn", ""):
            self._listens_to(topic)

    def _listens_to(self, topic: str) -> None:
        if self._settings.topic_arns and topic not in self._settings.topic_arns:
            raise Problem(403, detail=f"the SNS topic {topic[:300]} is not among {_SETTING}.topic_arns")


def _entry(body: Mapping[str, Any], delivery: Delivery, path: str, provider: Mapping[str, str]) -> Parsed:
    problems: Problems = []
    if "detail-type" in body:
        if body["detail-type"] != _STATE_CHANGE:
            return Ignored(cut(str(body["detail-type"]), 253), f"only {_STATE_CHANGE!r} is a signal")
        alarm = _from_event_bridge(body, path, problems)
    elif "AlarmName" in body or "NewStateValue" in body:
        alarm = _from_sns(body, path, problems)
    else:
        return Malformed("", ((path.rstrip(".") or "body", "is no CloudWatch alarm: no AlarmName and no detail-type"),))
    if alarm.state and alarm.state not in _STATES:
        problems.append((alarm.state_path, f"must be one of {', '.join(_STATES)}"))
    changed = instant(alarm.changed, alarm.changed_path, problems) or delivery.received
    if problems:
        return Malformed(cut(alarm.name, 253), tuple(problems))
    if alarm.state == "INSUFFICIENT_DATA":
        return Ignored(cut(alarm.name, 253), "the alarm has too little data to tell whether its condition holds")
    severity = _SEVERITY.search(alarm.description)
    told = (alarm.description.strip(), alarm.reason.strip())
    return Signal(
        name=cut(alarm.name, 253),
        type=TYPE,
        source=SOURCE,
        severity=cut(severity[1], 63) if severity else UNKNOWN_SEVERITY,
        firing_time=changed,
        received_time=delivery.received,
        labels=_labels(alarm),
        description=cut("\n".join(part for part in told if part), DESCRIPTION_LENGTH),
        resolved=alarm.state == "OK",
        provider_data={**provider, "alarmArn": alarm.arn, "previousState": alarm.previous},
        raw=alarm.raw,
    )


def _from_sns(body: Mapping[str, Any], path: str, problems: Problems) -> _Alarm:
    trigger = _object(body.get("Trigger"))
    single = [trigger] if "MetricName" in trigger else []
    several = [_object(_object(m).get("MetricStat")).get("Metric") for m in _list(trigger.get("Metrics"))]
    return _Alarm(
        name=text(body, "AlarmName", f"{path}AlarmName", problems, required=True),
        state=text(body, "NewStateValue", f"{path}NewStateValue", problems, required=True),
        reason=optional(body, "NewStateReason"),
        description=optional(body, "AlarmDescription"),
        arn=optional(body, "AlarmArn"),
        changed=body.get("StateChangeTime"),
        previous=optional(body, "OldStateValue"),
        metrics=tuple(
            _Metric(
                namespace=optional(metric, "Namespace"),
                name=optional(metric, "MetricName"),
                dimensions=_texts(
                    (d.get("name"), d.get("value")) for d in map(_object, _list(metric.get("Dimensions")))
                ),
            )
            for metric in (*single, *several)
            if isinstance(metric, dict)
        ),
        state_path=f"{path}NewStateValue",
        changed_path=f"{path}StateChangeTime",
        raw=body,
    )


def _from_event_bridge(body: Mapping[str, Any], path: str, problems: Problems) -> _Alarm:
    detail = _object(body.get("detail"))
    state, previous = _object(detail.get("state")), _object(detail.get("previousState"))
    configuration = _object(detail.get("configuration"))
    metrics = [_object(_object(m).get("metricStat")).get("metric") for m in _list(configuration.get("metrics"))]
    return _Alarm(
        name=text(detail, "alarmName", f"{path}detail.alarmName", problems, required=True),
        state=text(state, "value", f"{path}detail.state.value", problems, required=True),
        reason=optional(state, "reason"),
        description=optional(configuration, "description"),
        arn=next((r for r in _list(body.get("resources")) if isinstance(r, str)), ""),
        changed=state.get("timestamp") or body.get("time"),
        previous=optional(previous, "value"),
        metrics=tuple(
            _Metric(
                namespace=optional(metric, "namespace"),
                name=optional(metric, "name"),
                dimensions=_texts(_object(metric.get("dimensions")).items()),
            )
            for metric in metrics
            if isinstance(metric, dict)
        ),
        state_path=f"{path}detail.state.value",
        changed_path=f"{path}detail.state.timestamp",
        raw=body,
    )


def _labels(alarm: _Alarm) -> dict[str, str]:
    """Return where the alarm and its metrics are, the same for every change of state and every way it comes."""
    labels = {"alertname": alarm.name}
    if arn := _ARN.fullmatch(alarm.arn):
        labels |= {"region": arn[1], "account": arn[2]}
    labels |= _agreed({"metric_namespace": m.namespace, "metric": m.name} for m in alarm.metrics)
    dimensions = _agreed(m.dimensions for m in alarm.metrics)
    kubernetes = "Namespace" in dimensions or any(m.namespace.startswith("ContainerInsights") for m in alarm.metrics)
    for name, value in dimensions.items():
        plain = _WORD_START.sub("_", name).strip("_").lower()
        word = _KUBERNETES.get(name, plain) if kubernetes else f"dimension_{plain}"
        labels.setdefault(word, value)
    return {key: cut(value, 4096) for key, value in list(labels.items())[:256]}


def _agreed(maps: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return what no two of the maps say differently."""
    agreed: dict[str, str] = {}
    disputed: set[str] = set()
    for one in maps:
        for key, value in one.items():
            if value and agreed.setdefault(key, value) != value:
                disputed.add(key)
    return {key: value for key, value in agreed.items() if key not in disputed}


def _texts(pairs: Iterable[tuple[Any, Any]]) -> dict[str, str]:
    return {key: value for key, value in pairs if isinstance(key, str) and isinstance(value, str)}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
