"""`mlpserve playground` as a real process."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from support.processes import BIN, Announced


class Playground(Announced):
    """The playground on a free port."""

    def __init__(self, folder: Path, target: str, *flags: object, env: dict[str, str] | None = None) -> None:
        folder.mkdir(exist_ok=True)
        command = [BIN / "mlpserve", "playground", "--target", target, "--listen", "127.0.0.1:0", *flags]
        super().__init__(command, folder / "playground.log", "Playground on ", env)

    @property
    def url(self) -> str:
        return self.announced.split()[2]

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON (or lines of it, or text) of one request."""
        request = urllib.request.Request(self.url + path, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                kind, content = response.headers["Content-Type"], response.read().decode()
                status = response.status
        except urllib.error.HTTPError as error:
            with error:
                kind, content, status = error.headers["Content-Type"], error.read().decode(), error.code
        if kind == "application/x-ndjson":
            return status, [json.loads(line) for line in content.splitlines()]
        return status, json.loads(content) if kind == "application/json" else content
