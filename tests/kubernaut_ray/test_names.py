"""Names are deterministic and valid."""

from __future__ import annotations

import re
import uuid

from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray import names

FINGERPRINT = st.text("0123456789abcdef", min_size=64, max_size=64)
LABEL = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")


@given(FINGERPRINT, st.uuids())
def test_a_remediation_is_named_by_what_came_before(fingerprint: str, previous: object) -> None:
    """Equal inputs give equal names; another predecessor gives another name; every name fits a child's prefix."""
    first, again = names.remediation_request(fingerprint), names.remediation_request(fingerprint)
    following = names.remediation_request(fingerprint, str(previous))
    assert first == again != following
    assert re.fullmatch(r"rr-[0-9a-f]{12}-[0-9a-f]{8}", following)
    assert len(names.notification("consecutive-failure", following, 3)) <= 63


@given(st.text(max_size=200))
def test_any_text_becomes_a_label_value(text: str) -> None:
    """A label value is at most 63 characters of the allowed alphabet."""
    value = names.label_value(text)
    assert len(value) <= 63
    assert LABEL.fullmatch(value)


@given(st.text(min_size=1, max_size=60))
def test_everything_of_a_remediation_is_in_one_shard(name: str) -> None:
    """The shard depends on the name only and is one of 64."""
    assert names.shard_label(name) == {names.LABEL_SHARD: str(names.shard_of(name))}
    assert 0 <= names.shard_of(name) < names.VIRTUAL_SHARDS


def test_a_target_has_one_spelling() -> None:
    """The kind is in lower case, whoever asks."""
    assert names.target_resource("shop", "Deployment", "web") == names.target_resource("shop", "deployment", "web")
    assert names.target_resource(None, "Node", "n1") == "node/n1"


def test_ids_are_the_same_on_every_machine() -> None:
    """Workflow and audit ids are UUIDv5 of what they name."""
    assert names.workflow_id("restart", "1.0.0") == "e5b92bf0-301d-5b8c-b6c7-3f2cd9a3864a"
    assert names.audit_event_id("a.b", "rr", "x", "y") != names.audit_event_id("a.b", "rr", "xy")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2))
def test_an_audit_id_is_the_uuid5_of_its_parts(parts: list[str]) -> None:
    """As the standard library makes them, with the namespace of the workflows."""
    namespace = uuid.UUID("6b5f5b4e-0f0e-5d3c-9a0a-6b7562756e61")
    assert names.audit_event_id(*parts) == str(uuid.uuid5(namespace, "\x1f".join(parts)))
