"""CloudWatch alarms in each form in which they come, and the doors that are shut."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.errors import InvalidInput, Retryable
from kubernaut_ray.settings import CloudWatchSettings
from serve_apps.gateway import target
from serve_apps.gateway.adapters.cloudwatch import CloudWatch
from serve_apps.gateway.kinds import Kinds
from serve_apps.gateway.signal import Delivery, Ignored, Malformed, Parsed, Signal
from serve_apps.problem import Problem
from tests.build import NOW
from tests.serve_apps.gateway.adapters.signing import SUBSCRIBE_URL, TOPIC, Web, confirmation, notification

ARN = "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:web-cpu"


def trigger(namespace: str = "ContainerInsights", **dimensions: str) -> dict[str, Any]:
    return {
        "MetricName": "pod_cpu_utilization",
        "Namespace": namespace,
        "StatisticType": "Statistic",
        "Statistic": "AVERAGE",
        "Unit": None,
        "Dimensions": [{"value": value, "name": name} for name, value in dimensions.items()],
        "Period": 60,
        "EvaluationPeriods": 1,
        "DatapointsToAlarm": 1,
        "ComparisonOperator": "GreaterThanThreshold",
        "Threshold": 80.0,
        "TreatMissingData": "missing",
        "EvaluateLowSampleCountPercentile": "",
    }


def alarm(**fields: Any) -> dict[str, Any]:
    """An alarm as SNS notifications carry it."""
    return {
        "AlarmName": "web-cpu",
        "AlarmDescription": "CPU of the shop. severity=critical",
        "AWSAccountId": "123456789012",
        "AlarmConfigurationUpdatedTimestamp": "2026-01-10T08:00:00.000+0000",
        "NewStateValue": "ALARM",
        "NewStateReason": "Threshold Crossed: 1 datapoint [92.5 (01/03/26 11:58:00)] was greater than the threshold (80.0).",
        "StateChangeTime": "2026-03-01T11:59:00.535+0000",
        "Region": "EU (Frankfurt)",
        "AlarmArn": ARN,
        "OldStateValue": "OK",
        "OKActions": [],
        "AlarmActions": [TOPIC],
        "InsufficientDataActions": [],
        "Trigger": trigger(ClusterName="prod", Namespace="shop", PodName="web"),
    } | fields


def change(value: str = "ALARM", **fields: Any) -> dict[str, Any]:
    """The same change of state as EventBridge tells it."""
    return {
        "version": "0",
        "id": "c4c1c1c9-6542-e61b-6ef0-8c4d36933a92",
        "detail-type": "CloudWatch Alarm State Change",
        "source": "aws.cloudwatch",
        "account": "123456789012",
        "time": "2026-03-01T11:59:01Z",
        "region": "eu-central-1",
        "resources": [ARN],
        "detail": {
            "alarmName": "web-cpu",
            "configuration": {
                "description": "CPU of the shop. severity=critical",
                "metrics": [
                    {
                        "id": "30b6c6b2-a864-43a2-4877-c09a1afc3b87",
                        "metricStat": {
                            "metric": {
                                "dimensions": {"ClusterName": "prod", "Namespace": "shop", "PodName": "web"},
                                "name": "pod_cpu_utilization",
                                "namespace": "ContainerInsights",
                            },
                            "period": 60,
                            "stat": "Average",
                        },
                        "returnData": True,
                    }
                ],
            },
            "previousState": {"reason": "", "timestamp": "2026-03-01T10:00:00.000+0000", "value": "OK"},
            "state": {
                "reason": "Threshold Crossed",
                "reasonData": '{"version":"1.0"}',
                "timestamp": "2026-03-01T11:59:00.535+0000",
                "value": value,
            },
        },
    } | fields


def delivery(body: Any, **headers: str) -> Delivery:
    return Delivery(body if isinstance(body, bytes) else json.dumps(body).encode(), headers, NOW)


def parse(body: Any) -> Parsed:
    (entry,) = CloudWatch(CloudWatchSettings(), Web()).parse(delivery(body))
    return entry


def signal(body: Any) -> Signal:
    entry = parse(body)
    assert isinstance(entry, Signal), entry
    return entry


FORMS = [
    pytest.param(alarm(), id="raw message delivery"),
    pytest.param(notification(alarm()), id="SNS notification"),
    pytest.param(change(), id="EventBridge"),
    pytest.param(notification(change()), id="EventBridge through SNS"),
]


@pytest.mark.parametrize("body", FORMS)
def test_an_alarm_is_the_same_signal_in_every_form(body: dict[str, Any]) -> None:
    """Name, severity, time, words and labels do not depend on the way it came."""
    one = signal(body)

    assert (one.name, one.severity, one.resolved) == ("web-cpu", "critical", False)
    assert one.firing_time.isoformat() == "2026-03-01T11:59:00.535000+00:00"
    assert one.description.startswith("CPU of the shop. severity=critical\nThreshold Crossed")
    assert one.labels == {
        "alertname": "web-cpu",
        "region": "eu-central-1",
        "account": "123456789012",
        "metric_namespace": "ContainerInsights",
        "metric": "pod_cpu_utilization",
        "cluster": "prod",
        "namespace": "shop",
        "workload": "web",
    }
    assert (one.provider_data["alarmArn"], one.provider_data["previousState"]) == (ARN, "OK")


def test_a_notification_says_where_it_came_from() -> None:
    """Topic and message id are kept."""
    provider = signal(notification(alarm())).provider_data
    assert (provider["topicArn"], provider["messageId"]) == (TOPIC, "da41e39f-ea4d-435a-b922-c6aae3915ebe")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(alarm(NewStateValue="OK"), True, id="OK resolves"),
        pytest.param(change("OK"), True, id="OK resolves, by EventBridge"),
        pytest.param(alarm(NewStateValue="INSUFFICIENT_DATA"), "too little data", id="insufficient data"),
        pytest.param(change("INSUFFICIENT_DATA"), "too little data", id="insufficient data, by EventBridge"),
        pytest.param(
            change(**{"detail-type": "CloudWatch Alarm Configuration Change"}), "only", id="a changed configuration"
        ),
    ],
)
def test_states(body: dict[str, Any], expected: bool | str) -> None:
    """ALARM fires, OK resolves, everything else asks for nothing and says why."""
    entry = parse(body)
    if isinstance(expected, str):
        assert isinstance(entry, Ignored)
        assert expected in entry.why
    else:
        assert isinstance(entry, Signal)
        assert entry.resolved is expected


@pytest.mark.parametrize(
    ("description", "severity"),
    [
        pytest.param("severity: Sev-1 for the shop", "Sev-1", id="after a colon, raw"),
        pytest.param('{"severity": "critical", "team": "x"}', "critical", id="JSON"),
        pytest.param("SEVERITY=warning", "warning", id="any case"),
        pytest.param("perseverity=x", "unknown", id="another word"),
        pytest.param("it is severe", "unknown", id="not said"),
        pytest.param(None, "unknown", id="no description"),
    ],
)
def test_severity(description: str | None, severity: str) -> None:
    """Raw, as the description says it."""
    assert signal(alarm(AlarmDescription=description)).severity == severity


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(
            alarm(
                Trigger=trigger(ClusterName="c", Namespace="shop", PodName="web", FullPodName="web-7d4b9c6f5d-x2x4b")
            ),
            ["shop/pod/web-7d4b9c6f5d-x2x4b", "shop/cronjob/web", "shop/daemonset/web"],
            id="the full pod name first, then the workload's kinds",
        ),
        pytest.param(
            alarm(Trigger=trigger(ClusterName="c", Namespace="shop", Service="web")),
            ["shop/service/web"],
            id="a service",
        ),
        pytest.param(
            alarm(Trigger=trigger(ClusterName="c", InstanceId="i-0a", NodeName="ip-10-0-0-1.ec2.internal")),
            ["node/ip-10-0-0-1.ec2.internal"],
            id="a node",
        ),
        pytest.param(
            alarm(Trigger=trigger("Shop", Namespace="shop", Deployment="web")),
            ["shop/deployment/web"],
            id="a metric of one's own that says Kubernetes words",
        ),
        pytest.param(
            alarm(Trigger=trigger("AWS/Usage", Service="ecs", Type="API")), [], id="an AWS service is no Service"
        ),
        pytest.param(alarm(Trigger=trigger("AWS/RDS", DBInstanceIdentifier="db")), [], id="a database"),
        pytest.param(alarm(Trigger=trigger(ClusterName="c")), [], id="a whole cluster"),
    ],
)
def test_dimensions_name_kubernetes_objects(body: dict[str, Any], expected: list[str]) -> None:
    """What Container Insights measures is found as a target; what AWS alone knows is not mistaken for one."""
    found = [str(c) for c in target.candidates(signal(body), Kinds())]
    assert [c for c in expected if c in found] == expected
    assert found[:1] == expected[:1]
    assert bool(found) == bool(expected)


def test_other_dimensions_are_marked() -> None:
    """Their names are told apart from Kubernetes words."""
    labels = signal(alarm(Trigger=trigger("AWS/RDS", DBInstanceIdentifier="db", EngineName="pg"))).labels
    assert labels["dimension_dbinstance_identifier"] == "db"
    assert labels["dimension_engine_name"] == "pg"


def test_metric_math_counts_where_its_metrics_agree() -> None:
    """A dimension that differs between the metrics says nothing about the alarm."""

    def metric(pod: str) -> dict[str, Any]:
        stat = {"Metric": trigger(Namespace="shop", PodName="web", FullPodName=pod), "Period": 60, "Stat": "Average"}
        return {"Id": "m1", "MetricStat": stat, "ReturnData": False}

    expression = {"Expression": "m1/m2", "Id": "e1", "Label": "ratio", "ReturnData": True}
    labels = signal(alarm(Trigger={"Period": 60, "Metrics": [expression, metric("a"), metric("b")]})).labels

    assert (labels["namespace"], labels["workload"]) == ("shop", "web")
    assert "pod" not in labels


def test_a_composite_alarm_has_no_metric() -> None:
    """It is known by its name, account and region."""
    composite = {
        "AlarmName": "shop-down",
        "AlarmDescription": None,
        "AWSAccountId": "123456789012",
        "NewStateValue": "ALARM",
        "NewStateReason": "arn:… transitioned to ALARM",
        "StateChangeTime": "2026-03-01T11:59:00.535+0000",
        "Region": "EU (Frankfurt)",
        "AlarmArn": "arn:aws-cn:cloudwatch:cn-north-1:123456789012:alarm:shop-down",
        "OldStateValue": "OK",
        "AlarmRule": "ALARM(web-cpu) OR ALARM(web-5xx)",
        "TriggeringChildren": [{"Arn": ARN, "State": {"Value": "ALARM", "Timestamp": "2026-03-01T11:59:00.535+0000"}}],
    }
    assert signal(composite).labels == {"alertname": "shop-down", "region": "cn-north-1", "account": "123456789012"}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        pytest.param(alarm(AlarmName=None), "AlarmName", id="no name"),
        pytest.param(alarm(NewStateValue="SAD"), "NewStateValue", id="an unknown state"),
        pytest.param(alarm(NewStateValue=["OK"]), "NewStateValue", id="state is a list"),
        pytest.param(alarm(StateChangeTime="yesterday"), "StateChangeTime", id="no time"),
        pytest.param({"hello": "world"}, "body", id="other JSON"),
        pytest.param(notification(alarm(AlarmName="")), "Message.AlarmName", id="no name, through SNS"),
        pytest.param(notification("plain words"), "Message", id="SNS with plain words"),
        pytest.param(notification({"Event": "budget"}), "Message", id="SNS with another message"),
        pytest.param(change(detail=None), "detail.alarmName", id="EventBridge without detail"),
        pytest.param(change("SAD"), "detail.state.value", id="EventBridge with an unknown state"),
    ],
)
def test_malformed_alarms_say_where(body: dict[str, Any], path: str) -> None:
    """Every missing or wrong part is named by its path."""
    entry = parse(body)
    assert isinstance(entry, Malformed)
    assert path in [p for p, _ in entry.problems]


@pytest.mark.parametrize("body", FORMS)
async def test_each_form_is_let_in_by_default(body: dict[str, Any]) -> None:
    """The signature where there is one, the caller's token where there is none."""
    await CloudWatch(CloudWatchSettings(), Web()).authenticate(delivery(body))


