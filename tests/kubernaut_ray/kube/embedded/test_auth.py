"""Tokens and role-based access control, without HTTP."""

from __future__ import annotations

import base64
import stat
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubernaut_ray.kube.embedded.authn import AUDIENCE, Account, Authenticator, User
from kubernaut_ray.kube.embedded.log import CommitLog
from kubernaut_ray.kube.embedded.rbac import Access, Authorizer, bootstrap, covers
from kubernaut_ray.kube.embedded.store import Store

ACCOUNT = Account("ns", "runner", "uid-1")


@pytest.fixture
def authenticator(tmp_path: Path) -> Authenticator:
    return Authenticator(tmp_path, lambda namespace, name: "uid-1" if (namespace, name) == ("ns", "runner") else None)


def test_the_administrator(authenticator: Authenticator, tmp_path: Path) -> None:
    """The admin token is in a private file, its digest only in the tokens file."""
    user = authenticator.user(authenticator.admin_token)
    assert user is not None
    assert "system:masters" in user.groups
    for name in ("admin.token", "tokens.json", "service-account.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert authenticator.admin_token not in (tmp_path / "tokens.json").read_text()


def test_tokens_survive_restarts(authenticator: Authenticator, tmp_path: Path) -> None:
    """Neither the admin token nor issued ones change with the process."""
    token, _ = authenticator.issue(ACCOUNT, (), 3600)
    again = Authenticator(tmp_path, lambda *_: "uid-1")
    assert authenticator.admin_token == again.admin_token
    assert again.user(token) == ACCOUNT.user


def test_service_account_tokens(authenticator: Authenticator) -> None:
    """They speak for the account, for the audience they were made for."""
    token, expires = authenticator.issue(ACCOUNT, (), 3600)
    assert ACCOUNT.user == authenticator.user(token)
    assert 3590 < expires - time.time() <= 3600
    other, _ = authenticator.issue(ACCOUNT, ("vault",), 3600)
    assert authenticator.user(other) is None
    assert ACCOUNT.user == authenticator.user(other, ("vault", AUDIENCE))
    assert authenticator.audiences(other, ("vault", "x")) == ["vault"]


def test_tokens_die_with_their_account(tmp_path: Path) -> None:
    """An account of the same name made anew is another account."""
    uids = {"uid": "uid-1"}
    it = Authenticator(tmp_path, lambda *_: uids["uid"])
    token, _ = it.issue(ACCOUNT, (), 3600)
    assert it.user(token) is not None
    uids["uid"] = "uid-2"
    assert it.user(token) is None


def test_expired_tokens(authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time ends a token, cached or not."""
    token, _ = authenticator.issue(ACCOUNT, (), 600)
    assert authenticator.user(token) is not None
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + 601)
    assert authenticator.user(token) is None


def test_forged_tokens(authenticator: Authenticator, tmp_path: Path) -> None:
    """Another key, changed claims, another algorithm, rubbish: none is accepted."""
    token, _ = authenticator.issue(ACCOUNT, (), 3600)
    header, claims, signature = token.split(".")
    changed = orjson.loads(base64.urlsafe_b64decode(claims + "=="))
    changed["kubernetes.io"]["serviceaccount"]["name"] = "admin"
    forged = base64.urlsafe_b64encode(orjson.dumps(changed)).decode().rstrip("=")
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    (tmp_path / "other").mkdir()
    foreign, _ = Authenticator(tmp_path / "other", lambda *_: "uid-1").issue(ACCOUNT, (), 3600)
    for text in (
        f"{header}.{forged}.{signature}",
        f"{none}.{claims}.",
        foreign,
        "",
        "a.b.c",
        "x",
        f"{header}.{claims}.AAAA",
    ):
        assert authenticator.user(text) is None, text


@pytest.fixture
async def store(tmp_path: Path) -> Any:
    it = Store(CommitLog(tmp_path / "objects.sqlite"))
    it.start()
    yield it
    it.close()


def rbac(store: Store, plural: str, name: str, body: dict[str, Any], namespace: str = "") -> None:
    kind = {
        "roles": "Role",
        "clusterroles": "ClusterRole",
        "rolebindings": "RoleBinding",
        "clusterrolebindings": "ClusterRoleBinding",
    }
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    store.put(
        f"{plural}.rbac.authorization.k8s.io", namespace, name, {"kind": kind[plural], "metadata": metadata, **body}
    )


def allowed(authorizer: Authorizer, user: User, **access: Any) -> bool:
    return authorizer.allowed(user, Access(**access))[0]


async def test_roles_and_bindings(store: Store) -> None:
    """A Role works in its namespace, a ClusterRole where it is bound; changes take effect at once."""
    authorizer = Authorizer(store)
    user = User("jane", groups=("dev", "system:authenticated"))
    assert not allowed(authorizer, user, verb="get", resource="pods", namespace="a")
    rbac(store, "roles", "reader", {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}, "a")
    ref = {"kind": "Role", "name": "reader"}
    rbac(store, "rolebindings", "b", {"roleRef": ref, "subjects": [{"kind": "Group", "name": "dev"}]}, "a")
    assert allowed(authorizer, user, verb="get", resource="pods", namespace="a")
    assert not allowed(authorizer, user, verb="get", resource="pods", namespace="b")
    assert not allowed(authorizer, user, verb="get", resource="pods")
    assert not allowed(authorizer, user, verb="delete", resource="pods", namespace="a")
    assert not allowed(authorizer, user, verb="get", resource="pods", subresource="log", namespace="a")
    rbac(store, "clusterroles", "any", {"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]})
    ref = {"kind": "ClusterRole", "name": "any"}
    rbac(store, "clusterrolebindings", "c", {"roleRef": ref, "subjects": [{"kind": "User", "name": "jane"}]})
    assert allowed(authorizer, user, verb="delete", group="x", resource="y")
    store.remove("clusterrolebindings.rbac.authorization.k8s.io", "", "c")
    assert not allowed(authorizer, user, verb="delete", group="x", resource="y")


async def test_service_account_subjects(store: Store) -> None:
    """A ServiceAccount subject is the account in its own namespace."""
    authorizer = Authorizer(store)
    rbac(store, "clusterroles", "r", {"rules": [{"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}]})
    subject = {"kind": "ServiceAccount", "name": "runner", "namespace": "ns"}
    rbac(store, "rolebindings", "b", {"roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [subject]}, "prod")
    assert allowed(authorizer, ACCOUNT.user, verb="get", resource="pods", subresource="log", namespace="prod")
    assert not allowed(authorizer, ACCOUNT.user, verb="get", resource="pods", subresource="log", namespace="ns")
    other = Account("other", "runner", "x").user
    assert not allowed(authorizer, other, verb="get", resource="pods", subresource="log", namespace="prod")


async def test_masters_and_discovery(store: Store) -> None:
    """Masters may everything; anybody authenticated may discover, and nothing else."""
    authorizer = Authorizer(store)
    for document in bootstrap():
        plural = document["kind"].lower() + "s"
        rbac(store, plural, document["metadata"]["name"], document)
    assert allowed(authorizer, User("root", groups=("system:masters",)), verb="delete", resource="nodes")
    anybody = User("x", groups=("system:authenticated",))
    assert allowed(authorizer, anybody, verb="get", path="/apis/apps/v1")
    assert allowed(
        authorizer, anybody, verb="create", group="authorization.k8s.io", resource="selfsubjectaccessreviews"
    )
    assert not allowed(authorizer, anybody, verb="get", path="/metrics")
    assert not allowed(authorizer, anybody, verb="list", resource="namespaces")


@pytest.mark.parametrize(
    ("rule", "access", "expected"),
    [
        ({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}, {"name": "a"}, True),
        ({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}, {"name": "b"}, False),
        ({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}, {}, False),
        ({"verbs": ["*"], "apiGroups": [""], "resources": ["*/log"]}, {"subresource": "log"}, True),
        ({"verbs": ["*"], "apiGroups": [""], "resources": ["*/log"]}, {}, False),
        ({"verbs": ["*"], "apiGroups": ["apps"], "resources": ["*"]}, {}, False),
    ],
)
def test_rules(rule: dict[str, Any], access: dict[str, Any], expected: bool) -> None:
    """Names, subresources and groups narrow a rule."""
    assert expected is covers(rule, Access(**{"verb": "get", "resource": "pods", **access}))
