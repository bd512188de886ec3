"""What of a spec lies in the trail: all of it, less the secrets, and what was left out is named."""

from __future__ import annotations

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.contracts import recorded
from kubernaut_ray.contracts.recorded import PAYLOAD_LIMIT
from kubernaut_ray.crds.remediation_request import RemediationRequestSpec
from kubernaut_ray.redact import PLACEHOLDER
from tests import build

SPEC = build.remediation_request().spec
SECRET = "hunter2-hunter2"


def test_a_spec_without_secrets_is_there_as_it_was() -> None:
    """Byte for byte, payload and all."""
    spec = SPEC.replace(
        signal_labels={"alertname": "Down"},
        description="it is down",
        original_payload='{"a": 1,   "b": [null, true]}',
        provider_data="not JSON",
        timeout_config={"global": "2h"},
        dry_run=True,
    ).to_object()
    assert recorded.write(spec) == {"spec": spec, "withheld": []}


def test_secrets_are_withheld_and_named() -> None:
    """In labels, annotations, words and payloads; nothing of them is kept, not even a hash."""
    link = "http://prometheus:9090/graph?g0.expr=up"
    payload = {
        "generatorURL": link,
        "alerts": [
            {
                "generatorURL": f"{link}&token={SECRET}",
                "annotations": {"db_password": SECRET, "runbook": f"token={SECRET}"},
                "n": 1,
            }
        ],
    }
    spec = SPEC.replace(
        signal_labels={"api_key": SECRET, "team": "shop"},
        signal_annotations={"hint": f"password: {SECRET}"},
        description=f"Authorization: Bearer {SECRET}",
        original_payload=json.dumps(payload),
        provider_data=f"password={SECRET}",
    ).to_object()
    told = recorded.write(spec)
    assert SECRET not in json.dumps(told)
    assert [(one["field"], one["why"]) for one in told["withheld"]] == [
        ("signalLabels.api_key", "redacted"),
        ("signalAnnotations.hint", "redacted"),
        ("description", "redacted"),
        ("originalPayload", "redacted"),
        ("providerData", "redacted"),
    ]
    assert told["spec"]["signalLabels"] == {"api_key": PLACEHOLDER, "team": "shop"}
    kept = json.loads(told["spec"]["originalPayload"])
    assert kept.pop("generatorURL") == link
    (kept,) = kept["alerts"]
    assert kept.pop("generatorURL") == f"{link}&token={PLACEHOLDER}"
    assert kept == {"annotations": {"db_password": PLACEHOLDER, "runbook": f"token={PLACEHOLDER}"}, "n": 1}
    assert not any(one.get("sha256") for one in told["withheld"])
    RemediationRequestSpec.model_validate(told["spec"])


def test_a_large_payload_is_stood_for_by_its_hash() -> None:
    """Size and SHA-256 of what it was; with a secret in it, its size alone."""
    large = json.dumps({"text": "x" * PAYLOAD_LIMIT})
    told = recorded.write(SPEC.replace(original_payload=large).to_object())
    assert "originalPayload" not in told["spec"]
    digest = hashlib.sha256(large.encode()).hexdigest()
    (withheld,) = told["withheld"]
    assert withheld == {"field": "originalPayload", "why": "too large", "sha256": digest, "size": len(large)}

    told = recorded.write(SPEC.replace(original_payload=json.dumps({"a": large, "token": SECRET})).to_object())
    assert [(one["why"], one.get("sha256", "")) for one in told["withheld"]] == [("redacted", ""), ("too large", "")]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200), st.integers(0, 400))
def test_whatever_a_payload_is_it_can_be_told(text, depth):
    """Any text, and JSON nested deeper than anybody looks."""
    for payload in (text, "[" * depth + "]" * depth, json.dumps({"a": text})):
        told = recorded.write({"originalPayload": payload})
        if payload and not told["withheld"]:
            assert told["spec"]["originalPayload"] == payload
