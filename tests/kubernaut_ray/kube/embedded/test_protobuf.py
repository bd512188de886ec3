"""Kubernetes protobuf bodies, as far as kubectl needs them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.kube.embedded.protobuf import MAGIC, ProtobufError, decode


def field(number: int, value: bytes | int) -> bytes:
    """Encode one small field."""
    if isinstance(value, int):
        return bytes((number << 3, value))
    assert len(value) < 128
    return bytes(((number << 3) | 2, len(value))) + value


def envelope(kind: str, message: bytes) -> bytes:
    return MAGIC + field(1, field(1, b"v1") + field(2, kind.encode())) + field(2, message)


def test_a_config_map() -> None:
    """Texts, maps and repeated texts; what is empty on the wire is left out."""
    entry = field(1, b"k") + field(2, b"v")
    metadata = (
        field(1, b"name") + field(2, b"") + field(8, b"") + field(11, entry) + field(14, b"a/b") + field(14, b"c/d")
    )
    expected = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "name", "labels": {"k": "v"}, "finalizers": ["a/b", "c/d"]},
        "data": {"k": "v"},
        "immutable": False,
    }
    assert expected == decode(envelope("ConfigMap", field(1, metadata) + field(2, entry) + field(4, 0)))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        pytest.param(b"{}", "marker", id="no protobuf"),
        pytest.param(envelope("Widget", b""), "Widget is not read as protobuf", id="kind that is not known"),
        pytest.param(envelope("ConfigMap", field(9, b"x")), "field 9 of ConfigMap", id="field that is not known"),
        pytest.param(envelope("ConfigMap", field(1, b"x")[:-1]), "", id="cut off"),
        pytest.param(envelope("ConfigMap", field(1, field(1, b"\xff"))), "not UTF-8", id="no text"),
    ],
)
def test_refusals(body: bytes, why: str) -> None:
    """What is not understood is refused, never dropped."""
    with pytest.raises(ProtobufError, match=why or "."):
        decode(body)


@given(st.binary(max_size=60), st.sampled_from(["ConfigMap", "Deployment", "TokenRequest", "Service"]))
def test_any_bytes_are_read_or_refused(data: bytes, kind: str) -> None:
    """No body makes the reader fall over."""
    with contextlib.suppress(ProtobufError):
        decode(MAGIC + data)
    with contextlib.suppress(ProtobufError):
        decode(envelope(kind, data))
