"""What kube-apiserver refuses in webhook configurations, so that everything stored can be compiled and called."""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from kubernaut_ray.kube.embedded import cel, meta
from kubernaut_ray.kube.embedded.cel_syntax import CelError
from kubernaut_ray.kube.embedded.status import Cause, Obj, invalid_value, required, unsupported
from kubernaut_ray.kube.embedded.webhooks import CONDITION_NAMES

_OPERATIONS = ("*", "CREATE", "UPDATE", "DELETE", "CONNECT")
_VERSIONS = ("v1", "v1beta1")
_CONDITIONS_LIMIT = 64


def problems(obj: Obj, old: Obj | None) -> list[Cause]:  # noqa: ARG001
    """Say everything that is wrong with a configuration."""
    causes: list[Cause] = []
    seen: set[str] = set()
    for i, webhook in enumerate(obj.get("webhooks") or ()):
        where, name = f"webhooks[{i}]", str(webhook.get("name") or "")
        if name in seen:
            causes.append(Cause(f"{where}.name", "FieldValueDuplicate", f'Duplicate value: "{name}"'))
        seen.add(name)
        causes += _webhook(webhook, where)
    return causes


def _webhook(webhook: Obj, where: str) -> Iterator[Cause]:
    name = webhook.get("name") or ""
    if not meta.DNS_SUBDOMAIN.match(name) or name.count(".") < 2:
        yield invalid_value(f"{where}.name", name, "should be a domain with at least three segments separated by dots")
    reviewed = webhook.get("admissionReviewVersions") or []
    if not reviewed:
        yield required(f"{where}.admissionReviewVersions", "must specify one of v1, v1beta1")
    elif "v1" not in reviewed:
        yield invalid_value(
            f"{where}.admissionReviewVersions", reviewed, "must include v1, the only version spoken here"
        )
    for field, allowed in (
        ("failurePolicy", ("Fail", "Ignore")),
        ("matchPolicy", ("Equivalent", "Exact")),
        ("sideEffects", ("None", "NoneOnDryRun")),
        ("reinvocationPolicy", ("IfNeeded", "Never")),
    ):
        value = webhook.get(field)
        if value is None and field == "sideEffects":
            yield required(f"{where}.sideEffects", "must specify one of None, NoneOnDryRun")
        elif value is not None and value not in allowed:
            yield unsupported(f"{where}.{field}", value, allowed)
    seconds = webhook.get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= 30:
        yield invalid_value(f"{where}.timeoutSeconds", seconds, "the timeout value must be between 1 and 30 seconds")
    yield from _client(webhook.get("clientConfig") or {}, f"{where}.clientConfig")
    for i, rule in enumerate(webhook.get("rules") or ()):
        yield from _rule(rule, f"{where}.rules[{i}]")
    for field in ("namespaceSelector", "objectSelector"):
        yield from _selector(webhook.get(field) or {}, f"{where}.{field}")
    yield from _conditions(webhook.get("matchConditions") or [], f"{where}.matchConditions")


def _client(client: Obj, where: str) -> Iterator[Cause]:
    url, service = client.get("url"), client.get("service")
    if (url is None) == (service is None):
        yield required(where, "exactly one of url or service is required")
    elif url is not None:
        try:
            parts = urlsplit(url)
            host = parts.hostname
        except ValueError:
            yield invalid_value(f"{where}.url", url, "url must be a valid URL")
            return
        if parts.scheme != "https":
            yield invalid_value(f"{where}.url", url, "'https' is the only allowed URL scheme")
        if not host:
            yield invalid_value(f"{where}.url", url, "host must be specified")
        if parts.username or parts.password:
            yield invalid_value(f"{where}.url", url, "user information is not permitted in the URL")
        if parts.fragment or parts.query:
            yield invalid_value(f"{where}.url", url, "fragments and query parameters are not permitted in the URL")
    elif isinstance(service, dict):
        for field in ("name", "namespace"):
            if not service.get(field):
                yield required(f"{where}.service.{field}", f"service {field} is required")
    if bundle := client.get("caBundle"):
        try:
            ssl.create_default_context(cadata=base64.b64decode(bundle, validate=True).decode())
        except (binascii.Error, UnicodeDecodeError, ssl.SSLError, ValueError) as error:
            yield invalid_value(f"{where}.caBundle", "…", f"unable to load root certificates: {error}")


def _rule(rule: Obj, where: str) -> Iterator[Cause]:
    for field in ("operations", "apiGroups", "apiVersions", "resources"):
        if not rule.get(field):
            yield required(f"{where}.{field}")
    for i, operation in enumerate(rule.get("operations") or ()):
        if operation not in _OPERATIONS:
            yield unsupported(f"{where}.operations[{i}]", operation, _OPERATIONS)
    if rule.get("scope") not in (None, "*", "Cluster", "Namespaced"):
        yield unsupported(f"{where}.scope", rule["scope"], ("*", "Cluster", "Namespaced"))


def _selector(selector: Obj, where: str) -> Iterator[Cause]:
    yield from meta.label_problems(selector.get("matchLabels"), f"{where}.matchLabels")
    for i, expression in enumerate(selector.get("matchExpressions") or ()):
        operator, values, here = expression.get("operator"), expression.get("values"), f"{where}.matchExpressions[{i}]"
        if operator in ("In", "NotIn") and not values:
            yield required(f"{here}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif operator in ("Exists", "DoesNotExist") and values:
            yield Cause(
                f"{here}.values",
                "FieldValueForbidden",
                "Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )
        elif operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            yield invalid_value(f"{here}.operator", operator, "not a valid selector operator")


def _conditions(conditions: list[Any], where: str) -> Iterator[Cause]:
    if len(conditions) > _CONDITIONS_LIMIT:
        yield Cause(
            where, "FieldValueTooMany", f"Too many: {len(conditions)}: must have at most {_CONDITIONS_LIMIT} items"
        )
    seen: set[Any] = set()
    for i, condition in enumerate(conditions):
        name = condition.get("name")
        if not name:
            yield required(f"{where}[{i}].name")
        elif name in seen:
            yield Cause(f"{where}[{i}].name", "FieldValueDuplicate", f'Duplicate value: "{name}"')
        seen.add(name)
        text = condition.get("expression") or ""
        if not text.strip():
            yield required(f"{where}[{i}].expression")
            continue
        try:
            cel.expression(text, CONDITION_NAMES)
        except CelError as error:
            yield invalid_value(f"{where}[{i}].expression", text, f"compilation failed: {error}")
