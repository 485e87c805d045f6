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
        try:
            threading.Thread(target=_ask, args=(host, mine), name="resolver", daemon=True).start()
        except RuntimeError as exc:  # no thread can be had; for the next one, perhaps
            _answer(host, mine, exc)
    try:
        return asked.result(within_s)
    except socket.gaierror:
        raise
    except Exception:  # no answer in time; a name that is none is a UnicodeError
        raise socket.gaierror(socket.EAI_AGAIN, "no answer") from None


def _ask(host: str, answer: Future[list[str]]) -> None:
    try:
        found: list[str] | Exception = _resolved(host)
    except Exception as exc:
        found = exc
    _answer(host, answer, found)


def _answer(host: str, answer: Future[list[str]], found: list[str] | Exception) -> None:
    del _under_way[os.getpid(), host]
    if isinstance(found, Exception):
        answer.set_exception(found)
    else:
        answer.set_result(found)


def _resolved(host: str, flags: int = 0) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=flags)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
