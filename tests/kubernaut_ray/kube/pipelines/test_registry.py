"""The registry client against real registries: logins, token realms, TLS, faults on the way, and what errors say."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from kubernaut_ray.errors import InvalidInput, Permanent, Retryable
from kubernaut_ray.kube.embedded import pki
from kubernaut_ray.kube.pipelines.oci import MANIFEST_TYPE
from kubernaut_ray.kube.pipelines.reference import Reference, digest_of
from kubernaut_ray.kube.pipelines.registry import ATTEMPTS, Registries
from kubernaut_ray.settings import RegistryAccess
from tests import registry
from tests.registry import Mirror, Realm, plain

BLOB = b"a layer"
MANIFEST = b'{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"x","digest":"%s","size":7},"layers":[]}' % (
    MANIFEST_TYPE.encode(),
    digest_of(BLOB).encode(),
)
# secret, as htpasswd -B writes it
HTPASSWD = "ann:$2b$05$vh5jj6xH2/9EJ1jLXcDsXuSH/KTr5sWZXCLyU6KB2V1s8mhttipeK"


@pytest.fixture(autouse=True)
def _no_login_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "nothing"))


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    return pki.identity(tmp_path_factory.mktemp("pki"), ["127.0.0.1"])


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    with Realm(tmp_path_factory.mktemp("realm")) as realm:
        yield realm


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, realm):
    """A registry that wants the realm's tokens."""
    with registry.running(tmp_path_factory.mktemp("registry"), realm=realm) as host:
        yield host


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    with registry.running(tmp_path_factory.mktemp("registry"), htpasswd=HTPASSWD) as host:
        yield host


@pytest.fixture(scope="module")
def secure(tmp_path_factory, tls):
    with registry.running(tmp_path_factory.mktemp("registry"), tls=tls) as host:
        yield host


@pytest.fixture(scope="module")
def mutual(tmp_path_factory, tls):
    """A registry that wants a client's certificate."""
    with registry.running(tmp_path_factory.mktemp("registry"), tls=tls, client_ca=tls.ca) as host:
        yield host


def config(tmp_path: Path, **document: object) -> Path:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(document))
    return file


def basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def round_trip(registries: Registries, image: str) -> None:
    """Push an image, and pull it by its digest."""
    reference = Reference.parse(image)
    digest = registries.put(reference, (BLOB,), MANIFEST, MANIFEST_TYPE)
    assert registries.manifest(reference.pinned(digest)) == MANIFEST
    assert registries.blob(reference, digest_of(BLOB)) == BLOB


class TestTokens:
    def test_a_password_is_exchanged_for_tokens(self, tmp_path, guarded, realm):
        """Each scope has its own token, asked for once and then kept."""
        realm.asked.clear()
        file = config(tmp_path, auths={guarded: {"auth": basic("ann", "secret")}})
        registries = Registries(plain(guarded), config=file)
        round_trip(registries, f"{guarded}/team/a:1")
        registries.manifest(Reference.parse(f"{guarded}/team/a:1"))
        assert realm.asked == [
            ("GET", "repository:team/a:pull"),
            ("GET", "repository:team/a:pull,push"),
            ("GET", "repository:team/a:pull"),
        ]

    def test_an_identity_token_is_exchanged_too(self, tmp_path, guarded, realm):
        """What ``docker login`` leaves for some registries is a refresh token."""
        realm.asked.clear()
        file = config(tmp_path, auths={guarded: {"identitytoken": "refresh-me"}})
        round_trip(Registries(plain(guarded), config=file), f"{guarded}/team/b:1")
        assert {method for method, _ in realm.asked} == {"POST"}

    def test_anybody_may_pull_what_is_public(self, tmp_path, guarded):
        """Without a login an anonymous token is asked for; pushing is then refused."""
        file = config(tmp_path, auths={guarded: {"auth": basic("ann", "secret")}})
        round_trip(Registries(plain(guarded), config=file), f"{guarded}/public/c:1")
        anonymous = Registries(plain(guarded))
        assert anonymous.manifest(Reference.parse(f"{guarded}/public/c:1")) == MANIFEST
        with pytest.raises(Permanent, match="wants credentials") as caught:
            anonymous.put(Reference.parse(f"{guarded}/public/c:2"), (BLOB,), MANIFEST, MANIFEST_TYPE)
        assert caught.value.reason == "RegistryDenied"

    @pytest.mark.parametrize("entry", [{"auth": basic("ann", "hunter2")}, {"identitytoken": "hunter2"}])
    def test_a_wrong_login(self, tmp_path, guarded, entry):
        """The refusal names the registry and does not repeat the login."""
        registries = Registries(plain(guarded), config=config(tmp_path, auths={guarded: entry}))
        with pytest.raises(Permanent, match=f"{guarded} did not accept the credentials") as caught:
            registries.manifest(Reference.parse(f"{guarded}/team/a:1"))
        assert "hunter2" not in repr(caught.value) + str(caught.value.__cause__) + str(caught.value.__context__)

    def test_no_password_goes_to_a_plain_realm(self, tmp_path, tls, realm):
        """A registry over HTTPS cannot send our password through plain HTTP."""
        realm.asked.clear()
        challenge = {"www-authenticate": f'Bearer realm="http://{realm.host}/token",service="test"'}
        with Mirror(lambda *_: (401, challenge, b""), tls) as mirror:
            file = config(tmp_path, auths={mirror.host: {"auth": basic("ann", "secret")}})
            registries = Registries({mirror.host: RegistryAccess(ca_file=tls.ca)}, config=file)
            with pytest.raises(Permanent, match="realm over plain HTTP"):
                registries.manifest(Reference.parse(f"{mirror.host}/a:1"))
        assert realm.asked == []


