"""Kubernetes objects named in one string."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.kube.resources import BY_KIND
from serve_apps.gateway.adapters import subject


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("namespaces/shop/pods/web-1", ("", "pods", "web-1", "shop"), id="a path without version"),
        pytest.param("/apis/apps/v1/namespaces/shop/deployments/web", ("apps/v1", "deployments", "web", "shop"), id="a path"),
        pytest.param("apps/v1/namespaces/shop/deployments/web", ("apps/v1", "deployments", "web", "shop"), id="no /apis"),
        pytest.param("/api/v1/namespaces/shop/pods/web-1", ("v1", "pods", "web-1", "shop"), id="the core group"),
        pytest.param("/apis/v1/namespaces/shop/pods/web-1", ("v1", "pods", "web-1", "shop"), id="as Knative writes it"),
        pytest.param("v1/nodes/n1", ("v1", "nodes", "n1", ""), id="cluster-scoped"),
        pytest.param("cert-manager.io/v1beta1/clusterissuers/x", ("cert-manager.io/v1beta1", "clusterissuers", "x", ""), id="group"),
        pytest.param("shop/pod/web-1", ("", "pod", "web-1", "shop"), id="short"),
        pytest.param("shop/Deployment/web", ("", "Deployment", "web", "shop"), id="short with the kind's own case"),
        pytest.param("node/n1", ("", "node", "n1", ""), id="short, cluster-scoped"),
        pytest.param("namespaces/shop", ("", "namespaces", "shop", ""), id="a namespace itself"),
        pytest.param("", None, id="empty"),
        pytest.param("web-1", None, id="a name alone"),
        pytest.param("namespaces/shop/pods", None, id="a collection"),
        pytest.param("namespaces/shop/pods/web-1/log", None, id="a subresource"),
        pytest.param("a//b", None, id="an empty part"),
        pytest.param("blobServices/default/containers/x/blobs/y.png", None, id="a storage path"),
        pytest.param("shop/pod/" + "x" * 254, None, id="a name too long"),
    ],
)  # fmt: skip
def test_forms(text: str, expected: tuple[str, str, str, str] | None) -> None:
    """Each form names the same four things; other text names nothing."""
    found = subject.resource(text)
    assert (found and (found.api_version, found.kind, found.name, found.namespace)) == expected


@given(st.sampled_from(list(BY_KIND.values())), st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True))
def test_every_path_of_the_api_server_is_read_back(resource: object, name: str) -> None:
    """What ``Resource.path`` writes is what is read."""
    kind = next(r for r in BY_KIND.values() if r is resource)
    namespace = "shop" if kind.namespaced else ""
    expected = TargetResource(api_version=kind.api_version, kind=kind.plural, name=name, namespace=namespace)
    assert subject.resource(kind.path(namespace, name)) == expected


@given(st.text(max_size=60) | st.lists(st.sampled_from(["apis", "v1", "namespaces", "x", ""])).map("/".join))
def test_no_text_crashes_it(text: str) -> None:
    """Any text names an object or nothing."""
    found = subject.resource(text)
    assert found is None or (found.kind and found.name)
