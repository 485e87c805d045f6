"""The addresses of a host, in bounded time, because the system's resolver takes no timeout."""

from __future__ import annotations

import socket

from .. import clock


def addresses(host: str, timeout_s: float) -> list[str]:
    """Return the addresses of a host, in the resolver's order.

    Raises:
        TimeoutError: The resolver did not reply in time.
        socket.gaierror: The host has no address.
    """
    try:
        return _resolved(host, socket.AI_NUMERICHOST)
    except socket.gaierror:
        return clock.call_within(timeout_s, f"resolve {host}", _resolved, host)
    except UnicodeError:
        pass
    raise socket.gaierror(socket.EAI_NONAME, "the name is not valid")


def _resolved(host: str, flags: int = 0) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=flags)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
