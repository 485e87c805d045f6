"""An app on a port that gets webhook events and verifies them without code of the package."""

from __future__ import annotations

import threading
from typing import Any

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from .webhook_events import SIGNATURE, signature_of

PATH = "/hook"


class Receiver:
    """The app, which responds with the statuses of a list, and then with 200.

    A response has a location, a header and a body that no caller needs.
    """

    def __init__(self, server: HTTPServer, secret: str) -> None:
        self.url = server.url_for(PATH)
        self.bodies: list[dict[str, Any]] = []
        self.statuses: list[int] = []
        self._secret = secret
        self._arrived = threading.Semaphore(0)
        server.expect_request(PATH, method="POST").respond_with_handler(self._respond)

    def wait_for(self, number: int) -> list[tuple[str, Any]]:
        """Wait until this number of further events has arrived, and return their types and ids."""
        for _ in range(number):
            assert self._arrived.acquire(timeout=60)
        return [(body["eventType"], body["entityId"]) for body in self.bodies[-number:]]

    def _respond(self, request: Request) -> Response:
        body = request.get_json()
        assert request.headers[SIGNATURE] == signature_of(body, self._secret)
        assert request.args["eventtype"] == body["eventType"]
        self.bodies.append(body)
        status = self.statuses.pop(0) if self.statuses else 200
        self._arrived.release()
        content = b"" if status in (204, 304) else b"canary"
        return Response(content, status, {"Location": "/canary", "X-Canary": "canary"})
