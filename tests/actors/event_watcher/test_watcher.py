"""The watcher between a real API server and a real HTTP gateway: every Warning arrives, whatever falls in between."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.event_watcher.position import ALL, Point, PositionStore
from kubernaut_ray import clock, names
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import Forbidden, NotFound
from kubernaut_ray.kube.resources import CONFIG_MAP, EVENT, LEASE, REMEDIATION_REQUEST
from kubernaut_ray.runtime import bootstrap
from kubernaut_ray.settings import EventWatcherSettings, Settings
from serve_apps.access import KubeGate
from serve_apps.gateway.app import Deps, create_app
from tests.actors.event_watcher.world import TAKEN, TOKEN, door, position, settings, until, warn, watching
from tests.cluster import install_accounts
from tests.conftest import end_embedded, start_embedded
from tests.serve_apps.gateway.world import Facts
from tests.serving import serving

pytestmark = pytest.mark.integration


async def test_warnings_are_forwarded_and_normal_events_are_not(kube: KubeClient, namespace: str) -> None:
    """The event arrives as the API server holds it, without its managed fields, with our token; the position follows."""
    async with door() as gateway, watching(kube, gateway.url, settings(namespace)) as watcher:
        await until(lambda: watcher.state == "running")
        await warn(kube, namespace, "normal", kind="Normal")
        made = await warn(kube, namespace, "warning")
        await until(lambda: gateway.names() == ["warning"])

        async def recorded() -> bool:
            found = await position(kube, namespace)
            return found is not None and found.version == made["metadata"]["resourceVersion"]

        await until(recorded)
    (event,) = gateway.taken
    assert event["kind"] == "Event"
    assert event["involvedObject"] == made["involvedObject"]
    assert event["metadata"]["uid"] == made["metadata"]["uid"]
    assert "managedFields" not in event["metadata"]
    assert gateway.tokens == [f"Bearer {TOKEN}"]


async def test_a_repetition_is_another_occurrence_and_an_edit_is_none(kube: KubeClient, namespace: str) -> None:
    """Counting on an event forwards it again; a label on it does not."""
    async with door() as gateway, watching(kube, gateway.url, settings(namespace)) as watcher:
        await warn(kube, namespace, "again")
        await until(lambda: len(gateway.taken) == 1)
        await kube.patch(EVENT, "again", {"metadata": {"labels": {"seen": "yes"}}}, namespace)
        await kube.patch(EVENT, "again", {"count": 2}, namespace)
        await until(lambda: len(gateway.taken) == 2)
        assert watcher.stats.passed_over == {"repeat": 1}
    assert [event["count"] for event in gateway.taken] == [1, 2]


async def test_at_the_first_start_old_events_are_history(kube: KubeClient, namespace: str) -> None:
    """Only what happened within the lookback is forwarded, of an old cluster's many."""
    start = clock.utcnow() + timedelta(hours=1)
    for minutes in (0, 4, 6, 60):
        await warn(kube, namespace, f"ago-{minutes}", at=start - timedelta(minutes=minutes), about=f"pod-{minutes}")
    async with door() as gateway, watching(kube, gateway.url, settings(namespace), now=lambda: start):
        await until(lambda: len(gateway.taken) == 2)
        await warn(kube, namespace, "new")
        await until(lambda: "new" in gateway.names())
    assert sorted(gateway.names()) == ["ago-0", "ago-4", "new"]


async def test_what_is_ours_is_left_out(kube: KubeClient, namespace: str) -> None:
    """Events about our own namespaces' objects, of our own parts, and about our own kinds open nothing."""
    ours = {"apiVersion": "kubernaut.ai/v1alpha1", "kind": "AIAnalysis", "name": "ai-1", "namespace": namespace}
    async with door() as gateway:
        given = settings(namespace, ignored_namespaces=None)
        async with watching(kube, gateway.url, given) as watcher:
            await warn(kube, namespace, "of-our-pod")
            await until(lambda: watcher.stats.passed_over == {"ignored-namespace": 1})
        async with watching(kube, gateway.url, settings(namespace)) as watcher:
            await warn(kube, namespace, "of-our-part", source={"component": "kubernaut-aianalysis"})
            await warn(kube, namespace, "of-our-kind", involvedObject=ours)
            await until(lambda: watcher.stats.passed_over == {"own": 2})
    assert gateway.asked == []


