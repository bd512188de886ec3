"""What every channel owes: the right kind of error for each outcome, in time, and never a secret in it.

Real servers on loopback answer; the channels are the real ones.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import apprise
import pytest
import yaml
from aiohttp import web

from actors.notification import render
from actors.notification.channels.apprise import AppriseChannel
from actors.notification.channels.base import UNANSWERED, Channel, Surroundings
from actors.notification.channels.pagerduty import PagerDutyChannel
from actors.notification.channels.slack import SlackChannel
from actors.notification.channels.teams import TeamsChannel
from actors.notification.channels.webhook import WebhookChannel
from actors.notification.config import (
    AppriseConfig,
    PagerDutyConfig,
    SlackConfig,
    TeamsConfig,
    WebhookConfig,
)
from actors.notification.credentials import Credentials
from kubernaut_ray.crds.enums import NotificationType
from kubernaut_ray.errors import Permanent, Retryable
from tests import build

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # Apprise loads it

SECRET = "s3cr3t-Pa55phrase"
BODY = """**A person must decide.**

## Decide
```
kubernaut-ray approve rar-1 <now> & then
```
- password: hunter2hunter2
- `MEMORY` = 512Mi
"""


@dataclass
class Server:
    """Answers as told, keeps what it got, and repeats the whole request in errors, as careless servers do."""

    status: int = 200
    delay: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    seen: list[dict[str, Any]] = field(default_factory=list)
    got: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.text()
        self.seen.append(yaml.safe_load(body))
        self.got.append(dict(request.headers))
        await asyncio.sleep(self.delay)
        echo = f"refused {request.url} {dict(request.headers)} {body}"
        return web.Response(status=self.status, text=echo if self.status >= 300 else "ok", headers=self.headers)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    state = Server()
    app = web.Application()
    app.router.add_post("/{tail:.*}", state.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    state.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    yield state
    await runner.cleanup()


@pytest.fixture
async def surroundings(tmp_path: Path) -> AsyncIterator[Surroundings]:
    (tmp_path / "credential").write_text(f"{SECRET}\n")
    async with aiohttp.ClientSession() as session:
        yield Surroundings(session, Credentials(tmp_path), tmp_path / "out", timeout=0.5)


def message(**fields: Any) -> render.Message:
    notice = build.notification_request(spec={"body": BODY, "metadata": {"severity": "critical"}})
    return render.message(notice, "ops/x", 2, **fields)


Make = Callable[[str, Surroundings], Channel]


def _slack(url: str, around: Surroundings) -> Channel:
    return SlackChannel(SlackConfig(api_url=f"{url}/services/T0/{SECRET}", channel="#ops"), around)


def _webhook(url: str, around: Surroundings) -> Channel:
    http = {"authorization": {"credentials_file": "credential"}}
    return WebhookChannel(WebhookConfig(url=f"{url}/hook?key={SECRET}", http_config=http), around)


def _basic(url: str, around: Surroundings) -> Channel:
    http = {"basic_auth": {"username": "u", "password_file": "credential"}}
    return WebhookChannel(WebhookConfig(url=f"{url}/hook", http_config=http), around)


def _pagerduty(url: str, around: Surroundings) -> Channel:
    return PagerDutyChannel(PagerDutyConfig(routing_key=SECRET, url=f"{url}/v2/enqueue"), around)


def _teams(url: str, around: Surroundings) -> Channel:
    return TeamsChannel(TeamsConfig(webhook_url=f"{url}/{SECRET}/workflow"), around)


@pytest.fixture(scope="module", autouse=True)
def _apprise_is_loaded() -> None:
    """Its first use reads a hundred modules, longer than the short time-out here."""
    apprise.Apprise.instantiate("json://localhost")


def _apprise(url: str, around: Surroundings) -> Channel:
    return AppriseChannel(AppriseConfig(url=f"json://u:{SECRET}@{url.removeprefix('http://')}/"), around)


HTTP = {"slack": _slack, "webhook": _webhook, "webhook-basic": _basic, "pagerduty": _pagerduty, "teams": _teams}
ALL = {**HTTP, "apprise": _apprise}


@pytest.mark.parametrize("make", ALL.values(), ids=ALL.keys())
async def test_a_taken_message_is_delivered_redacted(make: Make, server: Server, surroundings: Surroundings) -> None:
    """The content arrives, its secrets do not."""
    await make(server.url, surroundings).send(message())
    [document] = server.seen
    text = yaml.safe_dump(document)
    assert "approve rar-1" in text
    assert "hunter2" not in text


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("make", ALL.values(), ids=ALL.keys())
async def test_passing_faults_are_retryable(
    make: Make, status: int, server: Server, surroundings: Surroundings
) -> None:
    """And the error repeats no secret, though the server did."""
    server.status = status
    with pytest.raises(Retryable) as caught:
        await make(server.url, surroundings).send(message())
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 410, 422])
@pytest.mark.parametrize("make", HTTP.values(), ids=HTTP.keys())
async def test_lasting_faults_are_permanent(
    make: Make, status: int, server: Server, surroundings: Surroundings
) -> None:
    """Trying again changes nothing; redirects are not followed."""
    server.status = status
    server.headers = {"Location": f"{server.url}/elsewhere"}
    with pytest.raises(Permanent) as caught:
        await make(server.url, surroundings).send(message())
    assert SECRET not in str(caught.value)
    assert str(status) in str(caught.value)
    assert len(server.seen) == 1


@pytest.mark.parametrize("make", ALL.values(), ids=ALL.keys())
async def test_a_slow_server_is_given_up(make: Make, server: Server, surroundings: Surroundings) -> None:
    """Within the time-out, and retryable; nobody knows whether it took the message."""
    server.delay = 1.0
    with pytest.raises(Retryable, match="no answer within") as caught:
        await make(server.url, surroundings).send(message())
    assert caught.value.reason == UNANSWERED


@pytest.mark.parametrize("make", ALL.values(), ids=ALL.keys())
async def test_nobody_there_is_retryable(make: Make, surroundings: Surroundings) -> None:
    """A refused connection passes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Retryable) as caught:
        await make(f"http://127.0.0.1:{port}", surroundings).send(message())
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("make", [_webhook, _slack], ids=["webhook", "slack"])
async def test_a_missing_credential_is_permanent_and_says_where(
    make: Make, server: Server, surroundings: Surroundings
) -> None:
    """The name of the file, not its content."""
    config = {"webhook": WebhookConfig(url_file="absent")} if make is _webhook else {}
    channel: Channel = (
        WebhookChannel(config["webhook"], surroundings)
        if config
        else SlackChannel(SlackConfig(credential_ref="absent"), surroundings)
    )
    with pytest.raises(Permanent, match="credential file absent"):
        await channel.send(message())


