"""`mlpserve playground` as a real process."""

import json
import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from support.processes import BIN


class Playground:
    """The playground on a free port, ready when the `with` block begins."""

    def __init__(self, folder: Path, target: str, *flags: object, env: dict[str, str] | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self._log = folder / "playground.log"
        command = [BIN / "mlpserve", "playground", "--target", target, "--listen", "127.0.0.1:0", *flags]
        self._command = [str(part) for part in command]
        self._env = {**os.environ, **(env or {})}

    def __enter__(self) -> "Playground":
        with self._log.open("w") as log:
            self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=log, text=True, env=self._env)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("Playground on "), self._log.read_text()
        self.url = line.split()[2]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def log(self) -> str:
        return self._log.read_text()

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