async def test_all_namespaces_or_several(kube: KubeClient, namespace: str) -> None:
    """Without names every namespace is watched; with names each has a point of its own."""
    other = f"{namespace}-other"
    await kube.create(resources.NAMESPACE, {"metadata": {"name": other}})
    try:
        async with door() as gateway:
            everything = settings(namespace, namespaces=())
            async with watching(kube, gateway.url, everything):
                for home in (namespace, other):
                    await warn(kube, home, f"in-{home}")
                await until(lambda: {f"in-{namespace}", f"in-{other}"} <= set(gateway.names()))
            assert set(await PositionStore(kube, namespace).read()) == {ALL}
            some = settings(namespace, namespaces=(namespace, other))
            async with watching(kube, gateway.url, some):
                for home in (namespace, other):
                    await warn(kube, home, f"then-{home}")
                await until(lambda: {f"then-{namespace}", f"then-{other}"} <= set(gateway.names()))
            assert set(await PositionStore(kube, namespace).read()) == {namespace, other}
            assert max(Counter(gateway.names()).values()) == 1
    finally:
        await kube.delete(resources.NAMESPACE, other)


async def test_a_gateway_that_is_down_loses_nothing(kube: KubeClient, namespace: str) -> None:
    """503 with Retry-After is waited for; the position does not pass what was not taken."""
    refusals = iter([(503, {"Retry-After": "1"})] * 2)
    async with door(answer=lambda _: next(refusals, TAKEN)) as gateway:
        async with watching(kube, gateway.url, settings(namespace)) as watcher:
            await until(lambda: watcher.stats.writes > 0)
            before = asyncio.get_running_loop().time()
            made = await warn(kube, namespace, "w")
            await until(lambda: "503" in watcher.stats.trouble.get("gateway", ""))
            stuck = await position(kube, namespace)
            await until(lambda: gateway.names() == ["w"])
            assert asyncio.get_running_loop().time() - before >= 2
            await until(lambda: watcher.stats.trouble == {})
        reached = await position(kube, namespace)
    assert stuck is not None
    assert reached is not None
    assert int(stuck.version) < int(made["metadata"]["resourceVersion"]) <= int(reached.version)
    assert gateway.asked == ["w"] * 3


async def test_a_gateway_that_is_not_there_yet(kube: KubeClient, namespace: str) -> None:
    """Refused connections, a route that is not there, and a server error are all waited out."""
    answers = iter([(404, {}), (500, {}), (302, {"location": "http://127.0.0.1:9/"})])
    async with door(answer=lambda _: next(answers, TAKEN)) as gateway:
        async with watching(kube, "http://127.0.0.1:9", settings(namespace), drain=False) as watcher:
            await warn(kube, namespace, "w")
            await until(lambda: watcher.stats.retries >= 3)
        async with watching(kube, gateway.url, settings(namespace)):
            await until(lambda: gateway.names() == ["w"])
    assert gateway.asked == ["w"] * 4


@pytest.mark.parametrize("status", [400, 413, 415, 422])
async def test_what_is_refused_for_good_is_passed(kube: KubeClient, namespace: str, status: int) -> None:
    """It is counted and told once; what comes after it arrives, and the position passes it."""
    bad = {"bad": (status, {})}
    async with door(answer=lambda event: bad.get(event["metadata"]["name"], TAKEN)) as gateway:
        async with watching(kube, gateway.url, settings(namespace)) as watcher:
            await warn(kube, namespace, "bad")
            good = await warn(kube, namespace, "good")
            await until(lambda: watcher.stats.forwarded == 1)
            assert (watcher.stats.refused, watcher.stats.forwarded, watcher.stats.retries) == (1, 1, 0)
        reached = await position(kube, namespace)
    assert gateway.asked == ["bad", "good"]
    assert reached is not None
    assert reached.version >= good["metadata"]["resourceVersion"]


