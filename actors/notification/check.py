"""A look at every receiver's credentials when the controller starts, so that a missing one is known before an incident."""

from __future__ import annotations

from collections.abc import Iterator

from actors.notification.channels import http
from actors.notification.config import ChannelConfig, EmailConfig, PagerDutyConfig, UrlConfig
from actors.notification.credentials import Credentials
from actors.notification.route import Table
from kubernaut_ray.errors import Permanent


def unusable(table: Table, credentials: Credentials) -> Iterator[str]:
    """Yield a line for each way out that could not be used now; no secret is in it."""
    for receiver in table.receivers.values():
        for key, config in receiver.channels():
            try:
                _read(f"{receiver.name}/{key}", config, credentials)
            except Permanent as error:
                yield str(error)


def _read(what: str, config: ChannelConfig, credentials: Credentials) -> None:
    match config:
        case UrlConfig():
            credentials.read(what, config.url, config.url_file, config.credential_ref)
            http.authorization(what, config.http_config, credentials)
            http.tls(what, config.http_config)
        case PagerDutyConfig():
            credentials.read(what, config.routing_key, config.routing_key_file, config.credential_ref)
            credentials.read(what, config.service_key, config.service_key_file)
        case EmailConfig():
            credentials.read(what, config.auth_password, config.auth_password_file, config.credential_ref)
        case _:
            pass
