"""The routing file, as Alertmanager writes it (snake_case; camelCase is accepted): routes, receivers, global defaults.

Read by ``route.py``. Refuses what would change who is told if it were overlooked: unknown keys of routes, receivers without
a way out, time intervals, channels that do not exist here. Keys that only shape a message (``title``, ``send_resolved``, …)
are accepted without effect and reported by ``ignored``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from kubernaut_ray import matchers
from kubernaut_ray.errors import InvalidInput


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class ChannelConfig(Part):
    """One way out. Unknown keys shape messages in Alertmanager and have no effect here."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)


class LogConfig(ChannelConfig):
    enabled: bool = True


class FileConfig(ChannelConfig):
    output_directory: Path | None = None
    format: Literal["json", "yaml"] = "json"


class Authorization(Part):
    type: str = "Bearer"
    credentials: SecretStr | None = None
    credentials_file: Path | None = None


class BasicAuth(Part):
    username: str
    password: SecretStr | None = None
    password_file: Path | None = None


class TlsConfig(ChannelConfig):
    ca_file: Path | None = None
    insecure_skip_verify: bool = False


class HttpConfig(ChannelConfig):
    authorization: Authorization | None = None
    basic_auth: BasicAuth | None = None
    bearer_token: SecretStr | None = None
    bearer_token_file: Path | None = None
    proxy_url: str | None = None
    tls_config: TlsConfig = TlsConfig()


class UrlConfig(ChannelConfig):
    """A secret URL: written here, in a file, or named as a credential."""

    url: SecretStr | None = None
    url_file: Path | None = None
    credential_ref: str = ""
    http_config: HttpConfig = HttpConfig()

    @model_validator(mode="after")
    def _has_url(self) -> UrlConfig:
        if self.url is None and self.url_file is None and not self.credential_ref:
            raise ValueError("needs a url, a url_file or a credential_ref")
        return self


class WebhookConfig(UrlConfig):
    """A JSON POST."""


class AppriseConfig(UrlConfig):
    """Any of Apprise's services, by its URL."""


class TeamsConfig(UrlConfig):
    url: Annotated[SecretStr | None, Field(alias="webhook_url")] = None
    url_file: Annotated[Path | None, Field(alias="webhook_url_file")] = None


class SlackConfig(UrlConfig):
    url: Annotated[SecretStr | None, Field(alias="api_url")] = None
    url_file: Annotated[Path | None, Field(alias="api_url_file")] = None
    channel: str = ""
    username: str = ""
    icon_emoji: str = ""


class PagerDutyConfig(ChannelConfig):
    routing_key: SecretStr | None = None
    routing_key_file: Path | None = None
    service_key: SecretStr | None = None
    service_key_file: Path | None = None
    credential_ref: str = ""
    url: str = "https://events.pagerduty.com/v2/enqueue"
    severity: Literal["", "critical", "error", "warning", "info"] = ""
    http_config: HttpConfig = HttpConfig()

    @model_validator(mode="after")
    def _has_key(self) -> PagerDutyConfig:
        keys = (self.routing_key, self.routing_key_file, self.service_key, self.service_key_file)
        if not any(keys) and not self.credential_ref:
            raise ValueError("needs a routing_key, a routing_key_file or a credential_ref")
        return self


class EmailConfig(ChannelConfig):
    to: str = ""
    from_: Annotated[str, Field(alias="from")] = ""
    smarthost: str = ""
    auth_username: str = ""
    auth_password: SecretStr | None = None
    auth_password_file: Path | None = None
    credential_ref: str = ""
    require_tls: bool | None = None
    tls_config: TlsConfig = TlsConfig()

    @model_validator(mode="after")
    def _complete(self) -> EmailConfig:
        missing = [name for name in ("to", "from_", "smarthost") if not getattr(self, name)]
        if missing:
            raise ValueError(f"needs {', '.join(name.rstrip('_') for name in missing)} (here or in global)")
        return self


class Global(ChannelConfig):
    """Defaults for receivers that do not say it themselves."""

    slack_api_url: SecretStr | None = None
    slack_api_url_file: Path | None = None
    pagerduty_url: str = ""
    smtp_smarthost: str = ""
    smtp_from: str = ""
    smtp_auth_username: str = ""
    smtp_auth_password: SecretStr | None = None
    smtp_auth_password_file: Path | None = None
    smtp_require_tls: bool = True


class Receiver(Part):
    name: Annotated[str, Field(min_length=1)]
    log_configs: tuple[LogConfig, ...] = ()
    console_configs: tuple[LogConfig, ...] = ()
    file_configs: tuple[FileConfig, ...] = ()
    slack_configs: tuple[SlackConfig, ...] = ()
    webhook_configs: tuple[WebhookConfig, ...] = ()
    email_configs: tuple[EmailConfig, ...] = ()
    pagerduty_configs: tuple[PagerDutyConfig, ...] = ()
    teams_configs: tuple[TeamsConfig, ...] = ()
    msteams_configs: tuple[TeamsConfig, ...] = ()
    msteamsv2_configs: tuple[TeamsConfig, ...] = ()
    apprise_configs: tuple[AppriseConfig, ...] = ()

    def channels(self) -> Iterator[tuple[str, ChannelConfig]]:
        """Yield (delivery key within the receiver, configuration): ``slack``, or ``slack[0]``, ``slack[1]`` where there are more."""
        groups: dict[str, list[ChannelConfig]] = {}
        for field in type(self).model_fields:
            if field.endswith("_configs"):
                kind = field.removesuffix("_configs")
                kind = "teams" if kind.startswith("msteams") else kind
                found = [c for c in getattr(self, field) if not isinstance(c, LogConfig) or c.enabled]
                groups.setdefault(kind, []).extend(found)
        for kind, configs in groups.items():
            for index, config in enumerate(configs):
                yield (kind if len(configs) == 1 else f"{kind}[{index}]"), config


