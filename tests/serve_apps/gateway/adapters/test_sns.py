"""SNS messages: what is signed, who may have signed it, and what is ever fetched."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.errors import InvalidInput, Retryable
from serve_apps.gateway.adapters import sns
from serve_apps.gateway.adapters.sns import Envelope, Fetched, Verifier
from serve_apps.problem import Problem
from tests.build import NOW
from tests.serve_apps.gateway.adapters.signing import (
    CERTIFICATE_URL,
    SUBSCRIBE_URL,
    Web,
    certificate,
    confirmation,
    notification,
    signed,
)


def test_the_string_to_sign_is_the_documented_one() -> None:
    """The developer guide's example: names and values on lines of their own, the subject only where there is one."""
    body = notification("My Test Message", Subject="My subject", MessageId="4d4dc071", Timestamp="T", TopicArn="arn:x")
    with_subject = sns.read(body).signed
    body.pop("Subject")

    assert with_subject == (
        b"Message\nMy Test Message\nMessageId\n4d4dc071\nSubject\nMy subject\nTimestamp\nT\nTopicArn\narn:x\nType\nNotification\n"
    )
    assert b"Subject" not in sns.read(body).signed
    assert sns.read(confirmation()).signed.startswith(b"Message\nYou have chosen")
    assert b"SubscribeURL\nhttps://sns." in sns.read(confirmation()).signed


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize(
    "message",
    [
        pytest.param(notification, id="notification"),
        pytest.param(lambda m, v: notification(m, v, Subject=None), id="notification without a subject"),
        pytest.param(lambda _, v: confirmation(version=v), id="subscription confirmation"),
        pytest.param(lambda _, v: confirmation("UnsubscribeConfirmation", v), id="unsubscribe confirmation"),
    ],
)
async def test_what_sns_signed_is_believed(message: Any, version: str) -> None:
    """Both signature versions, for each type of message."""
    await Verifier(Web()).verify(sns.read(message('{"a": "ü\\n"}', version)), NOW)


TAMPERED = notification("one") | {"Message": "another"}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param(TAMPERED, "does not match", id="a changed message"),
        pytest.param(notification("x", TopicArn="arn:one") | {"TopicArn": "arn:two"}, "not match", id="another topic"),
        pytest.param(notification("x", Subject=None) | {"Subject": "added"}, "not match", id="an added subject"),
        pytest.param(notification("x", "2") | {"SignatureVersion": "1"}, "not match", id="the other version's hash"),
        pytest.param(notification("x") | {"SignatureVersion": "3"}, "must be 1 or 2", id="an unknown version"),
        pytest.param(notification("x") | {"Signature": "!"}, "not base64", id="no base64"),
        pytest.param(
            notification("x") | {"Signature": base64.b64encode(b"short").decode()}, "not match", id="a short signature"
        ),
    ],
)
async def test_what_sns_did_not_sign_is_refused(body: dict[str, Any], says: str) -> None:
    """A 403 that says why; SNS does not repeat what was refused."""
    with pytest.raises(Problem, match=says) as refused:
        await Verifier(Web()).verify(sns.read(body), NOW)
    assert refused.value.status == 403


@pytest.mark.parametrize(
    "url",
    [
        "http://sns.eu-central-1.amazonaws.com/a.pem",
        "https://sns.eu-central-1.amazonaws.com.evil.example/a.pem",
        "https://sns.evil.example/a.pem",
        "https://evil.example/sns.eu-central-1.amazonaws.com/a.pem",
        "https://sns.eu-central-1.amazonaws.com@evil.example/a.pem",
        "https://user:pw@sns.eu-central-1.amazonaws.com/a.pem",
        "https://sns.eu-central-1.amazonaws.com:8443/a.pem",
        "https://sns.eu-central-1.amazonaws.com/a.pem?x=.pem",
        "https://sns.eu-central-1.amazonaws.com/a.crt",
        "https://sns.eu-central-1.amazonaws.com\\@evil.example/a.pem",
        "https://bucket.s3.eu-central-1.amazonaws.com/a.pem",
        "https://sns.us-east-1.s3.amazonaws.com/a.pem",
        "https://sns.x.amazonaws.com/a.pem",
        "https://sns.eu-central-1.amazonaws.com/a.pem\n",
        "file:///etc/ssl/a.pem",
    ],
)
async def test_no_certificate_is_fetched_from_elsewhere(url: str) -> None:
    """Only an SNS host over HTTPS; everything else is refused before anything is fetched."""
    fetch = Web()
    with pytest.raises(Problem, match="SigningCertURL"):
        await Verifier(fetch).verify(sns.read(notification("x") | {"SigningCertURL": url}), NOW)
    assert fetch.fetched == []


