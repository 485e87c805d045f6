"""A host's addresses, in bounded time: the operating system's resolver knows no deadline."""

from __future__ import annotations

import os
import socket
import threading
from concurrent.futures import Future

_under_way: dict[tuple[int, str], Future[list[str]]] = {}  # by process: no thread survives a fork


def addresses(host: str, within_s: float) -> list[str]:
    """The addresses of a host, in the resolver's order.

    Who asks for the same host while the resolver is busy with it waits for the same answer: a
    resolver that hangs costs one thread, until it gives up.

    Raises:
        socket.gaierror: there are none, or not within the time.
    """
    try:
        return _resolved(host, socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass
    mine: Future[list[str]] = Future()
    asked = _under_way.setdefault((os.getpid(), host), mine)
    if asked is mine:
        threading.Thread(target=_ask, args=(host, mine), name="resolver", daemon=True).start()
    try:
        return asked.result(within_s)
    except socket.gaierror:
        raise
    except Exception:  # no answer in time; a name that is none is a UnicodeError
        raise socket.gaierror(socket.EAI_AGAIN, "no answer") from None


def _ask(host: str, answer: Future[list[str]]) -> None:
    try:
        answer.set_result(_resolved(host))
    except Exception as exc:
        answer.set_exception(exc)
    finally:
        del _under_way[os.getpid(), host]


def _resolved(host: str, flags: int = 0) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=flags)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
