"""AdmissionReview v1 as this webhook reads and answers it. Knows the wire and nothing of approvals."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.kube.client import UserInfo

API_VERSION = "admission.k8s.io/v1"


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class Resource(_Wire):
    group: str = ""
    version: str = ""
    resource: str = ""


class Caller(_Wire):
    """The one who made the request at the API server."""

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] | None = ()
    extra: dict[str, tuple[str, ...]] | None = None

    @property
    def user(self) -> UserInfo:
        return UserInfo(self.username, self.uid, tuple(self.groups or ()))

    def said(self, key: str) -> str:
        """Return the first value of an extra field; only the API server's authenticator or an impersonator sets one."""
        values = (self.extra or {}).get(key) or ("",)
        return values[0]


class Request(_Wire):
    uid: str
    resource: Resource
    sub_resource: str = ""
    operation: str
    name: str = ""
    namespace: str = ""
    user_info: Caller
    object: dict[str, Any] | None = None
    old_object: dict[str, Any] | None = None
    dry_run: bool = False


class _Review(_Wire):
    api_version: str
    kind: str
    request: Request


@dataclass(frozen=True, slots=True)
class Allowed:
    """``patch`` is the operations of a JSON patch."""

    patch: tuple[Mapping[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Denied:
    """``why`` is shown to whoever asked, after the webhook's name."""

    why: str
    reason: str = "Forbidden"
    code: int = 403


Verdict = Allowed | Denied


def read(body: bytes) -> Request:
    """Read an AdmissionReview. Raises ``InvalidInput`` that names what is wrong with it."""
    try:
        review = _Review.model_validate_json(body)
    except ValidationError as error:
        found = tuple((".".join(map(str, e["loc"])), e["msg"]) for e in error.errors(include_input=False))
        raise InvalidInput("the body is no AdmissionReview", problems=found) from None
    if (review.api_version, review.kind) != (API_VERSION, "AdmissionReview"):
        raise InvalidInput(
            f"the body is a {review.kind} of {review.api_version}; this speaks {API_VERSION} AdmissionReview"
        )
    return review.request


def answer(request: Request, verdict: Verdict) -> bytes:
    """Return the AdmissionReview that answers a request."""
    response: dict[str, Any] = {"uid": request.uid}
    match verdict:
        case Allowed(patch, warnings):
            response["allowed"] = True
            if patch:
                response |= {"patchType": "JSONPatch", "patch": base64.b64encode(orjson.dumps(list(patch))).decode()}
            if warnings:
                response["warnings"] = list(warnings)
        case Denied(why, reason, code):
            response |= {"allowed": False, "status": {"code": code, "reason": reason, "message": why}}
    return orjson.dumps({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response})
