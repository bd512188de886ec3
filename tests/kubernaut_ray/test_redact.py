"""Secrets leave the text, evidence stays in it, and no input makes it slow."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.redact import PLACEHOLDER, redact, redact_values

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.s1gnaturePart_x"

HIDDEN = [
    ("a JSON password", '{"password": "hunter2", "user": "bob"}', "hunter2"),
    ("a JSON password with an escaped quote", '{"password": "hun\\"ter2", "user": "bob"}', "ter2"),
    ("a password in JSON inside JSON", '{"line": "{\\"db_password\\":\\"hunter2\\"}"}', "hunter2"),
    ("a YAML password", "db:\n  password: hunter2\n  host: db", "hunter2"),
    ("a YAML block scalar", "password: |\n  hunter2\n  more\nhost: db", "hunter2"),
    ("a shell assignment", "export DB_PASSWORD=hunter2 HOST=db", "hunter2"),
    ("a quoted value cut off", 'token: "hunter2 and so on', "hunter2"),
    ("a command-line argument", "mysqld --root-password hunter2 --port 3306", "hunter2"),
    ("a command-line argument with =", "mysqld --root-password=hunter2", "hunter2"),
    ("an environment variable of a pod in YAML", "- name: DB_PASSWORD\n  value: hunter2\n- name: A\n  value: b", "hunter2"),
    ("an environment variable of a pod in JSON", '{"name":"API_TOKEN","value":"hunter2"}', "hunter2"),
    ("a Postgres URL", "postgres://app:hunter2@db:5432/app", "hunter2"),
    ("a Postgres URL with @ in the password", "postgresql://app:hun@ter2@db:5432/app", "ter2"),
    ("a SQLAlchemy URL", "mysql+pymysql://root:hunter2@db/app", "hunter2"),
    ("a Redis URL without a user", "redis://:hunter2@cache:6379/0", "hunter2"),
    ("an https URL with credentials", "fetching https://bob:hunter2@git.example/x.git", "hunter2"),
    ("an OpenAI key", "using sk-proj-abcdefghijklmnop1234", "abcdefghijklmnop"),
    ("an API key", "api_key=hunter2abc", "hunter2"),
    ("an API key header", "X-Api-Key: hunter2abc", "hunter2"),
    ("a bearer header", "Authorization: Bearer hunter2hunter2", "hunter2"),
    ("a basic header in JSON", '"Authorization": "Basic aHVudGVyMg=="', "aHVudGVyMg"),
    ("a bare bearer token", "sent Bearer hunter2hunter2 to it", "hunter2"),
    ("a JWT", f"got {JWT} from the issuer", "eyJzdWIi"),
    ("a GitHub token", "clone with ghp_abcdefghijklmnopqrstuvwxyz0123", "abcdefghij"),
    ("a Slack webhook", "https://hooks.slack.com/services/T000/B000/XXXXhunter2", "hunter2"),
    ("a Slack token", "xoxb-123456789012-hunter2abcdef", "hunter2"),
    ("an AWS key id", "key AKIAIOSFODNN7EXAMPLE used", "IOSFODNN7"),
    ("an AWS secret key", "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "wJalrXUtnFEMI"),
    ("a private key", "-----BEGIN RSA PRIVATE KEY-----\nMIIhunter2\n-----END RSA PRIVATE KEY-----\nafter", "hunter2"),
    ("an encrypted key with headers", "-----BEGIN PRIVATE KEY-----\nProc-Type: 4\n\nMIIhunter2\n-----END PRIVATE KEY-----", "hunter2"),
    ("a private key cut off", "-----BEGIN PRIVATE KEY-----\nMIIhunter2", "hunter2"),
    ("a certificate", "-----BEGIN CERTIFICATE-----\nMIIhunter2\n-----END CERTIFICATE-----", "hunter2"),
    ("a Secret in YAML", "kind: Secret\ndata:\n  user: aHVudGVyMg==\n  other: aHVudGVyMg==\ntype: Opaque", "aHVudGVyMg"),
    ("a Secret in JSON", '{"kind":"Secret","data":{"user":"aHVudGVyMg=="}}', "aHVudGVyMg"),
    ("a kubeconfig", "    client-key-data: aHVudGVyMg==", "aHVudGVyMg"),
    ("a docker config", '{"auths":{"r":{"auth":"aHVudGVyMg=="}}}', "aHVudGVyMg"),
    ("an applied configuration", 'kubectl.kubernetes.io/last-applied-configuration: |\n  {"a":"hunter2"}\nname: x', "hunter2"),
    ("a generator URL", '"generatorURL": "http://prom/graph?g0.expr=hunter2"', "hunter2"),
    ("a cookie", "Cookie: session=hunter2; a=b", "hunter2"),
]  # fmt: skip

KEPT = [
    ("a plain event", "OOMKilled: container api exceeded its limit of 128Mi (exit code 137)"),
    ("a secret's name", "secretName: tls-cert"),
    ("a reference to a secret's key", "secretKeyRef:\n  key: user\n  name: db-creds"),
    ("token counts", "max_tokens: 512"),
    ("a URL with a port", "GET http://api.shop.svc:8080/healthz failed"),
    ("a URL with an email in its query", "https://mail.example/send?to=a@b.example"),
    ("an image reference", "registry.example:5000/shop/api@sha256:0123456789abcdef"),
    ("a missing secret", 'MountVolume.SetUp failed: secret "db-creds" not found'),
]


@pytest.mark.parametrize(("text", "secret"), [c[1:] for c in HIDDEN], ids=[c[0] for c in HIDDEN])
def test_hides(text: str, secret: str) -> None:
    """A secret in any of its usual clothes is replaced."""
    clean = redact(text)

    assert secret not in clean
    assert PLACEHOLDER in clean


@pytest.mark.parametrize("text", [c[1] for c in KEPT], ids=[c[0] for c in KEPT])
def test_keeps(text: str) -> None:
    """What an investigation needs is left as it is."""
    assert redact(text) == text


@pytest.mark.parametrize("text", [c[1] for c in HIDDEN], ids=[c[0] for c in HIDDEN])
def test_is_idempotent_on_secrets(text: str) -> None:
    """Redacting twice is redacting once."""
    assert redact(redact(text)) == redact(text)


@given(st.text(alphabet=st.sampled_from(list("pasword:=\"'\\ \n-{}@/.[]|>tokensecret")), max_size=200))
def test_never_raises(text: str) -> None:
    """Any text at all is accepted, and what was hidden stays hidden."""
    clean = redact(text)

    assert redact(clean).count(PLACEHOLDER) >= clean.count(PLACEHOLDER)


@given(
    word=st.sampled_from(["password", "DB_PASSWORD", "api_key", "client_secret", "auth-token", "apiKey"]),
    separator=st.sampled_from([": ", "=", '": "', " = ", ":"]),
    value=st.text(alphabet="abcdefghijkmnpqrstuvwxyzABCDEFGH23456789!#%*+-_.", min_size=6, max_size=40),
)
def test_named_values_never_survive(word: str, separator: str, value: str) -> None:
    """Whatever a password looks like, its name gives it away."""
    assert value not in redact(f"x {word}{separator}{value}").removeprefix("x " + word)


@pytest.mark.parametrize(
    "piece",
    ["a", "a-", "a.", "eyJ", "eyJaaaa.", "-----BEGIN KEY-----", "password", "password:", 'password: "', "://", "://a:",
     "token=|\n ", "name: ", "data:\n  a\n", "kind: secret\ndata:\n", "--password", "authorization: ", '\\"', "redis://"],
)  # fmt: skip
def test_time_is_linear(piece: str) -> None:
    """Much of something nasty takes a moment, not minutes."""
    text = piece * (200_000 // len(piece))

    start = time.process_time()
    redact(text)

    assert time.process_time() - start < 8


def test_labels_and_annotations_lose_their_secrets() -> None:
    """By the value's form, or as a whole where its name gives it away; harmless ones stay."""
    assert redact_values(
        {
            "alertname": "KubePodOOMKilled",
            "password": "two words",
            "db_token": "t0k3n",
            "summary": "login failed: password=hunter2 for amy",
            "dashboard": "https://amy:s3cret@grafana.example/d/1",
            "secret_name": "web-tls",
        }
    ) == {
        "alertname": "KubePodOOMKilled",
        "password": "[REDACTED]",
        "db_token": "[REDACTED]",
        "summary": "login failed: password=[REDACTED] for amy",
        "dashboard": "https://amy:[REDACTED]@grafana.example/d/1",
        "secret_name": "web-tls",
    }