@pytest.mark.parametrize(
    ("settings", "body", "headers", "says"),
    [
        pytest.param({}, notification("a") | {"Message": "b"}, {}, "does not match", id="a changed message"),
        pytest.param({"allow_unsigned": False}, alarm(), {}, "no SNS signature", id="unsigned where that is shut"),
        pytest.param({"allow_unsigned": False}, change(), {}, "no SNS signature", id="EventBridge where that is shut"),
        pytest.param({"topic_arns": ("arn:other",)}, notification(alarm()), {}, "topic_arns", id="another topic"),
        pytest.param(
            {"topic_arns": (TOPIC,)}, alarm(), {"x-amz-sns-topic-arn": "arn:x"}, "topic_arns", id="another topic, raw"
        ),
        pytest.param({}, confirmation(), {}, "confirm_subscriptions", id="a subscription that nobody allowed"),
        pytest.param(
            {"confirm_subscriptions": True, "topic_arns": ("arn:other",)},
            confirmation(),
            {},
            "topic_arns",
            id="to any topic",
        ),
        pytest.param(
            {"confirm_subscriptions": True},
            confirmation() | {"Token": "x"},
            {},
            "does not match",
            id="a forged subscription",
        ),
    ],
)
async def test_who_is_turned_away(settings: dict[str, Any], body: Any, headers: dict[str, str], says: str) -> None:
    """403, a reason, and nothing confirmed."""
    fetch = Web()
    with pytest.raises(Problem, match=says) as refused:
        await CloudWatch(CloudWatchSettings(**settings), fetch).authenticate(delivery(body, **headers))
    assert refused.value.status == 403
    assert SUBSCRIBE_URL not in fetch.fetched


