"""Silences as the API server holds them: what it refuses by itself, what may change, and how kubectl shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import Invalid
from kubernaut_ray.kube.resources import SILENCE
from tests import build
from tests.conformance.conftest import Run

pytestmark = pytest.mark.conformance


def silence(**spec: Any) -> Object:
    body = build.silence("sil-1", 'alertname="Foo"', 'severity=~"warning|info"').to_object()
    return {**body, "metadata": {"name": "sil-1"}, "spec": body["spec"] | spec}


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({}, id="as the gateway makes them"),
        pytest.param({"matchers": [{"name": "a", "value": "b"}]}, id="shortest"),
        pytest.param({"matchers": [{"name": "a", "value": "b", "isEqual": False}]}, id="negative ones are enough"),
        pytest.param({"matchers": [{"name": "a", "value": ""}, {"name": "b", "value": ".+", "isRegex": True}]}, id="one of two"),
        pytest.param({"endsAt": "2026-03-01T12:00:00.000000Z"}, id="called off before it began"),
        pytest.param(
            {"timeIntervals": [{
                "times": [{"startTime": "22:00", "endTime": "24:00"}], "weekdays": ["monday:friday", "sunday"],
                "daysOfMonth": ["1:7", "-1"], "months": ["june:8"], "years": ["2026:2030"], "location": "Europe/Berlin",
            }]},
            id="with windows",
        ),
    ],
)  # fmt: skip
async def test_specs_that_are_taken(kube: KubeClient, namespace: str, spec: dict[str, Any]) -> None:
    """Stored whole, with the defaults of a matcher."""
    stored = await kube.create(SILENCE, silence(**spec), namespace)
    assert stored["spec"]["matchers"][0]["isEqual"] is not None
    for name, value in spec.items():
        if name != "matchers":
            assert stored["spec"][name] == value


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        pytest.param({"matchers": []}, "spec.matchers", id="no matcher"),
        pytest.param({"matchers": [{"name": "a", "value": ""}]}, "must not match the empty string", id="everything"),
        pytest.param({"matchers": [{"name": "a", "value": "b*", "isRegex": True}]}, "must not match the empty", id="everything too"),
        pytest.param({"matchers": [{"name": "a", "value": "(", "isRegex": True}]}, "matchers", id="no expression"),
        pytest.param(
            {"matchers": [{"name": "x", "value": "y"}, {"name": "a", "value": "(", "isRegex": True}]}, r"matchers\[1\]",
            id="no expression behind one that narrows",
        ),
        pytest.param({"matchers": [{"name": "", "value": "b"}]}, "name", id="no label"),
        pytest.param({"endsAt": "2026-03-01T11:59:59.000000Z"}, "endsAt must not be before startsAt", id="backwards"),
        pytest.param({"comment": None}, "comment", id="no reason"),
        pytest.param({"timeIntervals": [{"times": [{"startTime": "22:00", "endTime": "25:00"}]}]}, "endTime", id="no time"),
        pytest.param({"timeIntervals": [{"weekdays": ["Caturday"]}]}, "weekdays", id="no weekday"),
        pytest.param({"timeIntervals": [{"daysOfMonth": ["0"]}]}, "daysOfMonth", id="no date"),
    ],
)  # fmt: skip
async def test_specs_that_are_refused(kube: KubeClient, namespace: str, spec: dict[str, Any], words: str) -> None:
    """By kubectl apply already, not by a line in a gateway's log."""
    with pytest.raises(Invalid, match=words):
        await kube.create(SILENCE, silence(**spec), namespace)


async def test_what_may_change(kube: KubeClient, namespace: str) -> None:
    """The end may, the matchers may not: the count would tell of something else."""
    made = await kube.create(SILENCE, silence(), namespace)
    later = {"spec": {"endsAt": "2026-03-02T12:00:00.000000Z", "comment": "longer"}}
    assert (await kube.patch(SILENCE, "sil-1", later, namespace))["metadata"]["generation"] > made["metadata"][
        "generation"
    ]
    with pytest.raises(Invalid, match="matchers are immutable"):
        await kube.patch(SILENCE, "sil-1", {"spec": {"matchers": [{"name": "a", "value": "b"}]}}, namespace)


def test_kubectl_shows_what_is_silenced(kctl: Run, tmp_path: Path) -> None:
    """Matchers as people write them, the times, who, how much; the comment in wide."""
    file = tmp_path / "silence.yaml"
    file.write_text(yaml.safe_dump(silence()))
    kctl("create", "-f", str(file))
    status = '{"status": {"summary": "alertname=\\"Foo\\"", "silencedCount": 3}}'
    kctl("patch", "sil", "sil-1", "--subresource=status", "--type=merge", "-p", status)
    head, row = kctl("get", "silences").stdout.splitlines()
    assert head.split() == ["NAME", "MATCHERS", "STARTS", "ENDS", "BY", "SILENCED", "AGE"]
    assert row.split()[:6] == [
        "sil-1", 'alertname="Foo"', "2026-03-01T12:00:00.000000Z", "2026-03-01T13:00:00.000000Z", "ada", "3",
    ]  # fmt: skip
    assert "rollout" in kctl("get", "sil", "-o", "wide").stdout
    assert "sil-1" in kctl("get", "kubernaut").stdout
