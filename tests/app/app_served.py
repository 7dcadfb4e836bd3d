"""An app on a free port, and what a program asks of it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn

from attnreg.app.history import History
from attnreg.app.offered import Offered
from attnreg.app.server import App

FORM: dict[str, Any] = {"model": "pocket", "prompt": "a bird and a frog", "seeds": "3", "steps": "2"}


class Served:
    """An app that answers on a port, in a thread of this process."""

    def __init__(self, offered: dict[str, Offered], folder: Path) -> None:
        self.app = App(offered, History(folder))
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}/"
        self.server = uvicorn.Server(
            uvicorn.Config(self.app.asgi("127.0.0.1"), log_level="critical", ws="none", timeout_graceful_shutdown=1)
        )
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One request as it is, by no browser's rules: status, headers in small letters, body."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        link.request(method, path, body, headers or {})
        answer = link.getresponse()
        content = answer.read()
        link.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content

    def post(self, path: str, body: Any, kind: str = "application/json") -> tuple[int, Any]:
        """Status and JSON of what is answered to a body: bytes as they are, else as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, _, told = self.ask("POST", path, content, {"content-type": kind})
        return status, json.loads(told)

    def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON."""
        status, _, told = self.ask("GET", path)
        return status, json.loads(told)

    def drawn(self, **form: Any) -> dict[str, Any]:
        """What a job tells when it has ended."""
        status, told = self.post("/api/draw", FORM | form)
        assert status == 202, told
        return self.ended(told["job"])

    def ended(self, token: str) -> dict[str, Any]:
        """Wait for a job."""
        until = time.monotonic() + 120
        while time.monotonic() < until:
            told: dict[str, Any] = self.get(f"/api/jobs/{token}")[1]
            if told["state"] not in ("waiting", "drawing"):
                return told
            time.sleep(0.05)
        raise AssertionError("a drawing did not end")

    def close(self) -> None:
        """End it as Ctrl-C does."""
        self.server.should_exit = True
        self.thread.join(30)
        self.app.queue.close()
        self.socket.close()