async def test_a_subscription_is_confirmed_where_it_is_allowed() -> None:
    """The SubscribeURL is fetched, the answer asks for nothing."""
    fetch = Web()
    adapter = CloudWatch(CloudWatchSettings(confirm_subscriptions=True, topic_arns=(TOPIC,)), fetch)
    await adapter.authenticate(delivery(confirmation()))
    (entry,) = adapter.parse(delivery(confirmation()))

    assert SUBSCRIBE_URL in fetch.fetched
    assert isinstance(entry, Ignored)
    assert TOPIC in entry.why


async def test_an_ended_subscription_is_only_noted() -> None:
    """Its SubscribeURL would subscribe again; it is not fetched."""
    fetch = Web()
    adapter = CloudWatch(CloudWatchSettings(confirm_subscriptions=True), fetch)
    await adapter.authenticate(delivery(confirmation("UnsubscribeConfirmation")))
    (entry,) = adapter.parse(delivery(confirmation("UnsubscribeConfirmation")))

    assert SUBSCRIBE_URL not in fetch.fetched
    assert isinstance(entry, Ignored)


async def test_sns_is_told_to_come_again_while_its_certificate_cannot_be_had() -> None:
    """A 503 is repeated by SNS; a 403 would lose the alarm."""
    fetch = Web()
    fetch.pages.clear()
    with pytest.raises(Retryable):
        await CloudWatch(CloudWatchSettings(), fetch).authenticate(delivery(notification(alarm())))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [*alarm(), *trigger(), *change(), *change()["detail"], "Type", "value", "name", "metricStat"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(
    json_values
    | st.builds(lambda v: alarm(Trigger=v), json_values)
    | st.builds(lambda v: change(detail=v), json_values)
)
async def test_no_json_crashes_it(value: Any) -> None:
    """Any JSON is refused with a reason or read."""
    adapter = CloudWatch(CloudWatchSettings(), Web())
    with contextlib.suppress(InvalidInput, Problem, Retryable):
        await adapter.authenticate(delivery(value))
    with contextlib.suppress(InvalidInput):
        assert adapter.parse(delivery(value))
