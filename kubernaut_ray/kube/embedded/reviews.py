"""The review APIs: requests that are answered and never stored (who is this token, may this user do that, who am I)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kubernaut_ray.kube.embedded.authn import Authenticator, User
from kubernaut_ray.kube.embedded.columns import at
from kubernaut_ray.kube.embedded.kinds import Kind
from kubernaut_ray.kube.embedded.rbac import Access, Authorizer
from kubernaut_ray.kube.embedded.status import Obj, bad_request, invalid, required


class Reviews:
    """Answers the review kinds."""

    def __init__(self, authenticator: Authenticator, authorizer: Authorizer) -> None:
        self._authenticator, self._authorizer = authenticator, authorizer
        self._answers: dict[str, Callable[[Obj, User, str], Obj]] = {
            "TokenReview": self._token,
            "SubjectAccessReview": self._subject_access,
            "LocalSubjectAccessReview": self._subject_access,
            "SelfSubjectAccessReview": self._self_access,
            "SelfSubjectReview": lambda _body, user, _namespace: {"userInfo": user.info()},
            "SelfSubjectRulesReview": self._self_rules,
        }

    def answers(self, kind: Kind) -> bool:
        return kind.kind in self._answers and kind.group.endswith(".k8s.io")

    def answer(self, kind: Kind, body: Obj, user: User, namespace: str) -> Obj:
        """Return the review with its status filled in."""
        if body.get("kind") not in (None, "", kind.kind):
            raise bad_request(f"the body is a {body.get('kind')}, this endpoint takes a {kind.kind}")
        if causes := kind.rules.problems({**body, "spec": body.get("spec") or {}}, None):
            raise invalid(kind.kind, kind.group, "", causes)
        spec = body.get("spec") or {}
        status = self._answers[kind.kind](dict(spec), user, namespace)
        metadata = {"creationTimestamp": None, **at(body, "metadata", missing={})}
        shown = {k: v for k, v in spec.items() if k != "token"} if kind.kind == "TokenReview" else spec
        return {
            "kind": kind.kind,
            "apiVersion": kind.api_version,
            "metadata": metadata,
            "spec": shown,
            "status": status,
        }

    def _token(self, spec: Obj, _user: User, _namespace: str) -> Obj:
        token = spec.get("token")
        if not isinstance(token, str) or not token:
            raise bad_request("token is required for TokenReview in authentication")
        audiences = list(spec.get("audiences") or ())
        found = self._authenticator.user(token, audiences)
        if found is None:
            return {"authenticated": False, "user": {}, "error": "invalid bearer token"}
        answer: Obj = {"authenticated": True, "user": found.info()}
        answer["audiences"] = self._authenticator.audiences(token, audiences)
        return answer

    def _subject_access(self, spec: Obj, _user: User, namespace: str) -> Obj:
        name, groups = spec.get("user") or "", tuple(spec.get("groups") or ())
        if not name and not groups:
            raise invalid(
                "SubjectAccessReview",
                "authorization.k8s.io",
                "",
                [required("spec.user", "at least one of user or group must be specified")],
            )
        return self._decide(User(name, spec.get("uid") or "", groups), _access(spec, "SubjectAccessReview", namespace))

    def _self_access(self, spec: Obj, user: User, _namespace: str) -> Obj:
        return self._decide(user, _access(spec, "SelfSubjectAccessReview", ""))

    def _decide(self, user: User, access: Access) -> Obj:
        allowed, reason = self._authorizer.allowed(user, access)
        return {"allowed": allowed, **({"reason": reason} if reason else {})}

    def _self_rules(self, spec: Obj, user: User, _namespace: str) -> Obj:
        namespace = spec.get("namespace")
        if not namespace:
            raise bad_request("no namespace on request")
        resource_rules: list[Obj] = []
        path_rules: list[Obj] = []
        if "system:masters" in user.groups:
            resource_rules.append({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})
            path_rules.append({"verbs": ["*"], "nonResourceURLs": ["*"]})
        for granted in self._authorizer.rules(user):
            if granted.namespace not in (None, namespace):
                continue
            rule = granted.rule
            if rule.get("nonResourceURLs"):
                path_rules.append({"verbs": rule["verbs"], "nonResourceURLs": rule["nonResourceURLs"]})
            else:
                resource_rules.append({k: v for k, v in rule.items() if v})
        return {"resourceRules": resource_rules, "nonResourceRules": path_rules, "incomplete": False}


def _access(spec: Mapping[str, Any], kind: str, namespace: str) -> Access:
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if (resource is None) is (path is None):
        raise invalid(
            kind,
            "authorization.k8s.io",
            "",
            [required("spec.resourceAttributes", "exactly one of nonResourceAttributes or resourceAttributes must be specified")],
        )  # fmt: skip
    if resource is None:
        return Access(verb=path.get("verb") or "", path=path.get("path") or "") if path else Access("")
    return Access(
        verb=resource.get("verb") or "",
        group=resource.get("group") or "",
        resource=resource.get("resource") or "",
        subresource=resource.get("subresource") or "",
        namespace=namespace or resource.get("namespace") or "",
        name=resource.get("name") or "",
    )
