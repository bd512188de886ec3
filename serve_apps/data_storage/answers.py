"""How routes describe in OpenAPI what they take and how they refuse; ``openapi`` supplies the schemas that are named here."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from kubernaut_ray.contracts.base import Contract
from serve_apps.problem import MEDIA_TYPE

PROBLEM = "Problem"
_WHY = {
    400: "The input is wrong; ``field_errors`` says where.",
    401: "No bearer token, or one that is not accepted.",
    403: "The token's user may not do this.",
    404: "There is no such thing.",
    409: "It is there already with other content, or it moved on since it was read.",
    412: "The record is not at the ETag of ``If-Match`` any more.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    503: "The catalog owner does not answer, and nothing was stored; try again after ``Retry-After`` seconds.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe refusals, each an RFC 7807 problem."""
    return {status: _problem(_WHY.get(status, HTTPStatus(status).phrase)) for status in statuses}


def unavailable() -> dict[int | str, dict[str, Any]]:
    """Describe 503 with its header."""
    header = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
    return {503: {**_problem(_WHY[503]), "headers": header}}


def refusals() -> dict[int | str, dict[str, Any]]:
    """Describe what every route that asks for a token may answer."""
    return {**problems(400, 401, 403, 413), **unavailable(), "default": _problem("Any other refusal.")}


def taken(model: type[Contract]) -> dict[str, Any]:
    """Describe a body that is parsed by hand."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {str(status): answer for status, answer in problems(415).items()},
    }


def _problem(description: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{PROBLEM}"}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}