async def test_china_has_its_own_domain() -> None:
    """``amazonaws.com.cn`` is SNS, too."""
    url = "https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-1.pem"
    fetch = Web()
    fetch.pages[url] = Fetched(200, certificate())
    await Verifier(fetch).verify(sns.read(notification("x") | {"SigningCertURL": url}), NOW)


@pytest.mark.parametrize(
    ("fetched", "error"),
    [
        pytest.param(Fetched(200, certificate(ends=NOW - timedelta(days=1))), Problem, id="expired"),
        pytest.param(Fetched(200, certificate(begins=NOW + timedelta(days=1))), Problem, id="not valid yet"),
        pytest.param(Fetched(200, b"<html>"), Problem, id="no certificate"),
        pytest.param(Fetched(404, b""), Problem, id="not there"),
        pytest.param(Fetched(302, b""), Retryable, id="a redirect is not followed"),
        pytest.param(Fetched(503, b""), Retryable, id="SNS is down"),
        pytest.param(None, Retryable, id="SNS cannot be reached"),
    ],
)
async def test_bad_certificates(fetched: Fetched | None, error: type[Exception]) -> None:
    """What cannot be proved is refused, what cannot be found out is asked for again; neither is kept."""
    fetch, good = Web(), Fetched(200, certificate())
    fetch.pages.pop(CERTIFICATE_URL)
    if fetched is not None:
        fetch.pages[CERTIFICATE_URL] = fetched
    verifier = Verifier(fetch)
    with pytest.raises(error):
        await verifier.verify(sns.read(notification("x")), NOW)

    fetch.pages[CERTIFICATE_URL] = good
    await verifier.verify(sns.read(notification("x")), NOW)


async def test_a_certificate_is_fetched_once() -> None:
    """Whoever comes at the same time waits for it; it is judged anew each time, and dropped when it has expired."""
    fetch = Web()
    verifier = Verifier(fetch)
    await asyncio.gather(*(verifier.verify(sns.read(notification(f"{n}")), NOW) for n in range(5)))
    assert fetch.fetched == [CERTIFICATE_URL]

    with pytest.raises(Problem, match="expired"):
        await verifier.verify(sns.read(notification("x")), NOW + timedelta(days=400))
    assert fetch.fetched == [CERTIFICATE_URL]


async def test_few_certificates_are_kept() -> None:
    """The ones used least recently go first."""
    fetch = Web()
    urls = [CERTIFICATE_URL.replace("9c64", f"{n:04}") for n in range(sns.MAX_CERTIFICATES + 1)]
    fetch.pages |= {url: Fetched(200, certificate()) for url in urls}
    verifier = Verifier(fetch)
    for url in (*urls, urls[-1], urls[0]):
        await verifier.verify(sns.read(notification("x") | {"SigningCertURL": url}), NOW)
    assert fetch.fetched == [*urls, urls[0]]


