"""Plain HTTP calls, as any program makes them."""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]  # lower-case names
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json", (self.status, self.body[:200])
        return json.loads(self.body)


def ask(address: str, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Answer:
    """One request on a connection of its own; a body that is not bytes is sent as JSON."""
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request(method, path, content, dict(headers or {}))
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read())
    finally:
        connection.close()
