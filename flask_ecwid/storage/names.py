"""The addresses of a host, in bounded time, because the system's resolver takes no timeout."""

from __future__ import annotations

import socket

from .. import clock

POSTPONED_S = 60.0
_POSTPONED_MOST = 64

# The addresses of this process that have failed, each with the moment until which it comes last.
_postponed: dict[str, float] = {}


def addresses(host: str, timeout_s: float) -> list[str]:
    """Return the addresses of a host, in the resolver's order, with postponed addresses last.

    Raises:
        TimeoutError: The resolver did not reply in time.
        socket.gaierror: The host has no address.
    """
    try:
        found = _resolved(host, socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = clock.call_within(timeout_s, f"resolve {host}", _resolved, host)
    except UnicodeError:
        found = []
    if not found:
        raise socket.gaierror(socket.EAI_NONAME, "the name is not valid")
    if not _postponed:
        return found
    return sorted(found, key=lambda address: _postponed.get(address, 0.0) > clock.now())


def postpone(address: str) -> None:
    """Let an address come last for a while, because it has failed.

    Without it, each new connection would wait for a dead address before it tries a good one.
    """
    global _postponed
    rest = [each for each in _postponed.items() if each[0] != address]
    until = clock.now() + POSTPONED_S
    _postponed = dict([*rest[1 - _POSTPONED_MOST :], (address, until)])


def _resolved(host: str, flags: int = 0) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=flags)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
