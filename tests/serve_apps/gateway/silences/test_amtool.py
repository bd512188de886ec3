"""Debian's amtool (Alertmanager 0.25) as a client of our silences, over real HTTP, with a real token and real rights.

Needs the Debian package ``prometheus-alertmanager``.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from fastapi import FastAPI

from kubernaut_ray import names, shipped
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from serve_apps.gateway.silences import api
from serve_apps.gateway.silences.store import Silences
from serve_apps.http import KubeGate, install
from tests.serve_apps.gateway.world import Facts
from tests.serving import serving

pytestmark = pytest.mark.integration


@dataclass
class Amtool:
    """``--http.config.file`` holds the token, as in a real installation."""

    url: str
    config: Path
    silences: Silences
    facts: Facts

    async def __call__(self, *arguments: str, ok: bool = True) -> str:
        """Run it; returns what it prints, on both channels when it is to fail."""
        process = await asyncio.create_subprocess_exec(
            "amtool",
            f"--alertmanager.url={self.url}",
            f"--http.config.file={self.config}",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"HOME": str(self.config.parent), "PATH": "/usr/bin:/bin", "TZ": "UTC"},
        )
        out, err = (channel.decode() for channel in await process.communicate())
        assert (process.returncode == 0) is ok, (out, err)
        assert "version" not in err
        return out if ok else out + err

    async def query(self, *arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = orjson.loads(await self("silence", "query", "-o", "json", *arguments))
        return found


async def person(kube: KubeClient, namespace: str, role: str) -> tuple[str, str]:
    """Make a ServiceAccount with one of the shipped roles for people; returns its token and the binding."""
    (shape,) = [
        document
        for document in yaml.safe_load_all((shipped.directory() / "rbac" / "people.yaml").read_text())
        if document["kind"] == "ClusterRole" and document["metadata"]["name"] == role
    ]
    name = f"{role}-{uuid.uuid4().hex[:6]}"
    shape["metadata"] = {"name": name}
    await kube.create(resources.CLUSTER_ROLE, shape)
    await kube.create(resources.SERVICE_ACCOUNT, {"metadata": {"name": role, "namespace": namespace}})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    subject = {"kind": "ServiceAccount", "name": role, "namespace": namespace}
    binding = {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}
    await kube.create(resources.CLUSTER_ROLE_BINDING, binding)
    return await kube.service_account_token(namespace, role), name


@pytest.fixture
async def amtool(kube: KubeClient, namespace: str, tmp_path: Path) -> AsyncIterator[Amtool]:
    """amtool with an operator's token, and a gateway's silences in a namespace of their own."""
    token, binding = await person(kube, namespace, "kubernaut-operator")
    config = tmp_path / "http.yml"
    config.write_text(yaml.safe_dump({"authorization": {"type": "Bearer", "credentials": token}}))
    silences, facts, app = Silences(kube, namespace, interval=0.05), Facts(), FastAPI()
    api.add_routes(app, silences, facts)
    install(app, service="gateway", gate=KubeGate(kube), rules=api.RULES, max_body_bytes=100_000)
    await silences.start()
    try:
        async with serving(app) as url:
            yield Amtool(url, config, silences, facts)
    finally:
        await silences.stop()
        await kube.delete(resources.CLUSTER_ROLE_BINDING, binding)
        await kube.delete(resources.CLUSTER_ROLE, binding)


async def test_a_silence_from_its_making_to_its_end(amtool: Amtool, kube: KubeClient, namespace: str) -> None:
    """Added, found, in force, prolonged, expired; the user of the token is on record, not only the author that was named."""
    made = await amtool(
        "silence", "add", "--duration=2h", "--comment=rollout", "--author=ada",
        "alertname=Foo", "severity=~warning|info", "namespace!=prod",
    )  # fmt: skip
    name = made.strip()
    now = amtool.silences._now()
    labels = {"alertname": "Foo", "severity": "info"}
    assert amtool.silences.match(labels, now) == (name,)
    assert amtool.silences.match({**labels, "namespace": "prod"}, now) == ()

    (found,) = await amtool.query()
    assert (found["id"], found["createdBy"], found["comment"]) == (name, "ada", "rollout")
    assert found["status"]["state"] == "active"
    assert 'severity=~"warning|info" namespace!="prod"' in await amtool("silence", "query")
    assert len(await amtool.query("alertname=Foo")) == 1
    assert await amtool.query("alertname=Bar") == []

    ends = found["endsAt"]
    await amtool("silence", "update", "--duration=5h", name)
    (found,) = await amtool.query()
    assert (found["id"], found["endsAt"] > ends) == (name, True)

    await amtool("silence", "expire", name)
    assert await amtool.query() == []
    (found,) = await amtool.query("--expired")
    assert (found["id"], found["status"]["state"]) == (name, "expired")
    assert amtool.silences.match(labels, amtool.silences._now()) == ()

    stored = await kube.get(resources.SILENCE, name, namespace)
    user = f"system:serviceaccount:{namespace}:kubernaut-operator"
    assert stored["metadata"]["annotations"][names.ANNOTATION_AUTHENTICATED_USER] == user
    assert amtool.facts.types() == [f"gateway.silence.{what}" for what in ("created", "updated", "expired")]
    assert {event.actor_id for event in amtool.facts.events} == {user}


async def test_other_matchers_make_another_silence(amtool: Amtool) -> None:
    """The old one is expired and kept; ``import`` is how amtool sends a whole silence with its id."""
    name = (await amtool("silence", "add", "-c", "x", "alertname=Foo")).strip()
    (old,) = await amtool.query()
    old["matchers"][0]["value"] = "Bar"
    file = amtool.config.parent / "silences.json"
    file.write_bytes(orjson.dumps([old]))
    await amtool("silence", "import", str(file))
    (new,) = await amtool.query()
    assert new["id"] != name
    assert new["matchers"][0]["value"] == "Bar"
    assert [one["id"] for one in await amtool.query("--expired")] == [name]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(("add", "-c", "x", "alertname=~.*"), "at least one matcher must not match the empty string", id="all"),
        pytest.param(("expire", str(uuid.UUID(int=0))), "status 404", id="unknown"),
        pytest.param(
            ("add", "-c", "x", "--start=2021-01-01T00:00:00Z", "--end=2022-01-01T00:00:00Z", "alertname=a"),
            "end time can't be in the past", id="over before it began",
        ),
    ],
)  # fmt: skip
async def test_amtool_shows_why_it_was_refused(amtool: Amtool, arguments: tuple[str, ...], words: str) -> None:
    """The words of the answer reach the terminal."""
    told = await amtool("silence", *arguments, ok=False)
    assert words in told
