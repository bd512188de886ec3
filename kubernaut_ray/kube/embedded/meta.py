"""Object metadata: what names, labels and references must look like, and the fields that the server owns."""

from __future__ import annotations

import functools
import random
import re
import secrets
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kubernaut_ray.kube.embedded.kinds import Kind
from kubernaut_ray.kube.embedded.status import Cause, Obj, invalid_value, required

DNS_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
DNS_SUBDOMAIN = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_QUALIFIED = re.compile(r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
_LABEL_VALUE = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")
chance = random.Random(secrets.randbits(256))  # noqa: S311 - nothing secret is made of it
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
ANNOTATIONS_LIMIT = 262_144
_EMPTY: tuple[Any, ...] = (None, "", {}, [])
"""Values that the wire form of metadata leaves out."""

_SERVER_OWNED = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
)


def now_text() -> str:
    """Return the current time as ``metav1.Time``: RFC 3339, whole seconds."""
    return _instant_text(int(time.time()))


@functools.lru_cache(maxsize=2)
def _instant_text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def generated(prefix: str) -> str:
    """Complete a ``generateName``."""
    return prefix[:58] + "".join(secrets.choice(_SUFFIX) for _ in range(5))


def new_metadata(given: Obj) -> Obj:
    """Return the metadata of a new object: the client's, with what the server owns set anew."""
    kept = {k: v for k, v in given.items() if k not in (*_SERVER_OWNED, "resourceVersion") and v not in _EMPTY}
    return {**kept, "uid": _uid(), "creationTimestamp": now_text()}


def _uid() -> str:
    # Unique, not secret; asking the kernel for each costs more than all else that is done to metadata.
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))


def carried_metadata(given: Obj, old: Obj) -> Obj:
    """Return the metadata of a changed object: the client's, with what the server owns taken from the old one."""
    kept = {k: v for k, v in given.items() if k not in _SERVER_OWNED and (v not in _EMPTY or k == "managedFields")}
    owned = {k: old[k] for k in _SERVER_OWNED if k in old}
    return {**kept, **owned, "name": old["name"], **({"namespace": old["namespace"]} if "namespace" in old else {})}


def name_problem(kind: Kind, name: str) -> str:
    """Say what is wrong with an object name, or return the empty text."""
    if kind.loose_name:
        if name in {".", ".."} or "/" in name or "%" in name:
            return "may not be '.' or '..' and may not contain '/' or '%'"
        return ""
    if kind.dns_label:
        if len(name) > 63:
            return "must be no more than 63 characters"
        if not DNS_LABEL.match(name):
            return (
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and "
                "end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
                "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            )
        return ""
    if len(name) > 253:
        return "must be no more than 253 characters"
    if not DNS_SUBDOMAIN.match(name):
        return (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
            "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
            "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        )
    return ""


@functools.lru_cache(maxsize=1024)
def _qualified_problem(key: str) -> str:
    prefix, slash, name = key.rpartition("/")
    if slash and (not prefix or len(prefix) > 253 or not DNS_SUBDOMAIN.match(prefix)):
        return "prefix part must be a lowercase RFC 1123 subdomain of at most 253 characters"
    if not name or len(name) > 63 or not _QUALIFIED.match(name):
        return (
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
            "alphanumeric character, at most 63 characters"
        )
    return ""


def _text_map(value: Any, path: str) -> tuple[dict[str, str], list[Cause]]:
    if value is None:
        return {}, []
    if not isinstance(value, Mapping):
        return {}, [invalid_value(path, value, "must be a map of strings")]
    wrong = [invalid_value(f"{path}[{k}]", v, "must be a string") for k, v in value.items() if not isinstance(v, str)]
    return {k: v for k, v in value.items() if isinstance(v, str)}, wrong


def label_problems(value: Any, path: str) -> list[Cause]:
    """Check a map of labels."""
    labels, causes = _text_map(value, path)
    for key, text in labels.items():
        if why := _qualified_problem(key):
            causes.append(invalid_value(path, key, why))
        if len(text) > 63:
            causes.append(invalid_value(path, text, "must be no more than 63 characters"))
        elif not _LABEL_VALUE.match(text):
            causes.append(
                invalid_value(
                    path,
                    text,
                    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and "
                    "must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex "
                    "used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
                )
            )
    return causes


def problems(kind: Kind, metadata: Obj) -> list[Cause]:
    """Say everything that is wrong with an object's metadata."""
    causes: list[Cause] = []
    name = metadata.get("name")
    if not isinstance(name, str) or not name:
        causes.append(required("metadata.name", "name or generateName is required"))
    elif why := name_problem(kind, name):
        causes.append(invalid_value("metadata.name", name, why))
    causes += label_problems(metadata.get("labels"), "metadata.labels")
    annotations, wrong = _text_map(metadata.get("annotations"), "metadata.annotations")
    causes += wrong
    for key in annotations:
        if why := _qualified_problem(key.lower()):
            causes.append(invalid_value("metadata.annotations", key, why))
    if sum(len(k) + len(v.encode()) for k, v in annotations.items()) > ANNOTATIONS_LIMIT:
        causes.append(
            Cause(
                "metadata.annotations", "FieldValueTooLong", f"Too long: may not be more than {ANNOTATIONS_LIMIT} bytes"
            )
        )
    for i, finalizer in enumerate(metadata.get("finalizers") or ()):
        if not isinstance(finalizer, str) or _qualified_problem(finalizer):
            causes.append(invalid_value(f"metadata.finalizers[{i}]", finalizer, "name must be a qualified name"))
    return causes + _owner_problems(metadata.get("ownerReferences"))


def _owner_problems(owners: Any) -> list[Cause]:
    if owners is None:
        return []
    if not isinstance(owners, list):
        return [invalid_value("metadata.ownerReferences", owners, "must be a list")]
    causes: list[Cause] = []
    controllers = 0
    for i, owner in enumerate(owners):
        path = f"metadata.ownerReferences[{i}]"
        if not isinstance(owner, Mapping):
            causes.append(invalid_value(path, owner, "must be an object"))
            continue
        causes += [
            invalid_value(f"{path}.{key}", owner.get(key), "must not be empty")
            for key in ("apiVersion", "kind", "name", "uid")
            if not isinstance(owner.get(key), str) or not owner[key]
        ]
        controllers += owner.get("controller") is True
    if controllers > 1:
        causes.append(
            invalid_value("metadata.ownerReferences", controllers, "Only one reference can have Controller set to true")
        )
    return causes