class TestCredentialHelpers:
    @pytest.fixture
    def helper(self, tmp_path, monkeypatch):
        """Install ``docker-credential-test`` with this shell script."""

        def install(script: str) -> None:
            program = tmp_path / "bin" / "docker-credential-test"
            program.parent.mkdir(exist_ok=True)
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)
            monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

        return install

    @pytest.mark.parametrize("document", [{"credsStore": "test"}, {"credHelpers": {"HOST": "test"}}])
    def test_they_are_asked(self, tmp_path, locked, helper, document):
        """The helper gets the host on its input, for the store and for one registry."""
        helper(f'read host; [ "$host" = {locked} ] && echo \'{{"Username": "ann", "Secret": "secret"}}\'')
        text = json.dumps(document).replace("HOST", locked)
        round_trip(Registries(plain(locked), config=config(tmp_path, **json.loads(text))), f"{locked}/helped:1")

    def test_one_may_keep_identity_tokens(self, tmp_path, guarded, helper):
        """A helper says ``<token>`` for the user then."""
        helper('echo \'{"Username": "<token>", "Secret": "refresh-me"}\'')
        round_trip(Registries(plain(guarded), config=config(tmp_path, credsStore="test")), f"{guarded}/team/d:1")

    def test_one_that_has_none_leaves_auths(self, tmp_path, locked, helper):
        """Not found is no failure: what the file has is taken."""
        helper("echo 'credentials not found in native keychain'; exit 1")
        file = config(tmp_path, credsStore="test", auths={locked: {"username": "ann", "password": "secret"}})
        round_trip(Registries(plain(locked), config=file), f"{locked}/helped:2")

    @pytest.mark.parametrize(
        ("script", "says"),
        [
            pytest.param("echo hunter2 >&2; exit 3", "exit code 3", id="it fails"),
            pytest.param("echo hunter2", "did not answer as", id="it says something else"),
        ],
    )
    def test_one_that_fails_is_told(self, tmp_path, locked, helper, script, says):
        """And what it said is not: it may be a secret."""
        helper(script)
        with pytest.raises(Permanent, match=says) as caught:
            Registries(plain(locked), config=config(tmp_path, credsStore="test")).manifest(
                Reference.parse(f"{locked}/a:1")
            )
        assert caught.value.reason == "CredentialHelper"
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize(("name", "says"), [("absent", "not on PATH"), ("../evil", "not the name")])
    def test_one_that_is_not_there(self, tmp_path, locked, name, says):
        """The message says what to install; a path is never run."""
        with pytest.raises(InvalidInput, match=says):
            Registries(plain(locked), config=config(tmp_path, credsStore=name)).manifest(
                Reference.parse(f"{locked}/a:1")
            )


def test_the_docker_login_of_this_user_is_taken(tmp_path, locked, monkeypatch):
    """Without a setting, docker's own configuration is read where there is one; a setting must name a file."""
    config(tmp_path, auths={f"http://{locked}/v1/": {"auth": basic("ann", "secret")}})
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    round_trip(Registries(plain(locked)), f"{locked}/default:1")
    with pytest.raises(InvalidInput, match="no such file"):
        Registries(plain(locked), config=tmp_path / "absent.json").manifest(Reference.parse(f"{locked}/default:1"))


