"""Signatures fit one value, one purpose and one key; the key file is private and never replaced."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.errors import Permanent
from kubernaut_ray.signing import SigningKey, digest

KEY = SigningKey.generate()
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
)


@given(VALUES, VALUES)
def test_a_signature_fits_what_was_signed(one: object, other: object) -> None:
    """And nothing else."""
    signature = KEY.signature("test", one)
    assert KEY.verifies("test", one, signature)
    assert KEY.verifies("test", other, signature) == (digest(one) == digest(other))
    assert not KEY.verifies("other", one, signature)
    assert not SigningKey.generate().verifies("test", one, signature)


@pytest.mark.parametrize("signature", ["", "x", "AAAA", "é", "A" * 88])
def test_what_is_no_signature_does_not_fit(signature: str) -> None:
    """Whatever it is instead."""
    assert not KEY.verifies("test", {}, signature)


def test_a_key_file_is_made_once(tmp_path: Path) -> None:
    """For its owner only, and kept."""
    file = tmp_path / "keys" / "approvals.pem"
    made = SigningKey.load_or_create(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert made.key_id == SigningKey.load_or_create(file).key_id == SigningKey.load(file).key_id
    assert [file] == list(file.parent.iterdir())


def test_a_key_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """By its file, and without its content."""
    file = tmp_path / "key.pem"
    with pytest.raises(Permanent, match="No such file"):
        SigningKey.load(file)
    file.write_text("secret")
    with pytest.raises(Permanent, match="no Ed25519 private key") as told:
        SigningKey.load(file)
    assert "secret" not in str(told.value)
    other = ec.generate_private_key(ec.SECP256R1())
    file.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(Permanent, match="Ed25519"):
        SigningKey.load(file)