@pytest.mark.parametrize(
    ("url", "answer", "error"),
    [
        pytest.param(SUBSCRIBE_URL, Fetched(200, b""), None, id="confirmed"),
        pytest.param(SUBSCRIBE_URL, Fetched(400, b""), Problem, id="the token has expired"),
        pytest.param(SUBSCRIBE_URL, Fetched(302, b""), Retryable, id="a redirect is not followed"),
        pytest.param(SUBSCRIBE_URL, Fetched(500, b""), Retryable, id="SNS is down"),
        pytest.param("https://evil.example/?Action=ConfirmSubscription", None, Problem, id="another host"),
        pytest.param(SUBSCRIBE_URL.replace("https", "http"), None, Problem, id="plain HTTP"),
        pytest.param(SUBSCRIBE_URL.replace(".com/", ".com:81/"), None, Problem, id="another port"),
        pytest.param(SUBSCRIBE_URL.replace("Confirm", "Delete"), None, Problem, id="another action"),
    ],
)
async def test_confirmation(url: str, answer: Fetched | None, error: type[Exception] | None) -> None:
    """A SubscribeURL is fetched from SNS or not at all, and no error shows its token."""
    fetch = Web()
    if answer is not None:
        fetch.pages[url] = answer
    envelope = sns.read(confirmation(SubscribeURL=url))
    if error is None:
        await sns.confirm(envelope, fetch)
    else:
        with pytest.raises(error) as raised:
            await sns.confirm(envelope, fetch)
        assert "2336412f37" not in str(raised.value)
    assert fetch.fetched == ([url] if answer else [])


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        pytest.param({"Type": "Gossip"}, "Type", id="an unknown type"),
        pytest.param({"Type": ["Notification"]}, "Type", id="type is a list"),
        pytest.param({"Message": None}, "Message", id="no message"),
        pytest.param({"TopicArn": 5}, "TopicArn", id="topic is a number"),
        pytest.param({"Signature": ""}, "Signature", id="unsigned"),
        pytest.param({"SigningCertURL": None}, "SigningCertURL", id="no certificate"),
    ],
)
def test_unreadable_messages_say_where(changes: dict[str, Any], path: str) -> None:
    """Every missing part is named by its path."""
    with pytest.raises(InvalidInput) as refused:
        sns.read(notification("x") | changes)
    assert path in [p for p, _ in refused.value.problems]


@pytest.fixture
async def site() -> AsyncIterator[str]:
    """A web server: /ok, /moved, /huge and /slow."""

    async def answer(request: web.Request) -> web.Response:
        match request.path:
            case "/moved":
                raise web.HTTPFound("/ok")
            case "/huge":
                return web.Response(body=b"x" * (sns.MAX_FETCHED + 1))
            case "/slow":
                await asyncio.sleep(30)
        return web.Response(body=b"fine")

    app = web.Application()
    app.router.add_get("/{any}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}"
    await runner.cleanup()


async def test_fetching_is_bounded(site: str) -> None:
    """No redirect is followed, nothing larger than a certificate is read, and nobody is waited for long."""
    fetch = sns.fetcher(0.5)
    assert await fetch(f"{site}/ok") == Fetched(200, b"fine")
    assert (await fetch(f"{site}/moved")).status == 302
    for page in ("huge", "slow"):
        with pytest.raises(Retryable):
            await fetch(f"{site}/{page}")
    with pytest.raises(Retryable) as refused:
        await fetch("http://127.0.0.1:1/?Token=secret")
    assert "secret" not in str(refused.value)


@given(
    st.fixed_dictionaries({name: st.text(max_size=30) for name in ("Message", "Subject", "TopicArn")}),
    st.sampled_from(["Message", "Subject", "TopicArn", "MessageId", "Timestamp"]),
    st.text(max_size=5),
)
def test_no_change_survives(fields: dict[str, str], changed: str, to: str) -> None:
    """Whatever is signed: as it is it is believed, and with any field changed it is not."""
    body = signed({"Type": "Notification", "MessageId": "m", "Timestamp": "t"} | fields, "2")

    async def believed(one: dict[str, Any]) -> bool:
        envelope = Envelope("Notification", {k: str(v) for k, v in one.items()})
        with contextlib.suppress(Problem):
            await Verifier(Web()).verify(envelope, NOW)
            return True
        return False

    assert asyncio.run(believed(body))
    assert asyncio.run(believed(body | {changed: to})) is (body[changed] == to)
