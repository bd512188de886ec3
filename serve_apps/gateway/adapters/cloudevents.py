"""CloudEvents 1.0 (https://github.com/cloudevents/spec), the door for sources that have no adapter of their own.

Structured (``application/cloudevents+json``), batched (``application/cloudevents-batch+json``; every event has its own
outcome) and binary mode (``ce-`` headers; any content type). What becomes of an event:

============================  =======================================================================================
``type``                      the signal's name
``subject``                   the Kubernetes object, in one of the forms of ``adapters.subject``; any other only identifies
``source``, ``subject``       the labels ``ce_source`` and ``ce_subject``
``time``                      since when it fires, unless data says ``startsAt``
``data`` that is JSON object  any of ``status`` (firing or resolved), ``severity``, ``description``, ``startsAt``,
                              ``labels``, ``annotations`` and ``resource`` {kind, name, namespace, apiVersion}, which goes
                              before the subject; what else it holds is kept with the payload
any other data                the description, when it is text
============================  =======================================================================================

Without an object the labels are read for one, as an alert's are. ``id`` says nothing to us: whether a signal is new is
decided by what it is about, and a repeated event is a duplicate of its own incident.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.errors import InvalidInput
from serve_apps.gateway.adapters import reading, subject
from serve_apps.gateway.adapters.adapter import TokenSuffices, media_type_of
from serve_apps.gateway.adapters.reading import DESCRIPTION_LENGTH, STATUSES, Problems, instant, json_object, text
from serve_apps.gateway.signal import UNKNOWN_SEVERITY, Delivery, Ignored, Malformed, Parsed, Signal, cut, text_map
from serve_apps.problem import Problem

TYPE = "cloudevent"
SOURCE = "cloudevents"
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
PREFIX = "ce-"

_REQUIRED = ("id", "source", "specversion", "type")
_ATTRIBUTE = re.compile(r"[a-z0-9]+")
_URI_REFERENCE = re.compile(r"[^\s\x00-\x1f\x7f<>\"{}|\\^`]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Event:
    """One event in whichever mode it came. ``where`` gives the path of an attribute or of something in data."""

    attributes: Mapping[str, str]
    data: Any
    """JSON data; ``None`` without any."""
    words: str
    """Data that is not JSON, as far as it is text."""
    raw: Mapping[str, Any]
    attribute_path: str
    data_path: str


class CloudEvents(TokenSuffices):
    route = "/cloudevents"
    media_types: tuple[str, ...] = ()
    repeats = False

    def parse(self, delivery: Delivery) -> tuple[Parsed, ...]:
        media_type = media_type_of(delivery.headers.get("content-type", ""))
        if media_type == STRUCTURED:
            return (_structured(json_object(delivery.body), "", delivery.received),)
        if media_type == BATCH:
            return _batch(delivery)
        if media_type.startswith("application/cloudevents"):
            raise Problem(415, detail=f"send {STRUCTURED}, {BATCH} or binary mode, not {media_type}")
        return (_binary(delivery, media_type),)


def _batch(delivery: Delivery) -> tuple[Parsed, ...]:
    try:
        events = orjson.loads(delivery.body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the body is not JSON: {error}") from error
    if not isinstance(events, list):
        raise InvalidInput(f"a batch of CloudEvents must be a JSON list, not {type(events).__name__}")
    if not events:
        return (Ignored("", "the batch is empty"),)
    return tuple(_structured(event, f"[{place}].", delivery.received) for place, event in enumerate(events))


def _structured(event: Any, path: str, received: datetime) -> Parsed:
    if not isinstance(event, dict):
        return Malformed("", ((path.rstrip("."), f"must be a JSON object, not {type(event).__name__}"),))
    problems: Problems = []
    attributes: dict[str, str] = {}
    for name, value in event.items():
        if name in {"data", "data_base64"} or value is None:
            continue
        if isinstance(value, bool | int):
            attributes[name] = str(value).lower()
        elif isinstance(value, str):
            attributes[name] = value
        else:
            problems.append((f"{path}{name}", f"must be a string, a number or a boolean, not {type(value).__name__}"))
    content_type = attributes.get("datacontenttype", "application/json")
    data: Any = event.get("data")
    words = ""
    if (encoded := event.get("data_base64")) is not None:
        if data is not None:
            problems.append((f"{path}data_base64", "cannot be together with data"))
        elif isinstance(encoded, str):
            data, words = _decoded(encoded, content_type, f"{path}data_base64", problems)
        else:
            problems.append((f"{path}data_base64", f"must be a string, not {type(encoded).__name__}"))
    elif isinstance(data, str) and not _is_json(content_type):
        data, words = None, data
    return _signal(_Event(attributes, data, words, event, path, f"{path}data"), received, problems)


def _decoded(encoded: str, content_type: str, path: str, problems: Problems) -> tuple[Any, str]:
    try:
        content = base64.b64decode(encoded, validate=True)
    except ValueError:  # Also for characters that are not ASCII.
        problems.append((path, "is not base64"))
        return None, ""
    return _content(content, content_type, path, problems)


def _binary(delivery: Delivery, media_type: str) -> Parsed:
    problems: Problems = []
    attributes = {}
    for header, value in delivery.headers.items():
        if header.startswith(PREFIX) and header != f"{PREFIX}datacontenttype":
            attributes[header.removeprefix(PREFIX)] = _header_value(value, header, problems)
    if not attributes:
        raise InvalidInput(
            f"this is no CloudEvent: send {STRUCTURED}, {BATCH}, or the attributes as headers such as ce-type: …"
        )
    data, words = _content(delivery.body, media_type, "body", problems)
    raw: dict[str, Any] = dict(attributes)
    if media_type:
        attributes["datacontenttype"] = raw["datacontenttype"] = media_type
    if data is not None or words:
        raw["data"] = words or data
    return _signal(_Event(attributes, data, words, raw, PREFIX, "body"), delivery.received, problems)


def _header_value(value: str, header: str, problems: Problems) -> str:
    """Decode a header as the HTTP protocol binding says, section 3.1.3.2: unquote, then percent-decode once."""
    if quoted := _QUOTED.fullmatch(value.strip()):
        value = re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL)
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        problems.append((header, "is not percent-encoded UTF-8"))
        return ""


def _content(body: bytes, content_type: str, path: str, problems: Problems) -> tuple[Any, str]:
    """Return (JSON data, text) of the bytes of this type; one of them at most."""
    if not body:
        return None, ""
    if _is_json(content_type):
        try:
            return orjson.loads(body), ""
        except orjson.JSONDecodeError as error:
            problems.append((path, f"is not JSON, which its content type says: {error}"))
            return None, ""
    try:
        return None, body.decode()
    except UnicodeDecodeError:
        return None, f"{len(body)} bytes of {content_type or 'an unknown type'}"


def _is_json(content_type: str) -> bool:
    subtype = media_type_of(content_type).partition("/")[2]
    return subtype == "json" or subtype.endswith("+json")


def _signal(event: _Event, received: datetime, problems: Problems) -> Parsed:
    _check(event, problems)
    attributes, at = event.attributes, event.data_path
    data: Mapping[str, Any] = event.data if isinstance(event.data, dict) else {}
    labels = text_map(data.get("labels"), f"{at}.labels", problems)
    annotations = text_map(data.get("annotations"), f"{at}.annotations", problems)
    severity = text(data, "severity", f"{at}.severity", problems) or labels.get("severity") or UNKNOWN_SEVERITY
    status = data.get("status") or "firing"
    if status not in STATUSES:
        problems.append((f"{at}.status", "must be firing or resolved"))
    told = text(data, "description", f"{at}.description", problems)
    starts = instant(data.get("startsAt"), f"{at}.startsAt", problems)
    sent = instant(attributes.get("time"), f"{event.attribute_path}time", problems)
    involved = _resource(data.get("resource"), f"{at}.resource", problems)
    name = cut(attributes.get("type", ""), 253)
    if problems:
        return Malformed(name, tuple(problems))
    told = told or reading.description(annotations) or event.words or _words(event.data)
    origin = {f"ce_{key}": cut(attributes[key], 4096) for key in ("source", "subject") if attributes.get(key)}
    return Signal(
        name=name,
        type=TYPE,
        source=SOURCE,
        severity=cut(severity, 63),
        firing_time=starts or sent or received,
        received_time=received,
        labels={**dict(list(labels.items())[:250]), **origin},
        annotations=annotations,
        description=cut(told, DESCRIPTION_LENGTH),
        resolved=status == "resolved",
        involved=involved or subject.resource(attributes.get("subject", "")),
        provider_data={key: cut(value, 4096) for key, value in attributes.items()},
        raw=event.raw,
    )


def _check(event: _Event, problems: Problems) -> None:
    """Hold the context attributes to the specification, section 3."""
    attributes, path = event.attributes, event.attribute_path
    for name in attributes:
        if not _ATTRIBUTE.fullmatch(name):
            problems.append((f"{path}{name}", "is no attribute name; these are of a-z and 0-9 only"))
    known = {where for where, _ in problems}
    for name in _REQUIRED:
        if not attributes.get(name) and f"{path}{name}" not in known:
            problems.append((f"{path}{name}", "is missing"))
    if attributes.get("specversion", "1.0") != "1.0":
        problems.append((f"{path}specversion", "must be 1.0"))
    if (source := attributes.get("source")) and not _URI_REFERENCE.fullmatch(source):
        problems.append((f"{path}source", "must be a URI reference: no spaces, quotes or control characters"))


def _resource(value: Any, path: str, problems: Problems) -> TargetResource | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        problems.append(
            (path, f"must be an object of kind, name, namespace and apiVersion, not {type(value).__name__}")
        )
        return None
    return TargetResource(
        kind=cut(text(value, "kind", f"{path}.kind", problems, required=True), 253),
        name=cut(text(value, "name", f"{path}.name", problems, required=True), 253),
        namespace=cut(text(value, "namespace", f"{path}.namespace", problems), 253),
        api_version=cut(text(value, "apiVersion", f"{path}.apiVersion", problems), 1024),
    )


def _words(data: Any) -> str:
    """Return JSON data that is no object in words."""
    if data is None or isinstance(data, dict):
        return ""
    if isinstance(data, str):
        return data
    try:
        return orjson.dumps(data).decode()
    except orjson.JSONEncodeError:
        return ""  # Nested deeper than can be written.
