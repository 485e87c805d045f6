"""A simulated store with one customer, for tests that tell old responses from new ones."""

from __future__ import annotations

from collections.abc import Callable

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from ..conftest import STORE
from .waiting import happens


class StoreOfOne:
    """A simulated store with one customer, whose language changes with every write."""

    def __init__(self, ecwid: HTTPServer) -> None:
        self.languages = 0
        self.reads = 0
        self.status = 200
        self.customer_id: object = 7
        self.on_read: Callable[[], None] = lambda: None
        self.on_write: Callable[[], object] = lambda: None
        ecwid.expect_request(f"{STORE}/customers/7", method="GET").respond_with_handler(self.get)
        ecwid.expect_request(f"{STORE}/customers", method="GET").respond_with_handler(self.list)
        for path, method in (("/7", "PUT"), ("/7", "DELETE"), ("", "POST")):
            ecwid.expect_request(f"{STORE}/customers{path}", method=method).respond_with_handler(
                self.write
            )

    def get(self, _: Request) -> Response:
        self.reads += 1
        self.on_read()
        body = f'{{"id": {self.customer_id}, "lang": "x{self.languages}"}}'
        return Response(body, self.status, content_type="application/json")

    def list(self, _: Request) -> Response:
        self.reads += 1
        item = f'{{"id": 7, "lang": "x{self.languages}"}}'
        page = f'{{"total": 1, "count": 1, "offset": 0, "limit": 100, "items": [{item}]}}'
        return Response(page, content_type="application/json")

    def write(self, request: Request) -> Response:
        self.on_write()
        self.languages += 1
        reply = {"PUT": "updateCount", "DELETE": "deleteCount", "POST": "id"}[request.method]
        return Response(f'{{"{reply}": 1}}', self.status, content_type="application/json")

    def is_written(self) -> bool:
        """Return True as soon as Ecwid has executed a write."""
        return happens(lambda: self.languages > 0)


def becomes(language: str, read: Callable[[], str]) -> bool:
    """Return True as soon as a read shows the language."""
    return happens(lambda: read() == language)
