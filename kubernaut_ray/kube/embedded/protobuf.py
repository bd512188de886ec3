r"""Request bodies in Kubernetes' protobuf form, for the few kinds that ``kubectl create`` and its like send that way.

kubectl's generators (``create namespace``, ``create deployment``, ``create token``, ``auth can-i``, …) speak nothing else. The
table below gives the wire numbers of the fields those commands fill in; a message or a field that is not in it is refused,
never dropped. Answers are always JSON, which such clients accept.

Format: the magic ``k8s\0``, then ``runtime.Unknown`` (1 = TypeMeta {1 apiVersion, 2 kind}, 2 = the object's own message).
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from kubernaut_ray.kube.embedded.status import Obj

MAGIC = b"k8s\0"


class ProtobufError(ValueError):
    """A body that cannot be read; the message says what to send instead."""


# A field is (name, type). Types: text, data (base64 in JSON), flag, int, time, map, datamap (values base64), or a message's
# name. "[]" after the type repeats it; "?" keeps a zero value, since the field is a pointer there. A message that consists
# of one unnamed value (IntOrString, Quantity) has its own reader.
_MESSAGES: dict[str, dict[int, tuple[str, str]]] = {
    "ObjectMeta": {
        1: ("name", "text"), 2: ("generateName", "text"), 3: ("namespace", "text"), 4: ("selfLink", "text"), 5: ("uid", "text"),
        6: ("resourceVersion", "text"), 7: ("generation", "int"), 8: ("creationTimestamp", "time"),
        9: ("deletionTimestamp", "time"), 10: ("deletionGracePeriodSeconds", "int?"), 11: ("labels", "map"),
        12: ("annotations", "map"), 13: ("ownerReferences", "OwnerReference[]"), 14: ("finalizers", "text[]"),
    },
    "OwnerReference": {
        1: ("kind", "text"), 3: ("name", "text"), 4: ("uid", "text"), 5: ("apiVersion", "text"), 6: ("controller", "flag?"),
        7: ("blockOwnerDeletion", "flag?"),
    },
    "Namespace": {1: ("metadata", "ObjectMeta"), 2: ("spec", "NamespaceSpec"), 3: ("status", "NamespaceStatus")},
    "NamespaceSpec": {1: ("finalizers", "text[]")},
    "NamespaceStatus": {1: ("phase", "text")},
    "ConfigMap": {
        1: ("metadata", "ObjectMeta"), 2: ("data", "map"), 3: ("binaryData", "datamap"), 4: ("immutable", "flag?"),
    },
    "Secret": {
        1: ("metadata", "ObjectMeta"), 2: ("data", "datamap"), 3: ("type", "text"), 4: ("stringData", "map"),
        5: ("immutable", "flag?"),
    },
    "ServiceAccount": {
        1: ("metadata", "ObjectMeta"), 3: ("imagePullSecrets", "LocalObjectReference[]"),
        4: ("automountServiceAccountToken", "flag?"),
    },
    "LocalObjectReference": {1: ("name", "text")},
    "Deployment": {1: ("metadata", "ObjectMeta"), 2: ("spec", "DeploymentSpec"), 3: ("status", "Ignored")},
    "DeploymentSpec": {
        1: ("replicas", "int?"), 2: ("selector", "LabelSelector"), 3: ("template", "PodTemplateSpec"),
        4: ("strategy", "DeploymentStrategy"), 5: ("minReadySeconds", "int"), 6: ("revisionHistoryLimit", "int?"),
        7: ("paused", "flag"), 9: ("progressDeadlineSeconds", "int?"),
    },
    "DeploymentStrategy": {1: ("type", "text")},
    "LabelSelector": {1: ("matchLabels", "map"), 2: ("matchExpressions", "LabelSelectorRequirement[]")},
    "LabelSelectorRequirement": {1: ("key", "text"), 2: ("operator", "text"), 3: ("values", "text[]")},
    "Job": {1: ("metadata", "ObjectMeta"), 2: ("spec", "JobSpec"), 3: ("status", "Ignored")},
    "JobSpec": {
        1: ("parallelism", "int?"), 2: ("completions", "int?"), 3: ("activeDeadlineSeconds", "int?"),
        4: ("selector", "LabelSelector"), 5: ("manualSelector", "flag?"), 6: ("template", "PodTemplateSpec"),
        7: ("backoffLimit", "int?"), 8: ("ttlSecondsAfterFinished", "int?"),
    },
    "PodTemplateSpec": {1: ("metadata", "ObjectMeta"), 2: ("spec", "PodSpec")},
    "PodSpec": {
        2: ("containers", "Container[]"), 3: ("restartPolicy", "text"), 4: ("terminationGracePeriodSeconds", "int?"),
        5: ("activeDeadlineSeconds", "int?"), 6: ("dnsPolicy", "text"), 7: ("nodeSelector", "map"),
        8: ("serviceAccountName", "text"), 9: ("serviceAccount", "text"), 10: ("nodeName", "text"), 11: ("hostNetwork", "flag"),
        12: ("hostPID", "flag"), 13: ("hostIPC", "flag"), 15: ("imagePullSecrets", "LocalObjectReference[]"),
        16: ("hostname", "text"), 17: ("subdomain", "text"), 19: ("schedulerName", "text"), 24: ("priorityClassName", "text"),
    },
    "Container": {
        1: ("name", "text"), 2: ("image", "text"), 3: ("command", "text[]"), 4: ("args", "text[]"), 5: ("workingDir", "text"),
        6: ("ports", "ContainerPort[]"), 7: ("env", "EnvVar[]"), 8: ("resources", "Empty"), 13: ("terminationMessagePath", "text"),
        14: ("imagePullPolicy", "text"), 16: ("stdin", "flag"), 17: ("stdinOnce", "flag"), 18: ("tty", "flag"),
        20: ("terminationMessagePolicy", "text"),
    },
    "ContainerPort": {
        1: ("name", "text"), 2: ("hostPort", "int"), 3: ("containerPort", "int"), 4: ("protocol", "text"), 5: ("hostIP", "text"),
    },
    "EnvVar": {1: ("name", "text"), 2: ("value", "text")},
    "Service": {1: ("metadata", "ObjectMeta"), 2: ("spec", "ServiceSpec"), 3: ("status", "Ignored")},
    "ServiceSpec": {
        1: ("ports", "ServicePort[]"), 2: ("selector", "map"), 3: ("clusterIP", "text"), 4: ("type", "text"),
        5: ("externalIPs", "text[]"), 7: ("sessionAffinity", "text"), 8: ("loadBalancerIP", "text"),
        10: ("externalName", "text"), 11: ("externalTrafficPolicy", "text"), 12: ("healthCheckNodePort", "int"),
        13: ("publishNotReadyAddresses", "flag"),
    },
    "ServicePort": {
        1: ("name", "text"), 2: ("protocol", "text"), 3: ("port", "int"), 4: ("targetPort", "IntOrString"), 5: ("nodePort", "int"),
    },
    "PodDisruptionBudget": {1: ("metadata", "ObjectMeta"), 2: ("spec", "PodDisruptionBudgetSpec"), 3: ("status", "Ignored")},
    "PodDisruptionBudgetSpec": {
        1: ("minAvailable", "IntOrString"), 2: ("selector", "LabelSelector"), 3: ("maxUnavailable", "IntOrString"),
    },
    "Role": {1: ("metadata", "ObjectMeta"), 2: ("rules", "PolicyRule[]")},
    "ClusterRole": {1: ("metadata", "ObjectMeta"), 2: ("rules", "PolicyRule[]")},
    "PolicyRule": {
        1: ("verbs", "text[]"), 2: ("apiGroups", "text[]"), 3: ("resources", "text[]"), 4: ("resourceNames", "text[]"),
        5: ("nonResourceURLs", "text[]"),
    },
    "RoleBinding": {1: ("metadata", "ObjectMeta"), 2: ("subjects", "Subject[]"), 3: ("roleRef", "RoleRef")},
    "ClusterRoleBinding": {1: ("metadata", "ObjectMeta"), 2: ("subjects", "Subject[]"), 3: ("roleRef", "RoleRef")},
    "Subject": {1: ("kind", "text"), 2: ("apiGroup", "text"), 3: ("name", "text"), 4: ("namespace", "text")},
    "RoleRef": {1: ("apiGroup", "text"), 2: ("kind", "text"), 3: ("name", "text")},
    "SelfSubjectReview": {1: ("metadata", "ObjectMeta"), 2: ("status", "Ignored")},
    "SelfSubjectAccessReview": {1: ("metadata", "ObjectMeta"), 2: ("spec", "AccessSpec"), 3: ("status", "Ignored")},
    "SubjectAccessReview": {1: ("metadata", "ObjectMeta"), 2: ("spec", "AccessSpec"), 3: ("status", "Ignored")},
    "AccessSpec": {
        1: ("resourceAttributes", "ResourceAttributes"), 2: ("nonResourceAttributes", "NonResourceAttributes"),
        3: ("user", "text"), 4: ("groups", "text[]"), 6: ("uid", "text"),
    },
    "ResourceAttributes": {
        1: ("namespace", "text"), 2: ("verb", "text"), 3: ("group", "text"), 4: ("version", "text"), 5: ("resource", "text"),
        6: ("subresource", "text"), 7: ("name", "text"),
    },
    "NonResourceAttributes": {1: ("path", "text"), 2: ("verb", "text")},
    "SelfSubjectRulesReview": {1: ("metadata", "ObjectMeta"), 2: ("spec", "RulesSpec"), 3: ("status", "Ignored")},
    "RulesSpec": {1: ("namespace", "text")},
    "TokenReview": {1: ("metadata", "ObjectMeta"), 2: ("spec", "TokenReviewSpec"), 3: ("status", "Ignored")},
    "TokenReviewSpec": {1: ("token", "text"), 2: ("audiences", "text[]")},
    "TokenRequest": {1: ("metadata", "ObjectMeta"), 2: ("spec", "TokenRequestSpec"), 3: ("status", "Ignored")},
    "TokenRequestSpec": {1: ("audiences", "text[]"), 4: ("expirationSeconds", "int?")},
    "Eviction": {1: ("metadata", "ObjectMeta"), 2: ("deleteOptions", "DeleteOptions")},
    "DeleteOptions": {
        1: ("gracePeriodSeconds", "int?"), 2: ("preconditions", "Preconditions"), 3: ("orphanDependents", "flag?"),
        4: ("propagationPolicy", "text"), 5: ("dryRun", "text[]"),
    },
    "Preconditions": {1: ("uid", "text"), 2: ("resourceVersion", "text")},
    "Empty": {},
}  # fmt: skip


def decode(body: bytes) -> Obj:
    """Return the object of a protobuf body. Raises ``ProtobufError``."""
    if not body.startswith(MAGIC):
        raise ProtobufError("the body does not start with the protobuf marker")
    api_version = kind = ""
    raw = b""
    for number, value in _fields(body[len(MAGIC) :]):
        if number == 1 and isinstance(value, bytes):
            named = {n: v for n, v in _fields(value) if isinstance(v, bytes)}
            api_version, kind = _text(named.get(1, b"")), _text(named.get(2, b""))
        elif number == 2 and isinstance(value, bytes):
            raw = value
    if kind not in _MESSAGES:
        raise ProtobufError(f"{kind or 'this body'} is not read as protobuf by this server; send JSON")
    return {"apiVersion": api_version, "kind": kind, **_message(kind, raw, kind)}


def _message(name: str, data: bytes, path: str) -> Obj:
    table = _MESSAGES[name]
    made: Obj = {}
    for number, value in _fields(data):
        if number not in table:
            raise ProtobufError(f"field {number} of {path} is not read as protobuf by this server; send JSON")
        field, kind = table[number]
        if kind == "Ignored":
            continue
        where = f"{path}.{field}"
        if kind.endswith("[]"):
            made.setdefault(field, []).append(_value(kind[:-2], value, where))
        elif kind in ("map", "datamap"):
            key, item = _pair(value, where)
            made.setdefault(field, {})[key] = base64.b64encode(item).decode() if kind == "datamap" else _text(item)
        else:
            read = _value(kind.rstrip("?"), value, where)
            # Values that are no pointers are always on the wire; JSON leaves their zero out.
            if kind.endswith("?") or read not in ("", 0, False, None, {}):
                made[field] = read
    return made


def _value(kind: str, value: int | bytes, path: str) -> Any:
    if kind in ("int", "flag"):
        if not isinstance(value, int):
            raise ProtobufError(f"{path} is no number on the wire")
        return bool(value) if kind == "flag" else value - (1 << 64) if value >= 1 << 63 else value
    if not isinstance(value, bytes):
        raise ProtobufError(f"{path} is no text or message on the wire")
    if kind == "text":
        return _text(value)
    if kind == "time":
        seconds = next((v for n, v in _fields(value) if n == 1 and isinstance(v, int)), 0)
        try:
            return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else None
        except (OverflowError, ValueError, OSError):
            return None  # the zero time of Go, long before the epoch
    if kind == "IntOrString":
        parts = dict(_fields(value))
        text = parts.get(3, b"")
        return _text(text) if parts.get(1) == 1 and isinstance(text, bytes) else parts.get(2, 0)
    return _message(kind, value, path)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ProtobufError("a text in the body is not UTF-8") from None


def _pair(value: int | bytes, path: str) -> tuple[str, bytes]:
    if not isinstance(value, bytes):
        raise ProtobufError(f"{path} is no map on the wire")
    parts = {n: v for n, v in _fields(value) if isinstance(v, bytes)}
    return _text(parts.get(1, b"")), parts.get(2, b"")


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield ``(field number, value)`` of a message: numbers for varints and fixed ones, bytes for everything else."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        match wire:
            case 0:
                value, at = _varint(data, at)
                yield number, value
            case 1 | 5:
                size = 8 if wire == 1 else 4
                if at + size > len(data):
                    raise ProtobufError("the body ends inside a field")
                yield number, struct.unpack("<Q" if wire == 1 else "<I", data[at : at + size])[0]
                at += size
            case 2:
                size, at = _varint(data, at)
                if at + size > len(data):
                    raise ProtobufError("the body ends inside a field")
                yield number, data[at : at + size]
                at += size
            case _:
                raise ProtobufError(f"wire type {wire} is not protobuf as Kubernetes writes it")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ProtobufError("the body ends inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
