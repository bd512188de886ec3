"""Authentication, authorization, and the review APIs."""

from __future__ import annotations

import pytest

from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, UserInfo
from kubernaut_ray.kube.errors import Invalid, NotFound
from tests.conformance.conftest import CM, Raw, config_map, eventually

pytestmark = pytest.mark.conformance


@pytest.fixture
async def account(kube: KubeClient, namespace: str) -> str:
    await kube.create(resources.SERVICE_ACCOUNT, {"metadata": {"name": "runner"}}, namespace)
    return f"system:serviceaccount:{namespace}:runner"


async def grant(kube: KubeClient, namespace: str, *, verbs: list[str], plural: str = "configmaps") -> None:
    rule = {"apiGroups": [""], "resources": [plural], "verbs": verbs}
    await kube.create(resources.ROLE, {"metadata": {"name": "r"}, "rules": [rule]}, namespace)
    await kube.create(
        resources.ROLE_BINDING,
        {
            "metadata": {"name": "r"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
            "subjects": [{"kind": "ServiceAccount", "name": "runner", "namespace": namespace}],
        },
        namespace,
    )


async def test_no_token_no_entry(anonymous: Raw) -> None:
    """A wrong token is 401; none at all is 401, or 403 where anonymous requests are on."""
    path = "/api/v1/namespaces"
    assert (await anonymous("GET", path, headers={"Authorization": "Bearer wrong"}))[0] == 401
    assert (await anonymous("GET", path))[0] in (401, 403)


async def test_token_review(kube: KubeClient, namespace: str, account: str) -> None:
    """A token of ours is recognised with its groups, another is not."""
    token = await kube.service_account_token(namespace, "runner")
    user = await kube.review_token(token)
    assert user is not None
    assert account == user.username
    assert {"system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"} <= set(user.groups)
    assert await kube.review_token("not-a-token") is None


async def test_tokens_die_with_the_account(kube: KubeClient, namespace: str, account: str) -> None:
    """A deleted account's token is worth nothing."""
    token = await kube.service_account_token(namespace, "runner")
    await kube.delete(resources.SERVICE_ACCOUNT, "runner", namespace)

    async def refused() -> bool:
        return await kube.review_token(token) is None

    await eventually(refused)


async def test_token_requests_that_are_refused(kube: KubeClient, namespace: str, account: str) -> None:
    """No such account; a lifetime under ten minutes."""
    with pytest.raises(NotFound):
        await kube.service_account_token(namespace, "nobody")
    with pytest.raises(Invalid):
        await kube.service_account_token(namespace, "runner", expiration_seconds=10)


async def test_access_review(kube: KubeClient, namespace: str, account: str) -> None:
    """Roles decide, in their namespace, by verb; a change takes effect."""
    user = UserInfo(account)
    ask = {"verb": "get", "group": "", "resource": "configmaps", "namespace": namespace}
    assert not await kube.may(user, **ask)
    await grant(kube, namespace, verbs=["get", "list"])

    async def allowed() -> bool:
        return await kube.may(user, **ask)

    await eventually(allowed)
    assert not await kube.may(user, **{**ask, "verb": "delete"})
    assert not await kube.may(user, **{**ask, "namespace": "default"})
    assert not await kube.may(user, **{**ask, "resource": "secrets"})
    assert await kube.may(UserInfo("root", groups=("system:masters",)), **{**ask, "verb": "delete"})


async def test_requests_are_authorized(kube: KubeClient, anonymous: Raw, namespace: str, account: str) -> None:
    """403 says who may not do what; what is granted works."""
    token = {"Authorization": f"Bearer {await kube.service_account_token(namespace, 'runner')}"}
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    code, body = await anonymous("GET", path, headers=token)
    assert (code, body["reason"]) == (403, "Forbidden")
    assert (
        f'User "{account}" cannot list resource "configmaps" in API group "" in the namespace "{namespace}"'
        in body["message"]
    )
    await grant(kube, namespace, verbs=["list"])

    async def allowed() -> bool:
        return (await anonymous("GET", path, headers=token))[0] == 200

    await eventually(allowed)
    assert (await anonymous("POST", path, json=config_map("x"), headers=token))[0] == 403
    assert (await anonymous("GET", "/api/v1/configmaps", headers=token))[0] == 403
    assert (await anonymous("GET", "/apis", headers=token))[0] == 200


async def test_self_reviews(anonymous: Raw, kube: KubeClient, namespace: str, account: str) -> None:
    """Anybody may ask about themselves."""
    token = {"Authorization": f"Bearer {await kube.service_account_token(namespace, 'runner')}"}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    spec = {"resourceAttributes": {"verb": "list", "resource": "nodes"}}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    code, body = await anonymous("POST", path, json={**review, "spec": spec}, headers=token)
    assert (code, body["status"]["allowed"]) == (201, False)
    code, body = await anonymous(
        "POST",
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        json={"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
        headers=token,
    )
    assert (201, account) == (code, body["status"]["userInfo"]["username"])
    reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    assert (await anonymous("POST", reviews, json={"spec": {**spec, "user": "x"}}, headers=token))[0] == 403


async def test_impersonation(anonymous: Raw, kube: KubeClient, namespace: str, account: str) -> None:
    """Acting as somebody else needs leave; without it 403."""
    token = {
        "Authorization": f"Bearer {await kube.service_account_token(namespace, 'runner')}",
        "Impersonate-User": "root",
    }
    code, body = await anonymous("GET", "/api/v1/namespaces", headers=token)
    assert (code, 'cannot impersonate resource "users"' in body["message"]) == (403, True)


async def test_an_impersonated_identity_is_whole(raw: Raw) -> None:
    """Who may everything may be anybody: name, UID, groups and extra fields, whose keys are lower case."""
    headers = {
        "Impersonate-User": "zoe@example.com",
        "Impersonate-Uid": "42",
        "Impersonate-Group": "approvers",
        "Impersonate-Extra-Example.com%2Fvia": "chat",
    }
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    code, body = await raw("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", json=review, headers=headers)
    assert code == 201, body
    user = body["status"]["userInfo"]
    assert (user["username"], user["uid"], user["extra"]) == ("zoe@example.com", "42", {"example.com/via": ["chat"]})
    assert {"approvers", "system:authenticated"} == set(user["groups"])


async def test_extra_fields_need_leave_of_their_own(
    anonymous: Raw, kube: KubeClient, namespace: str, account: str
) -> None:
    """To be a user is not to say anything about them."""
    name = f"impersonator-{namespace}"
    rule = {"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"], "resourceNames": ["zoe@example.com"]}
    await kube.create(resources.CLUSTER_ROLE, {"metadata": {"name": name}, "rules": [rule]})
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    subject = {"kind": "ServiceAccount", "name": "runner", "namespace": namespace}
    binding = {"metadata": {"name": name}, "roleRef": ref, "subjects": [subject]}
    await kube.create(resources.CLUSTER_ROLE_BINDING, binding)
    token = {
        "Authorization": f"Bearer {await kube.service_account_token(namespace, 'runner')}",
        "Impersonate-User": "zoe@example.com",
    }
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    try:

        async def allowed() -> bool:
            return (await anonymous("POST", path, json=review, headers=token))[0] == 201

        await eventually(allowed)
        more = {**token, "Impersonate-Extra-Via": "chat"}
        code, body = await anonymous("POST", path, json=review, headers=more)
        assert (code, 'cannot impersonate resource "userextras/via"' in body["message"]) == (403, True), body
    finally:
        await kube.delete(resources.CLUSTER_ROLE_BINDING, name)
        await kube.delete(resources.CLUSTER_ROLE, name)


async def test_reviews_that_are_refused(raw: Raw) -> None:
    """A review asks about exactly one thing."""
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {"user": "x"}}
    assert (await raw("POST", path, json=body))[0] == 422


async def test_role_refs_never_change(kube: KubeClient, namespace: str, account: str) -> None:
    """A binding is bound to its role."""
    await grant(kube, namespace, verbs=["get"])
    with pytest.raises(Invalid, match="roleRef"):
        await kube.patch(resources.ROLE_BINDING, "r", {"roleRef": {"name": "other"}}, namespace)


async def test_secrets(kube: KubeClient, namespace: str) -> None:
    """stringData becomes data; the type never changes."""
    made = await kube.create(resources.SECRET, {"metadata": {"name": "s"}, "stringData": {"a": "b"}}, namespace)
    assert (made["data"], made["type"]) == ({"a": "Yg=="}, "Opaque")
    assert "stringData" not in made
    with pytest.raises(Invalid):
        await kube.patch(resources.SECRET, "s", {"type": "other"}, namespace)
    assert not await kube.may(UserInfo("x"), verb="get", group="", resource=CM.plural, namespace=namespace)