async def test_a_token_that_is_refused_is_read_again(kube: KubeClient, namespace: str, tmp_path: Path) -> None:
    """The token is renewed while we run; events wait for it."""
    file = tmp_path / "token"
    file.write_text("old")

    async with door() as gateway:
        gateway.answer = lambda _: TAKEN if gateway.tokens[-1] == "Bearer new" else (401, {})
        async with watching(kube, gateway.url, settings(namespace), token=file.read_text):
            await warn(kube, namespace, "w")
            await until(lambda: len(gateway.asked) >= 2)
            file.write_text("new")
            await until(lambda: gateway.names() == ["w"])


async def test_events_about_one_object_keep_their_order(kube: KubeClient, namespace: str) -> None:
    """Several objects are served at once, within the bound; one object's events come one after another."""
    tries: Counter[str] = Counter()

    def moody(event: Object) -> Any:
        name = event["metadata"]["name"]
        tries[name] += 1
        return TAKEN if tries[name] > len(name) % 3 else (503, {})

    async with (
        door(answer=moody, delay=0.005) as gateway,
        watching(kube, gateway.url, settings(namespace, concurrency=3)),
    ):
        for n in range(60):
            await warn(kube, namespace, f"{'x' * (n % 4)}e{n}", about=f"pod-{n % 5}")
        await until(lambda: len(gateway.taken) == 60)
    for pod in range(5):
        of_pod = [
            e["metadata"]["resourceVersion"] for e in gateway.taken if e["involvedObject"]["name"] == f"pod-{pod}"
        ]
        assert of_pod == sorted(of_pod, key=int)
        assert len(of_pod) == 12
    assert gateway.most_at_once == 3


async def test_no_more_is_read_than_may_be_under_way(kube: KubeClient, namespace: str) -> None:
    """While the gateway takes nothing, memory holds so many events and the API server the rest; then all arrive."""
    closed = True
    async with (
        door(answer=lambda _: (503, {}) if closed else TAKEN) as gateway,
        watching(kube, gateway.url, settings(namespace, in_flight=5)) as watcher,
    ):
        await until(lambda: watcher.state == "running")
        for n in range(40):
            await warn(kube, namespace, f"e{n}", about=f"pod-{n}")
        await until(lambda: watcher.under_way == 5 and watcher.stats.retries > 20)
        assert watcher.under_way == 5
        assert watcher.stats.read <= 6
        closed = False
        await until(lambda: len(gateway.taken) == 40)
    assert len(set(gateway.names())) == 40


@pytest.mark.parametrize("seed", range(3))
async def test_cut_off_at_any_moment_nothing_is_lost(kube: KubeClient, namespace: str, seed: int) -> None:
    """Cut off again and again while events come and a gateway stumbles: each arrives, and the position only grows."""
    dice = random.Random(seed)
    seen: list[Point] = []
    posted: list[str] = []

    async def post() -> None:
        for n in range(80):
            posted.append((await warn(kube, namespace, f"e{n}", about=f"pod-{n % 7}"))["metadata"]["name"])
            await asyncio.sleep(dice.random() * 0.02)

    async with door(answer=lambda _: TAKEN if dice.random() < 0.7 else (503, {}), delay=0.002) as gateway:
        posting = asyncio.create_task(post())
        while not posting.done():
            async with watching(kube, gateway.url, settings(namespace, in_flight=7), drain=dice.random() < 0.2):
                await asyncio.sleep(dice.random() * 0.3)
            if (found := await position(kube, namespace)) is not None:
                seen.append(found)
        await posting
        async with watching(kube, gateway.url, settings(namespace)):
            await until(lambda: set(gateway.names()) == set(posted))
        if (found := await position(kube, namespace)) is not None:
            seen.append(found)
    versions = [int(point.version or 0) for point in seen]
    assert versions == sorted(versions)
    assert versions[-1] > 0
    assert [point.at for point in seen] == sorted(point.at for point in seen)


