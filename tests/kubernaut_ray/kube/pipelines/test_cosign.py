"""cosign signatures, in a real registry and in the layout of one machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.errors import InvalidInput, Retryable
from kubernaut_ray.kube.pipelines.cosign import PublicKeys, Unverified, Verified, check, signature_tag
from kubernaut_ray.kube.pipelines.oci import MANIFEST_TYPE, Store, Stores
from kubernaut_ray.kube.pipelines.reference import Reference
from tests import cosigner, registry
from tests.cosigner import payload, put, sign, signed
from tests.registry import plain

KEY, OTHER = ec.generate_private_key(ec.SECP256R1()), Ed25519PrivateKey.generate()
KEYS = PublicKeys.read(cosigner.pem(KEY, OTHER), "here")
DIGEST, ANOTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry.running(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(params=["registry", "layout"])
def image(request: pytest.FixtureRequest, host: str, tmp_path: Path) -> tuple[Reference, Store]:
    """An image that nobody has signed yet, and where it lies."""
    where = host if request.param == "registry" else "bundles.kubernaut.local"
    name = request.node.name.split("[")[0].replace("_", "-").lower()
    reference = Reference.parse(f"{where}/{name}-{abs(hash(request.node.name))}:1@{DIGEST}")
    return reference, Stores(tmp_path / "bundles", access=plain(host)).of(reference)


@pytest.mark.parametrize("key", [KEY, OTHER], ids=["ECDSA", "Ed25519"])
def test_a_signed_image_is_verified(image: tuple[Reference, Store], key: cosigner.PrivateKey) -> None:
    """By any of the keys, and it is told by which."""
    reference, store = image
    sign(key, store, reference)
    verdict = check(reference, store, KEYS)
    assert Verified(*PublicKeys.read(cosigner.pem(key), "here").ids) == verdict


def test_an_image_without_signatures_is_unsigned(image: tuple[Reference, Store]) -> None:
    """And the tag is named under which they would lie."""
    verdict = check(*image, KEYS)
    assert isinstance(verdict, Unverified)
    assert signature_tag(DIGEST) in verdict.why


@pytest.mark.parametrize(
    ("content", "key", "says"),
    [
        pytest.param(payload(DIGEST), ec.generate_private_key(ec.SECP256R1()), "none of the known keys", id="somebody else's key"),
        pytest.param(payload(ANOTHER), KEY, "another digest", id="the signature of another image"),
        pytest.param(payload(DIGEST, type="atomic container signature"), KEY, "no cosign container image", id="another statement"),
        pytest.param(payload(DIGEST, image=None), KEY, "simple-signing", id="no image"),
        pytest.param(b"[]", KEY, "simple-signing", id="no statement"),
        pytest.param(payload(DIGEST) + b" " * 70_000, KEY, "larger", id="too large"),
    ],
)  # fmt: skip
def test_a_signature_that_does_not_hold(
    image: tuple[Reference, Store], content: bytes, key: cosigner.PrivateKey, says: str
) -> None:
    """Every one of them, with why."""
    reference, store = image
    put(store, reference, (content, signed(key, content)))
    verdict = check(reference, store, KEYS)
    assert isinstance(verdict, Unverified)
    assert says in verdict.why


def test_one_good_signature_among_others_is_enough(image: tuple[Reference, Store]) -> None:
    """Several people sign one image."""
    reference, store = image
    stranger = Ed25519PrivateKey.generate()
    content = payload(DIGEST)
    put(
        store,
        reference,
        (content, signed(stranger, content)),
        (content, b"no signature"),
        (content, signed(KEY, content)),
    )
    assert isinstance(check(reference, store, KEYS), Verified)


def test_what_lies_under_the_tag_may_be_anything(tmp_path: Path) -> None:
    """It counts as no signature."""
    reference = Reference.parse(f"bundles.kubernaut.local/x:1@{DIGEST}")
    store = Stores(tmp_path).of(reference)
    for manifest in (b"{}", b"[]", b'{"layers": [{}]}', b'{"layers": 7}'):
        store.put(Reference(reference.registry, "x", signature_tag(DIGEST)), (), manifest, MANIFEST_TYPE)
        assert isinstance(check(reference, store, KEYS), Unverified)


def test_a_registry_that_is_away_says_nothing_about_signatures() -> None:
    """Neither signed nor unsigned: try again."""
    reference = Reference.parse(f"127.0.0.1:1/x:1@{DIGEST}")
    with pytest.raises(Retryable):
        check(reference, Stores(None, access=plain("127.0.0.1:1")).of(reference), KEYS)


def test_without_a_digest_nothing_is_signed(tmp_path: Path) -> None:
    """A tag can be moved after it was signed."""
    reference = Reference.parse("bundles.kubernaut.local/x:1")
    assert isinstance(check(reference, Stores(tmp_path).of(reference), KEYS), Unverified)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "no public key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "cannot be read"),
        (cosigner.pem(ec.generate_private_key(ec.SECP384R1())), "only ECDSA P-256 and Ed25519"),
    ],
    ids=["nothing", "no key", "another curve"],
)
def test_keys_that_cannot_be_used(text: bytes, says: str) -> None:
    """At once, rather than as signatures that never hold."""
    with pytest.raises(InvalidInput, match=says):
        PublicKeys.read(text, "cosign.pub")


@given(st.binary(max_size=200), st.binary(max_size=100))
def test_no_bytes_pass_for_a_signature(content: bytes, signature: bytes) -> None:
    """Whatever they are."""
    assert KEYS.signer(content, signature) == ""
