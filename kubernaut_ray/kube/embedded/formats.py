"""String formats that structural schemas may name; an unknown format constrains nothing, as in OpenAPI."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import uuid
from collections.abc import Callable
from datetime import date, datetime
from urllib.parse import urlsplit

from kubernaut_ray.kube.embedded import quantity

_DATE_TIME = re.compile(r"^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$")
_DURATION = re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))*$|^0$")
_HOSTNAME = re.compile(
    r"^(?=.{1,253}$)[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*$"
)
_EMAIL = re.compile(r"^[^@\s]+@[^@\s]+$")


def _tries(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except (ValueError, binascii.Error):
            return False
        return True

    return check


def _date_time(text: str) -> bool:
    if not _DATE_TIME.match(text):
        return False
    return _is_iso(text) or _is_iso(re.sub(r"\.(\d{1,6})\d*", lambda m: "." + m[1].ljust(6, "0"), text.upper()))


_is_iso = _tries(datetime.fromisoformat)

FORMATS: dict[str, Callable[[str], bool]] = {
    "date-time": _date_time,
    "date": _tries(date.fromisoformat),
    "duration": lambda text: bool(_DURATION.match(text)),
    "byte": _tries(lambda text: base64.b64decode(text, validate=True)),
    "uuid": _tries(uuid.UUID),
    "ipv4": _tries(ipaddress.IPv4Address),
    "ipv6": _tries(ipaddress.IPv6Address),
    "cidr": _tries(lambda text: ipaddress.ip_network(text, strict=False)),
    "hostname": lambda text: bool(_HOSTNAME.match(text)),
    "email": lambda text: bool(_EMAIL.match(text)),
    "quantity": quantity.valid,
    "uri": lambda text: bool(urlsplit(text).scheme),
}