async def test_of_two_watchers_one_forwards(kube: KubeClient, namespace: str) -> None:
    """The other stands by, and takes over where the first one stopped."""
    given = settings(namespace)
    async with (
        door() as gateway,
        watching(kube, gateway.url, given, stem="first") as first,
        watching(kube, gateway.url, given, stem="second") as second,
    ):
        await until(lambda: {first.state, second.state} == {"running", "standby"})
        for n in range(5):
            await warn(kube, namespace, f"e{n}", about=f"pod-{n}")
        await until(lambda: len(gateway.taken) == 5)
        active, waiting = (first, second) if first.state == "running" else (second, first)
        active.drain()
        await until(lambda: waiting.state == "running")
        await warn(kube, namespace, "then")
        await until(lambda: waiting.stats.forwarded == 1)
        assert active.state == "stopped"
    assert gateway.names()[-1] == "then"
    assert max(Counter(gateway.names()).values()) == 1
    lease = await kube.get(LEASE, names.EVENT_WATCHER, namespace)
    assert lease["spec"]["holderIdentity"] == ""


async def test_a_position_moved_by_another_hand_is_begun_from(kube: KubeClient, namespace: str) -> None:
    """Somebody sets the position back: the watcher forwards again from there."""
    async with door() as gateway, watching(kube, gateway.url, settings(namespace)) as watcher:
        first = await warn(kube, namespace, "one")
        await until(lambda: gateway.names() == ["one"])
        await until(lambda: watcher.stats.writes > 0)
        back = Point(str(int(first["metadata"]["resourceVersion"]) - 1), clock.utcnow())
        await kube.patch(CONFIG_MAP, names.EVENT_WATCHER, {"data": {namespace: back.to_text()}}, namespace)
        await warn(kube, namespace, "two")
        await until(lambda: gateway.names().count("one") == 2)
        await until(lambda: "two" in gateway.names())


async def test_after_410_exactly_what_was_missed_is_forwarded(tmp_path: Path) -> None:
    """An API server that was restarted has forgotten the old versions; what came meanwhile is listed, once, in order."""
    given = settings("default")
    server = start_embedded(tmp_path)
    try:
        async with door() as gateway:
            async with await KubeClient.connect(tmp_path / "kubeconfig") as kube:
                async with watching(kube, gateway.url, given):
                    for n in range(3):
                        await warn(kube, "default", f"before-{n}")
                    await until(lambda: len(gateway.taken) == 3)
                for n in (2, 0, 1):
                    await warn(kube, "default", f"meanwhile-{n}", at=clock.utcnow() - timedelta(days=1))
            await asyncio.to_thread(end_embedded, server)
            server = await asyncio.to_thread(start_embedded, tmp_path)
            async with (
                await KubeClient.connect(tmp_path / "kubeconfig") as kube,
                watching(kube, gateway.url, given) as watcher,
            ):
                await until(lambda: len(gateway.taken) == 6)
                await warn(kube, "default", "after")
                await until(lambda: len(gateway.taken) == 7)
                assert watcher.stats.relists == 1
        assert gateway.names()[3:] == ["meanwhile-2", "meanwhile-0", "meanwhile-1", "after"]
    finally:
        await asyncio.to_thread(end_embedded, server)


async def test_an_api_server_that_falls_and_comes_back(tmp_path: Path) -> None:
    """The watcher outlives the server: it goes on by itself, and nothing is forwarded twice for it."""
    given = settings("default")
    server = start_embedded(tmp_path)
    try:
        async with door() as gateway, await KubeClient.connect(tmp_path / "kubeconfig") as kube:
            port = kube.host.rsplit(":", 1)[1]
            async with watching(kube, gateway.url, given):
                await warn(kube, "default", "one")
                await until(lambda: gateway.names() == ["one"])
                await asyncio.to_thread(end_embedded, server)
                server = await asyncio.to_thread(start_embedded, tmp_path, "--port", port)
                await warn(kube, "default", "two")
                await until(lambda: "two" in gateway.names(), 40)
        assert gateway.names() == ["one", "two"]
    finally:
        await asyncio.to_thread(end_embedded, server)