class RouteConfig(Part):
    receiver: str = ""
    match: dict[str, str] = {}
    match_re: dict[str, str] = {}
    matchers: tuple[str, ...] = ()
    continue_: Annotated[bool, Field(alias="continue")] = False
    routes: tuple[RouteConfig, ...] = ()
    group_by: tuple[str, ...] = ()
    """Accepted for compatibility: each notification is a message of its own, so nothing is grouped or delayed."""
    group_wait: str = ""
    group_interval: str = ""
    repeat_interval: str = ""


class RoutingFile(Part):
    global_: Annotated[Global, Field(alias="global")] = Global()
    route: RouteConfig
    receivers: Annotated[tuple[Receiver, ...], Field(min_length=1)]
    templates: tuple[str, ...] = ()
    inhibit_rules: tuple[dict[str, Any], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        return _with_global_defaults(data) if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _consistent(self) -> RoutingFile:
        names = [receiver.name for receiver in self.receivers]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"receiver names must be unique; twice: {', '.join(sorted(twice))}")
        root = self.route
        if not root.receiver:
            raise ValueError("the root route needs a receiver: it is where everything else goes")
        if root.match or root.match_re or root.matchers:
            raise ValueError("the root route must not have matchers: it takes everything")
        if root.continue_:
            raise ValueError("the root route must not have continue: nothing comes after it")
        for where, route in _walk(root, "route"):
            if route.receiver and route.receiver not in names:
                raise ValueError(f"{where}: receiver {route.receiver!r} is not defined; defined are {', '.join(names)}")
            try:
                matchers.parse_all(route.matchers, route.match, route.match_re)
            except InvalidInput as error:
                raise ValueError(f"{where}: {error}") from error
        return self

    def ignored(self) -> tuple[str, ...]:
        """Name what the file says and this system does not do."""
        found = [name for name in ("templates", "inhibit_rules") if getattr(self, name)]
        for receiver in self.receivers:
            for key, config in receiver.channels():
                found += [f"{receiver.name}/{key}.{name}" for name in config.model_extra or {}]
        return tuple(found)


def default() -> RoutingFile:
    """Where no file says otherwise, everything is logged and written to files."""
    receiver = Receiver(name="default", log_configs=(LogConfig(),), file_configs=(FileConfig(),))
    return RoutingFile(route=RouteConfig(receiver="default"), receivers=(receiver,))


def load(path: Path) -> RoutingFile:
    """Read and check a routing file. Raises ``InvalidInput`` with every problem; values stay out of it."""
    try:
        data = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InvalidInput(f"routing file {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InvalidInput(
            f"routing file {path} is not YAML: {getattr(error, 'problem', 'cannot be parsed')}"
        ) from error
    if not isinstance(data, dict):
        raise InvalidInput(f"routing file {path}: expected a mapping with route and receivers")
    try:
        return RoutingFile.model_validate(data)
    except ValidationError as error:
        problems = tuple((".".join(str(part) for part in e["loc"]), e["msg"]) for e in error.errors())
        told = "; ".join(f"{where or 'file'}: {what}" for where, what in problems)
        raise InvalidInput(f"routing file {path}: {told}", problems=problems) from error


def _walk(route: RouteConfig, where: str) -> Iterator[tuple[str, RouteConfig]]:
    yield where, route
    for index, child in enumerate(route.routes):
        yield from _walk(child, f"{where}.routes[{index}]")


_EMAIL = {
    "smarthost": "smtp_smarthost",
    "from": "smtp_from",
    "auth_username": "smtp_auth_username",
    "auth_password": "smtp_auth_password",
    "auth_password_file": "smtp_auth_password_file",
    "require_tls": "smtp_require_tls",
}
_SLACK = {"api_url": "slack_api_url", "api_url_file": "slack_api_url_file"}
_PAGERDUTY = {"url": "pagerduty_url"}


def _with_global_defaults(data: dict[str, Any]) -> dict[str, Any]:
    """Bring all keys to snake_case and fill what receivers leave out from ``global``, before anything is checked."""
    data = _snake(data)
    common, receivers = data.get("global") or {}, data.get("receivers")
    if not isinstance(common, dict) or not isinstance(receivers, list):
        return data

    def filled(entry: Any, names: dict[str, str], unless: tuple[str, ...]) -> Any:
        if not isinstance(entry, dict) or any(entry.get(name) for name in unless):
            return entry
        return {**{mine: common[theirs] for mine, theirs in names.items() if theirs in common}, **entry}

    for receiver in receivers:
        for field, names, unless in (
            ("email_configs", _EMAIL, ()),
            ("slack_configs", _SLACK, ("api_url", "api_url_file", "credential_ref")),
            ("pagerduty_configs", _PAGERDUTY, ("url",)),
        ):
            if isinstance(receiver, dict) and isinstance(receiver.get(field), list):
                receiver[field] = [filled(config, names, unless) for config in receiver[field]]
    return data


_LABEL_MAPS = frozenset({"match", "match_re"})


def _snake(value: Any) -> Any:
    """``apiUrl`` → ``api_url`` in every key but those that are label names."""
    if isinstance(value, list):
        return [_snake(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    renamed = {_HUMP.sub(lambda m: "_" + m[0].lower(), str(key)): entry for key, entry in value.items()}
    return {key: entry if key in _LABEL_MAPS else _snake(entry) for key, entry in renamed.items()}


_HUMP = re.compile(r"(?<=[a-z0-9])[A-Z]")
