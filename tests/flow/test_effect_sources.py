"""Our readers of Prometheus and Alertmanager against Debian's own, unmodified.

Needs the Debian packages ``prometheus`` and ``prometheus-alertmanager``.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import yaml

from actors.effectiveness.alerts import Signal, active
from kubernaut_ray.clients.prometheus import Alertmanager, Prometheus
from kubernaut_ray.clock import rfc3339, utcnow
from kubernaut_ray.errors import InvalidInput, Retryable
from tests import build
from tests.flow.test_alertmanager import ALERTMANAGER, PROMETHEUS, answers, free_port, running, until

pytestmark = pytest.mark.flow


async def test_alertmanager_says_what_still_fires(tmp_path: Path) -> None:
    """Active and silenced alerts count, resolved and other ones do not, nor do those of pods that are gone."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    config = {"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}
    (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(config))
    labels = {"alertname": "KubePodOOMKilled", "namespace": "shop", "severity": "critical"}
    request = build.remediation_request(spec={"signal_labels": {**labels, "pod": "web-1"}})
    reader = Alertmanager(url, timeout=5)
    async with (
        running(
            tmp_path / "alertmanager.log", ALERTMANAGER, f"--config.file={tmp_path / 'alertmanager.yml'}",
            f"--storage.path={tmp_path / 'data'}", f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
        ),
        httpx.AsyncClient(base_url=url, trust_env=False) as http,
    ):  # fmt: skip
        try:
            await until(lambda: answers(f"{url}/-/ready"), "Alertmanager is ready")
            assert await reader.alerts("KubePodOOMKilled") == ()
            firing = {"labels": {**labels, "pod": "web-1"}}
            other = {"labels": {**labels, "alertname": "Another"}}
            (await http.post("/api/v2/alerts", json=[firing, other])).raise_for_status()
            (held,) = await until(lambda: reader.alerts("KubePodOOMKilled"), "the alert is held")
            assert held["pod"] == "web-1"
            assert active(request, [held], frozenset({"web-1"})).signal is Signal.FIRING
            assert active(request, [held], frozenset({"web-2"})).signal is Signal.RESOLVED
            over = {**firing, "endsAt": rfc3339(utcnow() - timedelta(seconds=1))}
            (await http.post("/api/v2/alerts", json=[over])).raise_for_status()

            async def gone() -> bool:
                return await reader.alerts("KubePodOOMKilled") == ()

            await until(gone, "the alert is over")
        finally:
            await reader.close()
    away = Alertmanager(url, timeout=1)
    with pytest.raises(Retryable):
        await away.alerts("KubePodOOMKilled")
    await away.close()


async def test_prometheus_gives_means_over_a_range(tmp_path: Path) -> None:
    """Of what it scraped from itself; a query that it cannot read is refused with its words."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    scrape = {"job_name": "self", "scrape_interval": "1s", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": [scrape]}))
    reader = Prometheus(url, timeout=5)
    async with running(
        tmp_path / "prometheus.log", PROMETHEUS, f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
    ):  # fmt: skip
        try:
            await until(lambda: answers(f"{url}/-/ready"), "Prometheus is ready")

            async def mean(query: str) -> float | None:
                return await reader.mean(query, utcnow() - timedelta(seconds=30), utcnow(), step=1)

            assert await until(lambda: mean('up{job="self"}'), "it has scraped itself") == 1.0
            assert await mean('up{job="nobody"}') is None
            assert await mean("vector(2) * 3") == 6.0
            with pytest.raises(InvalidInput, match="parse error"):
                await mean("rate(")
        finally:
            await reader.close()
    await asyncio.sleep(0)