async def test_a_server_set_back_in_time_is_noticed(kube: KubeClient, namespace: str) -> None:
    """A watch from a version still to come would wait in silence; instead the events' own times decide."""
    ahead = Point("999999999999", clock.utcnow() + timedelta(minutes=60))
    await PositionStore(kube, namespace).write({namespace: ahead})
    await warn(kube, namespace, "recent", at=ahead.at - timedelta(minutes=4))
    await warn(kube, namespace, "older", at=ahead.at - timedelta(minutes=6))
    async with door() as gateway, watching(kube, gateway.url, settings(namespace)):
        await until(lambda: gateway.names() == ["recent"])
        await warn(kube, namespace, "new")
        await until(lambda: "new" in gateway.names())
    assert gateway.names() == ["recent", "new"]


async def test_the_gateway_makes_incidents_of_what_it_is_sent(
    api_server: Path, kube: KubeClient, namespace: str
) -> None:
    """With the real gateway, its authentication on: one RemediationRequest, with the repetition counted on it."""
    await kube.create(resources.SERVICE_ACCOUNT, {"metadata": {"name": "platform", "namespace": namespace}})
    name = f"signals-{namespace}"
    rule = {"apiGroups": ["kubernaut.ai"], "resources": ["signals"], "verbs": ["create"]}
    await kube.create(resources.CLUSTER_ROLE, {"metadata": {"name": name}, "rules": [rule]})
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "platform", "namespace": namespace}],
    }
    await kube.create(resources.CLUSTER_ROLE_BINDING, binding)
    token = await kube.service_account_token(namespace, "platform")
    given = Settings(
        namespace=namespace, event_watcher=EventWatcherSettings(namespaces=(namespace,), ignored_namespaces=())
    )
    try:
        async with await KubeClient.connect(api_server) as own:
            app = create_app(Deps(own, given, Facts(), KubeGate(own)))
            async with serving(app) as url, watching(kube, url, given, token=lambda: token) as watcher:
                await warn(kube, namespace, "w", about="gone", reason="OOMKilling")
                await until(lambda: watcher.stats.forwarded == 1)
                await kube.patch(EVENT, "w", {"count": 2}, namespace)
                await until(lambda: watcher.stats.forwarded == 2)
                async with httpx.AsyncClient(trust_env=False) as http:
                    assert (await http.post(f"{url}/api/v1/signals/kubernetes-event", json={})).status_code == 401
    finally:
        await kube.delete(resources.CLUSTER_ROLE_BINDING, name)
        await kube.delete(resources.CLUSTER_ROLE, name)
    (found,) = (await kube.list(REMEDIATION_REQUEST, namespace)).items
    assert found["spec"]["signalName"] == "OOMKilling"
    assert found["status"]["deduplication"]["occurrenceCount"] == 2


async def test_the_platforms_rights_suffice(api_server: Path, kube: KubeClient, namespace: str, tmp_path: Path) -> None:
    """With the shipped roles and no more it watches, takes the Lease and writes its position, and no other ConfigMap."""
    await install_accounts(kube)
    home = names.SYSTEM_NAMESPACE
    token_file = tmp_path / "token"
    token_file.write_text(await kube.service_account_token(home, bootstrap.SERVICE_ACCOUNT))
    bootstrap.write_system_kubeconfig(api_server, token_file, tmp_path / "kubeconfig")
    given = Settings(event_watcher=EventWatcherSettings(namespaces=(namespace,)))
    try:
        async with door() as gateway, await KubeClient.connect(tmp_path / "kubeconfig") as platform:
            async with watching(platform, gateway.url, given):
                made = await warn(kube, namespace, "w")
                await until(lambda: gateway.names() == ["w"])
            found = (await PositionStore(kube, home).read())[namespace]
            assert int(found.version) >= int(made["metadata"]["resourceVersion"])
            await kube.create(CONFIG_MAP, {"metadata": {"name": "policies"}, "data": {"approval.rego": "…"}}, home)
            with pytest.raises(Forbidden):
                await platform.patch(CONFIG_MAP, "policies", {"data": {"approval.rego": "allow"}}, home)
    finally:
        for resource, name in (
            (CONFIG_MAP, "policies"),
            (CONFIG_MAP, names.EVENT_WATCHER),
            (LEASE, names.EVENT_WATCHER),
        ):
            with contextlib.suppress(NotFound):
                await kube.delete(resource, name, home)
