"""Reads the JSON bodies of routes as strictly as everything behind them does.

The standard library's parser, which FastAPI uses, lets through what no JSON is or what cannot be written again: ``NaN``, half
a surrogate pair, nesting without end. Here they are a 400 at the door.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

import pydantic_core
from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response


class StrictRoute(APIRoute):
    """A route whose body is read by pydantic's parser: UTF-8, no ``NaN``, nesting of some two hundred."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(_Strict(request.scope, request.receive))

        return strictly


class _Strict(Request):
    async def json(self) -> Any:
        try:
            return pydantic_core.from_json(await self.body(), allow_inf_nan=False)
        except ValueError as error:
            raise json.JSONDecodeError(str(error), "", 0) from None