async def test_credentials_travel_as_configured(server: Server, surroundings: Surroundings) -> None:
    """A bearer token from a file, basic authentication, and the delivery's identity."""
    await _webhook(server.url, surroundings).send(message(possible_duplicate=True))
    await _basic(server.url, surroundings).send(message())
    first, second = server.got
    assert first["Authorization"] == f"Bearer {SECRET}"
    assert second["Authorization"].startswith("Basic ")
    assert first["Idempotency-Key"] == second["Idempotency-Key"]
    assert (first["X-Kubernaut-Possible-Duplicate"], second["X-Kubernaut-Possible-Duplicate"]) == ("true", "false")
    assert server.seen[0]["delivery"] == {"key": "ops/x", "attempt": 2, "possibleDuplicate": True}


async def test_retry_after_is_passed_on(server: Server, surroundings: Surroundings) -> None:
    """The other side says how long to wait."""
    server.status, server.headers = 429, {"Retry-After": "17"}
    with pytest.raises(Retryable) as caught:
        await _slack(server.url, surroundings).send(message())
    assert caught.value.after == 17.0


async def test_slack_gets_block_kit(server: Server, surroundings: Surroundings) -> None:
    """Header, sections, context; markup turned into Slack's and escaped."""
    await _slack(server.url, surroundings).send(message(possible_duplicate=True))
    [document] = server.seen
    assert document["channel"] == "#ops"
    assert document["blocks"][0]["type"] == "header"
    text = document["blocks"][2]["text"]["text"]
    assert "*A person must decide.*" in text
    assert "&lt;now&gt; &amp; then" in text
    assert "Possible duplicate" in yaml.safe_dump(document)


async def test_pagerduty_resolves_what_was_fixed(server: Server, surroundings: Surroundings) -> None:
    """One incident a remediation: opened by trouble, closed by the completion."""
    notice = build.notification_request(
        owner=build.remediation_request(), spec={"type": NotificationType.MANUAL_REVIEW, "body": "x"}
    )
    channel = _pagerduty(server.url, surroundings)
    await channel.send(render.message(notice, "ops/pagerduty", 1))
    await channel.send(message())
    assert [event["event_action"] for event in server.seen] == ["trigger", "resolve"]
    assert server.seen[0]["dedup_key"] == "kubernaut/rr-1"
    assert server.seen[0]["payload"]["severity"] == "warning"


async def test_teams_gets_a_card(server: Server, surroundings: Surroundings) -> None:
    """An Adaptive Card in a message."""
    await _teams(server.url, surroundings).send(message())
    [document] = server.seen
    card = document["attachments"][0]["content"]
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    assert {"fontType": "Monospace"}.items() <= card["body"][3].items()


async def test_an_address_that_is_none_is_permanent(surroundings: Surroundings) -> None:
    """Not a URL, or not of HTTP, or not of any service."""
    for channel in (
        WebhookChannel(WebhookConfig(url=f"ftp://example.org/{SECRET}"), surroundings),
        WebhookChannel(WebhookConfig(url=SECRET), surroundings),
        AppriseChannel(AppriseConfig(url=f"{SECRET}://x"), surroundings),
    ):
        with pytest.raises(Permanent) as caught:
            await channel.send(message())
        assert SECRET not in str(caught.value)
