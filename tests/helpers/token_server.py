"""A fake Ecwid with many stores, which counts the calls by token."""

from __future__ import annotations

import json
import re
import socket
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from .raw_server import Call, ScriptedServer

Entry = tuple[float, str, str]  # the moment, the number of the store and the token of a call


class TokenServer(ScriptedServer):
    """An Ecwid that accepts the given token of each store, and refuses every other pair.

    Every store has customer 7, whose `taxId` is the number of the store.
    """

    def __init__(self, tokens: Mapping[str, str]) -> None:
        super().__init__(self._reply)
        self.tokens = dict(tokens)  # The keys are the numbers of the stores.
        self.accepted: list[Entry] = []
        self.refused: list[Entry] = []

    def __enter__(self) -> TokenServer:
        super().__enter__()
        return self

    def refusals(self) -> Counter[str]:
        """Return the number of refused calls of each token."""
        return Counter(token for _, _, token in self.refused)

    def refused_at_once(self, seconds: float = 60.0) -> int:
        """Return the most refused calls within so many seconds."""
        moments = sorted(at for at, _, _ in self.refused)
        return max(
            (sum(at <= each < at + seconds for each in moments) for at in moments), default=0
        )

    def _reply(self, connection: socket.socket, call: Call) -> bool:
        found = re.search(rb"(?i)\r\nAuthorization: Bearer ([!-~]+)", call.headers)
        token = found[1].decode() if found else ""
        store_id = call.path.split("/")[3]
        is_known = self.tokens.get(store_id) == token
        entries = self.accepted if is_known else self.refused
        entries.append((time.monotonic(), store_id, token))
        status, document = 403, {"errorCode": "INVALID_API_TOKEN", "errorMessage": "no"}
        if is_known:
            status, document = 200, _document(call, store_id)
        body = json.dumps(document).encode()
        head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return True


def _document(call: Call, store_id: str) -> dict[str, Any]:
    customer = {"id": 7, "taxId": store_id}
    page = {"total": 1, "count": 1, "offset": 0, "limit": 1, "items": [customer]}
    documents: dict[str, dict[str, Any]] = {
        "get_customer": customer,
        "add_customer": {"id": 8},
        "update_customer": {"updateCount": 1},
        "delete_customer": {"deleteCount": 1},
    }
    return documents.get(call.kind, page)
