"""One call of either client, so that both go through one suite."""

import asyncio
from collections.abc import Callable
from typing import Any

from mlpserve_client import AsyncClient, Client

Call = Callable[..., Any]


def in_sync(target: str, method: str, *arguments: Any, options: dict[str, Any] | None = None, **keywords: Any) -> Any:
    with Client(target, **(options or {})) as client:
        return getattr(client, method)(*arguments, **keywords)


def in_async(target: str, method: str, *arguments: Any, options: dict[str, Any] | None = None, **keywords: Any) -> Any:
    async def call() -> Any:
        async with AsyncClient(target, **(options or {})) as client:
            return await getattr(client, method)(*arguments, **keywords)

    return asyncio.run(call())
