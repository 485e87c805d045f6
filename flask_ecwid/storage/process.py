"""Is the process that wrote a record gone? Only a process of the same host can tell.

A mark names a process by its host, its id and the moment of its start. A process id alone can come
again. The host is the start of the kernel and the namespace of process ids, so containers differ.
A mark holds no personal data. Without `/proc`, no process has a mark, and no process counts as
gone.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_ENDED = (b"Z", b"X")  # The process has ended, and its parent has not asked for its status.


class _Stat(NamedTuple):
    has_ended: bool
    started: str  # The ticks of the clock from the start of the kernel to the start of the process.


def own_mark() -> str:
    """Return the mark of this process, or an empty text if this system has no marks."""
    # The process id is the real one, and not that of `clock`. All processes of a simulation are one
    # process, which is not gone.
    process = os.getpid()
    host, found = _host(process), _stat(process)
    return f"{host} {process} {found.started}" if host and found else ""


def is_gone(mark: str) -> bool:
    """Return whether the process of a mark has certainly ended.

    Args:
        mark: A result of `own_mark`, perhaps of another process or host.
    """
    host, _, named = mark.rpartition(" ")[0].rpartition(" ")
    started = mark.rpartition(" ")[2]
    if not host or host != _host(os.getpid()) or not named.isdecimal():
        return False
    try:
        os.kill(int(named), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass  # The process belongs to another user.
    found = _stat(int(named))
    # `/proc` may hide a process of another user, so a missing file proves nothing.
    return found is not None and (found.has_ended or found.started != started)


def boot_id() -> str:
    """Return the id of this start of the kernel, or an empty text if the system has no such id."""
    with suppress(OSError):
        return (_PROC / "sys/kernel/random/boot_id").read_bytes().decode().strip()
    return ""


def _host(process: int) -> str:
    """Return the id of the host, or an empty text if `/proc` cannot tell of this process."""
    with suppress(OSError):
        if os.readlink(_PROC / "self") == str(process):  # Otherwise /proc is another container's.
            boot, space = boot_id(), os.readlink(_PROC / "self/ns/pid")
            return f"{boot} {space}" if boot else ""
    return ""


def _stat(process: int) -> _Stat | None:
    """Return what `/proc` tells of a process, or None.

    https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    """
    with suppress(OSError, ValueError, IndexError):
        # The name of the program stands in brackets, and may hold blanks and brackets itself.
        members = (_PROC / str(process) / "stat").read_bytes().rpartition(b")")[2].split()
        state, threads, started = members[0], members[17], members[19]
        # The main thread can end before the others.
        return _Stat(state in _ENDED and int(threads) <= 1, str(int(started)))
    return None
