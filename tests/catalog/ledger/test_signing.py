"""Signing keys and what they sign."""

from __future__ import annotations

import base64
import os
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from catalog.ledger.canonical import canonical
from catalog.ledger.signing import (
    SigningKey,
    check,
    checkpoint_hash,
    keyring,
    read_public_key,
    read_public_keys,
)
from kubernaut_ray.contracts.ledger import Checkpoint
from kubernaut_ray.errors import InvalidInput, Permanent
from kubernaut_ray.signing import key_id


def checkpoint(**changed: Any) -> Checkpoint:
    fields = {"number": 1, "first_sequence": 1, "last_sequence": 2, "root": "ab" * 32, "created_us": 5}
    return Checkpoint(**{**fields, **changed})


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey.generate()


def test_a_key_file_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    """The second start signs with the key of the first, nobody else may read it, and nothing is left lying about."""
    file = tmp_path / "keys" / "signing.pem"
    previous = os.umask(0)
    try:
        first = SigningKey.load_or_create(file)
    finally:
        os.umask(previous)
    assert first.key_id == SigningKey.load(file).key_id
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]
    told = subprocess.run(
        ["openssl", "pkey", "-in", file, "-noout", "-text_pub"], capture_output=True, text=True, check=True
    )
    assert "ED25519" in told.stdout


def test_many_that_start_at_once_have_one_key(tmp_path: Path) -> None:
    """Whoever loses the race signs with the winner's key."""
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: SigningKey.load_or_create(tmp_path / "signing.pem"), range(32)))
    assert len({key.key_id for key in keys}) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    ],
    ids=["empty", "broken", "of another kind"],
)
def test_what_is_no_key_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    """A damaged key is for a person to look at: a new one in its place would hide the loss."""
    file = tmp_path / "signing.pem"
    file.write_bytes(content)
    with pytest.raises(Permanent, match="holds no Ed25519 private key") as told:
        SigningKey.load(file)
    assert file.read_bytes() == content
    assert content.decode()[28:60] not in str(told.value) or not content


def test_a_signature_is_what_the_docstring_says(key: SigningKey) -> None:
    """Ed25519 over the canonical JSON of what is sent, less signature and leaves: checked without our code."""
    signed = key.sign(checkpoint(leaves="AAAA"))
    sent = signed.to_json()
    signature = base64.b64decode(sent.pop("signature"))
    assert sent.pop("leaves") == "AAAA"
    assert sent["key_id"] == key.key_id == key_id(key.public_key)
    Ed25519PublicKey.from_public_bytes(key.public_key).verify(signature, canonical(sent))


def test_leaves_are_not_signed(key: SigningKey) -> None:
    """The root says the same, so a checkpoint is good with and without them, and hashes to the same."""
    signed = key.sign(checkpoint(leaves="AAAA"))
    bare = signed.model_copy(update={"leaves": ""})
    assert check(bare, {key.key_id: key.public_key}) == ""
    assert checkpoint_hash(signed) == checkpoint_hash(bare)


def spare_bits(signature: str) -> str:
    """The same bytes in base64, written in a way no encoder writes them."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return signature[:-3] + alphabet[alphabet.index(signature[-3]) + 1] + "=="


@pytest.mark.parametrize(
    "change",
    [
        {"number": 2},
        {"root": "cd" * 32},
        {"created_us": 6},
        {"previous": "ab" * 32},
        {"signature": ""},
        {"signature": "not base64"},
        {"signature": "AAAA"},
    ],
    ids=str,
)
def test_any_change_is_noticed(key: SigningKey, change: dict[str, Any]) -> None:
    """What was signed cannot be changed by who has not the key."""
    bent = key.sign(checkpoint()).model_copy(update=change)
    assert check(bent, {key.key_id: key.public_key}) == f"its signature by key {key.key_id} does not fit"


def test_a_signature_has_one_form(key: SigningKey) -> None:
    """Bits that base64 does not use are no place to hide a change."""
    signed = key.sign(checkpoint())
    bent = signed.model_copy(update={"signature": spare_bits(signed.signature)})
    assert base64.b64decode(bent.signature) == base64.b64decode(signed.signature)
    assert "does not fit" in check(bent, {key.key_id: key.public_key})


def test_a_signature_of_somebody_else(key: SigningKey) -> None:
    """An unknown key is said to be unknown; a known key's name on another's signature does not help."""
    other = SigningKey.generate()
    forged = other.sign(checkpoint())
    known = {key.key_id: key.public_key}
    assert check(forged, known) == (
        f"it is signed with key {other.key_id}, which is not among the known keys ({key.key_id})"
    )
    renamed = forged.model_copy(update={"key_id": key.key_id})
    assert "does not fit" in check(renamed, known)
    assert "key (none)" in check(checkpoint(), {})


def test_keys_come_under_their_own_ids(key: SigningKey) -> None:
    """A key under another's id would make forgeries of the real one."""
    text = base64.b64encode(key.public_key).decode()
    assert keyring({key.key_id: text}) == {key.key_id: key.public_key}
    with pytest.raises(InvalidInput, match="wrong ids"):
        keyring({"0" * 16: text})


@pytest.mark.parametrize("text", ["", "AAAA", "no base64", "A" * 44])
def test_what_is_no_public_key(text: str) -> None:
    """The message says what a public key is."""
    with pytest.raises(InvalidInput, match="32 bytes in base64"):
        read_public_key(text)


def test_keys_to_pin_come_as_printed_or_as_pem(key: SigningKey, tmp_path: Path) -> None:
    """What the command line prints, what openssl writes, comments between."""
    file = tmp_path / "signing.pem"
    other = SigningKey.load_or_create(file)
    pem = subprocess.run(["openssl", "pkey", "-in", file, "-pubout"], capture_output=True, text=True, check=True).stdout
    text = f"# of the cluster in Ulm\n{key.key_id}  {base64.b64encode(key.public_key).decode()}  # since May\n\n{pem}"
    assert read_public_keys(text) == {key.key_id: key.public_key, other.key_id: other.public_key}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no public key"),
        ("# nothing\n", "no public key"),
        ("hello", "32 bytes in base64"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "PEM block"),
    ],
)
def test_no_keys_to_pin(text: str, told: str) -> None:
    """Pinning nothing would be trusting anything."""
    with pytest.raises(InvalidInput, match=told):
        read_public_keys(text)
