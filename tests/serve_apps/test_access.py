"""The gate against a real API server: service account tokens, and what RBAC lets them do."""

from __future__ import annotations

import pytest

from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from serve_apps.access import KubeGate

pytestmark = pytest.mark.integration


async def test_tokens_and_rights(kube: KubeClient, namespace: str) -> None:
    """A service account is who its token says, and may do what its roles say in the group kubernaut.ai."""
    name = f"sender-{namespace}"
    await kube.create(resources.SERVICE_ACCOUNT, {"metadata": {"name": "sender", "namespace": namespace}})
    rule = {"apiGroups": ["kubernaut.ai"], "resources": ["signals"], "verbs": ["create"]}
    await kube.create(resources.CLUSTER_ROLE, {"metadata": {"name": name}, "rules": [rule]})
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "sender", "namespace": namespace}],
    }
    await kube.create(resources.CLUSTER_ROLE_BINDING, binding)
    gate = KubeGate(kube)
    try:
        user = await gate.authenticate(await kube.service_account_token(namespace, "sender"))
        assert user is not None
        assert user.username == f"system:serviceaccount:{namespace}:sender"
        assert await gate.authorize(user, "create", "signals")
        assert not await gate.authorize(user, "create", "investigations")
        assert not await gate.authorize(user, "get", "signals")
        assert await gate.authenticate("nonsense") is None
    finally:
        await kube.delete(resources.CLUSTER_ROLE_BINDING, name)
        await kube.delete(resources.CLUSTER_ROLE, name)
