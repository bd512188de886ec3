"""Data Storage as Ray Serve runs it: a replica and the owner in processes of their own, behind a route prefix."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.settings import Settings
from tests.rayed.test_serve_gateway import free_port, token

__all__ = ["token"]

pytestmark = [
    pytest.mark.rayed,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray Serve's own
]


async def test_behind_a_prefix(
    ray_session: None, api_server: Path, kube: KubeClient, namespace: str, token: str, tmp_path: Path
) -> None:
    """REST, metrics and MCP answer below ``/storage`` to a token of the cluster, and to nobody without one."""
    from ray import serve

    from actors import catalog_owner
    from serve_apps.data_storage.serve import build

    port = free_port()
    token_file = tmp_path / "token"
    token_file.write_text(token)
    args: dict[str, Any] = {
        "settings": Settings(data_dir=tmp_path, namespace=namespace).model_dump(mode="json"),
        "endpoints": {"data_storage": f"http://127.0.0.1:{port}/storage"},
        "kubeconfig": str(api_server),
        "token_file": str(token_file),
    }
    headers = {"Authorization": f"Bearer {token}"}
    await asyncio.to_thread(catalog_owner.ensure, args)
    await asyncio.to_thread(serve.start, http_options={"host": "127.0.0.1", "port": port})
    try:
        await asyncio.to_thread(serve.run, build(args), name="storage", route_prefix="/storage")
        base = f"http://127.0.0.1:{port}/storage"
        async with httpx.AsyncClient(base_url=base, headers=headers, timeout=60, trust_env=False) as http:
            assert (await http.get("/health/ready")).json()["status"] == "ready"
            listed = await http.get("/api/v1/workflows")
            assert listed.status_code == 200
            again = await http.get("/api/v1/workflows", headers={"if-none-match": listed.headers["etag"]})
            assert again.status_code == 304
            assert (await http.get("/mcp")).status_code == 405
            assert (await http.post("/mcp", json={}, headers={"Authorization": "Bearer no"})).status_code == 401
            async with (
                create_mcp_http_client(headers=headers) as session,
                Client(streamable_http_client(f"{base}/mcp", http_client=session)) as client,
            ):
                assert len((await client.list_tools()).tools) == 4
                asked = {"query": "OOMKilled", "rca_resource": {"kind": "Pod", "name": "web"}}
                found = await client.call_tool("search_workflow_catalog", asked)
                assert (found.is_error, found.structured_content["workflows"]) == (False, [])
            told = (await http.get("/metrics")).text
            assert "datastorage_search_empty_total 1.0" in told
            assert 'datastorage_query_total{operation="workflows",status="success"} 2.0' in told
    finally:
        await asyncio.to_thread(serve.shutdown)
        await asyncio.to_thread(catalog_owner.stop)