class TestTls:
    def test_a_private_authority(self, secure, tls):
        """Its file makes the registry trusted."""
        round_trip(Registries({secure: RegistryAccess(ca_file=tls.ca)}), f"{secure}/a:1")

    def test_an_unknown_authority(self, secure):
        """The message says why, and which setting helps."""
        with pytest.raises(Permanent, match=rf"{secure}: its certificate is not trusted: .*; set ca_file") as caught:
            Registries().manifest(Reference.parse(f"{secure}/a:1"))
        assert caught.value.reason == "RegistryTls"

    def test_one_registry_unverified_leaves_the_others_verified(self, secure, mutual):
        """Settings are per registry."""
        registries = Registries({secure: RegistryAccess(skip_tls_verify=True)})
        round_trip(registries, f"{secure}/b:1")
        with pytest.raises(Permanent, match="not trusted"):
            registries.manifest(Reference.parse(f"{mutual}/a:1"))

    def test_another_host_in_the_certificate(self, secure, tls):
        """A certificate for somebody else is not taken."""
        host = secure.replace("127.0.0.1", "127.0.0.2")
        with pytest.raises((Permanent, Retryable)):
            Registries({host: RegistryAccess(ca_file=tls.ca)}).manifest(Reference.parse(f"{host}/a:1"))

    def test_a_client_certificate(self, mutual, tls):
        """It opens the registry that wants one."""
        certificate, key = registry.client_identity(tls.ca.parent)
        access = RegistryAccess(ca_file=tls.ca, client_certificate=certificate, client_key=key)
        round_trip(Registries({mutual: access}), f"{mutual}/a:1")

    def test_without_the_client_certificate(self, mutual, tls):
        """The message names the setting."""
        with pytest.raises(Permanent, match=r"client_certificate in catalog\.registry_access") as caught:
            Registries({mutual: RegistryAccess(ca_file=tls.ca)}).manifest(Reference.parse(f"{mutual}/a:1"))
        assert caught.value.reason == "RegistryTls"

    def test_plain_http_where_tls_is_spoken_of(self, locked):
        """The message names the setting."""
        with pytest.raises(Permanent, match=rf"set plain_http in catalog\.registry_access for {locked}"):
            Registries().manifest(Reference.parse(f"{locked}/a:1"))

    def test_a_file_that_is_not_there(self, secure, tmp_path):
        """It is named before anything is sent."""
        with pytest.raises(InvalidInput, match=r"absent\.pem is not there"):
            Registries({secure: RegistryAccess(ca_file=tmp_path / "absent.pem")}).manifest(
                Reference.parse(f"{secure}/a:1")
            )


