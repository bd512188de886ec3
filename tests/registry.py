"""A real OCI registry (Debian's ``docker-registry``) on a loopback port, and what stands around one: a token realm, TLS.

``running`` keeps it up for as long as a test needs it; ``Realm`` issues the bearer tokens it accepts; ``client_identity``
makes a client's certificate; ``Mirror`` answers in a registry's place with whatever a test wants.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubernaut_ray.kube.embedded.pki import Identity, signing_key
from kubernaut_ray.settings import RegistryAccess


def plain(host: str) -> dict[str, RegistryAccess]:
    """Return the access settings for a registry that speaks plain HTTP."""
    return {host: RegistryAccess(plain_http=True)}


@contextmanager
def running(
    folder: Path,
    *,
    htpasswd: str = "",
    realm: Realm | None = None,
    tls: Identity | None = None,
    client_ca: Path | None = None,
) -> Iterator[str]:
    """Yield ``host:port`` of a registry that keeps its images in ``folder``.

    ``htpasswd`` makes it ask for a password, ``realm`` for that realm's tokens, ``client_ca`` for a certificate.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "images")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    if htpasswd:
        (folder / "htpasswd").write_text(htpasswd + "\n")
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
    if realm:
        config["auth"] = {"token": realm.config()}
    if tls:
        config["http"]["tls"] = {"certificate": str(tls.certificate), "key": str(tls.key)}
        if client_ca:
            config["http"]["tls"]["clientcas"] = [str(client_ca)]
    (folder / "registry.yml").write_text(yaml.safe_dump(config))
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(folder / "registry.yml")], stdout=log, stderr=log)
        try:
            _wait(port, process, folder / "registry.log")
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), 2).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(log.read_text())


def client_identity(folder: Path) -> tuple[Path, Path]:
    """Return certificate and key of a client, signed by the authority whose files ``pki.identity`` left in ``folder``."""
    ca = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    key, now = signing_key(folder / "client.key"), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(signing_key(folder / "ca.key"), hashes.SHA256())
    )
    path = folder / "client.crt"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path, folder / "client.key"


class _Served:
    """An HTTP server on a thread, for as long as a ``with`` block."""

    def __init__(self, tls: Identity | None = None) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                status, headers, body = outer.answer(self.command, self.path, self.headers, self.rfile.read(length))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815 - the base class's names

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.scheme = "https" if tls else "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.certificate, tls.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.host = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def answer(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        raise NotImplementedError

    def __enter__(self) -> Any:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Realm(_Served):
    """A token realm: ``ann`` has the password ``secret`` or the identity token ``refresh-me``, others may only pull ``public/``."""

    def __init__(self, folder: Path, tls: Identity | None = None) -> None:
        super().__init__(tls)
        self.asked: list[tuple[str, str]] = []
        """Method and scope of every request, its actions in alphabetical order: a registry names them in any."""
        self._key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "realm")])
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self._bundle = folder / "realm.crt"
        self._bundle.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def config(self) -> dict[str, str]:
        """Return the registry's ``auth.token``."""
        url = f"{self.scheme}://{self.host}/token"
        return {"realm": url, "service": "test", "issuer": "realm", "rootcertbundle": str(self._bundle)}

    def answer(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        fields = {k: v[0] for k, v in parse_qs(body.decode() if method == "POST" else urlsplit(path).query).items()}
        self.asked.append((method, _ordered(fields.get("scope", ""))))
        given = headers.get("authorization", "")
        ann = (
            given == "Basic " + base64.b64encode(b"ann:secret").decode() or fields.get("refresh_token") == "refresh-me"
        )
        if (given or method == "POST") and not ann:
            return 401, {}, b"no such user"
        kind, name, actions = fields["scope"].split(":")
        allowed = actions.split(",") if ann else ["pull"] if name.startswith("public/") else []
        token = self._token([{"type": kind, "name": name, "actions": allowed}])
        key = "access_token" if method == "POST" else "token"
        return 200, {"content-type": "application/json"}, json.dumps({key: token, "expires_in": 300}).encode()

    def _token(self, access: list[dict[str, Any]]) -> str:
        now = int(time.time())
        der = self._certificate.public_bytes(serialization.Encoding.DER)
        head = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}
        claims = {
            "iss": "realm", "sub": "ann", "aud": "test", "exp": now + 300, "nbf": now - 60, "iat": now, "jti": str(now),
            "access": access,
        }  # fmt: skip
        signed = f"{_segment(json.dumps(head).encode())}.{_segment(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_segment(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Mirror(_Served):
    """Answers as ``reply(method, path, headers)`` says: (status, headers, body). ``seen`` has every (method, path, Authorization)."""

    def __init__(
        self,
        reply: Callable[[str, str, Mapping[str, str]], tuple[int, dict[str, str], bytes]],
        tls: Identity | None = None,
    ) -> None:
        super().__init__(tls)
        self._reply = reply
        self.seen: list[tuple[str, str, str]] = []

    def answer(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        self.seen.append((method, path, headers.get("authorization", "")))
        return self._reply(method, path, headers)


def _ordered(scope: str) -> str:
    head, colon, actions = scope.rpartition(":")
    return head + colon + ",".join(sorted(actions.split(",")))