class TestFaults:
    """What registries and the way to them do wrong."""

    def test_a_passing_fault_is_tried_again(self):
        """Twice busy, then well."""
        answers = [(503, {}, b""), (429, {"retry-after": "1"}, b""), (200, {}, MANIFEST)]
        waits: list[float] = []
        with Mirror(lambda *_: answers.pop(0)) as mirror:
            registries = Registries(plain(mirror.host), sleep=waits.append)
            assert registries.manifest(Reference.parse(f"{mirror.host}/a:1")) == MANIFEST
        assert waits == [0.2, 1.0]

    def test_a_lasting_one_is_retryable(self):
        """After a few attempts the caller is told, with the registry's own delay."""
        with Mirror(lambda *_: (503, {"retry-after": "3"}, b"")) as mirror:
            registries = Registries(plain(mirror.host), sleep=lambda _: None)
            with pytest.raises(Retryable, match=f"{mirror.host} answered 503") as caught:
                registries.manifest(Reference.parse(f"{mirror.host}/a:1"))
        assert (len(mirror.seen), caught.value.after) == (ATTEMPTS, 3.0)

    def test_a_long_delay_is_the_callers_to_wait_for(self):
        """No thread sleeps for a minute."""
        with Mirror(lambda *_: (429, {"retry-after": "60"}, b"")) as mirror, pytest.raises(Retryable) as caught:
            Registries(plain(mirror.host)).manifest(Reference.parse(f"{mirror.host}/a:1"))
        assert (len(mirror.seen), caught.value.after) == (1, 60.0)

    @pytest.mark.parametrize("elsewhere", [True, False], ids=["another host", "the same host"])
    def test_a_blob_may_lie_elsewhere(self, tmp_path, elsewhere):
        """Redirects are followed; the login goes to no other host; the digest is verified all the same."""
        with Mirror(lambda *_: (200, {}, BLOB)) as bucket:

            def reply(method: str, path: str, headers: object) -> tuple[int, dict[str, str], bytes]:
                if path.startswith("/bucket"):
                    return 200, {}, BLOB
                if "authorization" not in headers:
                    return 401, {"www-authenticate": 'Basic realm="test"'}, b""
                base = f"http://{bucket.host}" if elsewhere else ""
                return 307, {"location": f"{base}/bucket?signature=s3cr3t"}, b""

            with Mirror(reply) as mirror:
                file = config(tmp_path, auths={mirror.host: {"auth": basic("ann", "secret")}})
                registries = Registries(plain(mirror.host), config=file)
                reference = Reference.parse(f"{mirror.host}/a:1")
                assert registries.blob(reference, digest_of(BLOB)) == BLOB
                with pytest.raises(InvalidInput, match="changed or damaged"):
                    registries.blob(reference, digest_of(b"other"))
        assert {seen[2] for seen in bucket.seen} == ({""} if elsewhere else set())

    @pytest.mark.parametrize(
        ("status", "body", "error", "says"),
        [
            pytest.param(403, {"errors": [{"code": "DENIED", "message": "s3cr3t"}]}, Permanent, "pull from a .*DENIED", id="forbidden"),
            pytest.param(404, {"errors": [{"code": "MANIFEST_UNKNOWN"}]}, InvalidInput, "no such image .MANIFEST_UNKNOWN", id="missing"),
            pytest.param(400, {"errors": [{"code": "s3cr3t is no code"}]}, Permanent, "answered 400$", id="a code that is none"),
            pytest.param(418, "s3cr3t", Permanent, "answered 418$", id="no JSON of a registry"),
        ],
    )  # fmt: skip
    def test_refusals_say_which_and_repeat_nothing(self, status, body, error, says):
        """The registry, what was refused, its error code; never the rest of what it said."""
        with (
            Mirror(lambda *_: (status, {}, json.dumps(body).encode())) as mirror,
            pytest.raises(error, match=says) as caught,
        ):
            Registries(plain(mirror.host)).manifest(Reference.parse(f"{mirror.host}/a:1"))
        assert mirror.host in str(caught.value)
        assert "s3cr3t" not in str(caught.value)

    def test_a_push_that_may_not(self):
        """Forbidden says that it was a push."""
        with (
            Mirror(lambda method, *_: (404 if method == "HEAD" else 403, {}, b"")) as mirror,
            pytest.raises(Permanent, match="does not let these credentials push to a"),
        ):
            Registries(plain(mirror.host)).put(Reference.parse(f"{mirror.host}/a:1"), (BLOB,), MANIFEST, "x")

    def test_an_upload_without_a_place(self):
        """A registry that says yes and not where is told of."""
        with (
            Mirror(lambda method, *_: (404 if method == "HEAD" else 202, {}, b"{}")) as mirror,
            pytest.raises(Permanent, match="without saying where"),
        ):
            Registries(plain(mirror.host)).put(Reference.parse(f"{mirror.host}/a:1"), (BLOB,), MANIFEST, "x")

    def test_too_much_is_not_read(self, monkeypatch):
        """Reading stops at the limit."""
        monkeypatch.setattr("kubernaut_ray.kube.pipelines.registry.MAX_BLOB", 1000)
        with (
            Mirror(lambda *_: (200, {}, b"x" * 2000)) as mirror,
            pytest.raises(InvalidInput, match="more than 1000 bytes"),
        ):
            Registries(plain(mirror.host)).blob(Reference.parse(f"{mirror.host}/a:1"), digest_of(b"x" * 2000))

    def test_nobody_there(self):
        """A refused connection is told at once."""
        waits: list[float] = []
        with pytest.raises(Retryable, match=r"127\.0\.0\.1:1 cannot be reached"):
            Registries(plain("127.0.0.1:1"), sleep=waits.append).manifest(Reference.parse("127.0.0.1:1/x:1"))
        assert waits == []


def test_a_word_is_a_host(tmp_path, monkeypatch):
    """``localhost`` without a port is this machine, and not a part of a repository's name."""
    with pytest.raises(Retryable, match="registry localhost cannot be reached"):
        Registries(plain("localhost")).manifest(Reference.parse("localhost/x:1"))
