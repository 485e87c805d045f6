"""A log line as text or JSON, and the handler that writes JSON lines without a lock.

A system call hands the interpreter over to another thread, which costs more than the line itself.
So the lines of a request are written together, and those of reads together with other requests'.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from select import select

import orjson

from .. import clock

SOON_S = 0.05  # How long a line waits for others at most.
_PLAIN = re.compile(r"[!-<>-~]+")  # visible ASCII without the equals sign
# Attributes of every record, and two that other formatters add. All others are fields.
_COMMON = {*vars(logging.makeLogRecord({})), "message", "asctime"}


class Facts:
    """A message that repeats the fields of its record. Only a formatter of text builds the text."""

    def __init__(self, fields: dict[str, object]) -> None:
        """Take the fields, which the record also gets as its `extra`."""
        self._fields = fields

    def __str__(self) -> str:
        """Return the fields, with quotes around a value that a blank would otherwise end."""
        return " ".join(
            f"{name}={json.dumps(value)}"
            if isinstance(value, str) and not _PLAIN.fullmatch(value)
            else f"{name}={value}"
            for name, value in self._fields.items()
        )


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON, with the fields of its `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. A message of `Facts` is left out, because its fields are in the line."""
        at = datetime.fromtimestamp(record.created).isoformat(" ", "milliseconds")
        line: dict[str, object] = {
            "asctime": at.replace(".", ","),  # as logging writes the time
            "levelname": record.levelname,
            "process": record.process,
            "name": record.name,
        }
        if not isinstance(record.msg, Facts):
            line["message"] = record.getMessage()
        line |= {name: value for name, value in vars(record).items() if name not in _COMMON}
        if record.exc_info:
            line["exc_info"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack_info"] = self.formatStack(record.stack_info)
        try:
            return orjson.dumps(line, default=str).decode()
        except orjson.JSONEncodeError:  # orjson refuses a lone surrogate and an integer of 65 bits.
            return json.dumps(line, default=str)


@dataclass
class _Waiting:
    """The lines that one process writes soon. A forked process has lines of its own."""

    process: int = field(default_factory=clock.process_id)
    lines: deque[bytes] = field(default_factory=deque)
    is_due: bool = False  # A thread is about to write the lines.


class StderrHandler(logging.Handler):
    """Writes each line with one system call and no lock, so no thread waits for another's write.

    The system does not mix writes of 4 kB or less. Processes may mix the lines of a longer write.
    """

    def __init__(self, descriptor: int = 2) -> None:
        """Write to this file descriptor."""
        super().__init__()
        self._descriptor = descriptor
        self._waiting = _Waiting()

    def handle(self, record: logging.LogRecord) -> bool:
        """Apply the filters and write the record, as `logging` does, but without the lock."""
        kept = self.filter(record)
        if kept:
            # Since Python 3.12 a filter may return another record.
            self.emit(kept if isinstance(kept, logging.LogRecord) else record)
        return bool(kept)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record before this method returns, unless a block of `together` has it."""
        try:
            line = f"{self.format(record)}\n".encode()
        except Exception:
            self.handleError(record)
            return
        block = _block.get()
        if block is None or block.is_over:
            self.write(line)
        else:
            block.lines[self] = block.lines.get(self, b"") + line

    def write(self, lines: bytes) -> None:
        """Write lines, or drop them if stderr is closed or its disk is full."""
        with suppress(OSError):
            while lines:
                try:
                    lines = lines[os.write(self._descriptor, lines) :]
                except BlockingIOError:  # another process has made a full pipe non-blocking
                    select([], [self._descriptor], [])

    def write_soon(self, lines: bytes) -> None:
        """Write lines within `SOON_S`, together with those that come meanwhile."""
        waiting = self._waiting
        if waiting.process != clock.process_id():
            waiting = self._waiting = _Waiting()
        waiting.lines.append(lines)
        if not waiting.is_due:
            waiting.is_due = True
            try:
                clock.call_later(SOON_S, lambda: self._write_waiting(waiting))
            except RuntimeError:
                self._write_waiting(waiting)

    def flush(self) -> None:
        """Write the lines that wait. `logging` calls this method when the process ends."""
        if self._waiting.process == clock.process_id():
            self._write_waiting(self._waiting)

    def _write_waiting(self, waiting: _Waiting) -> None:
        waiting.is_due = False  # First, so that a line which comes now is taken or gets a thread.
        lines = b""
        while waiting.lines:
            with suppress(IndexError):  # Another thread writes as well.
                lines += waiting.lines.popleft()
        self.write(lines)


class _Block:
    """The lines of a block of `together`."""

    def __init__(self) -> None:
        self.lines: dict[StderrHandler, bytes] = {}
        # A thread or task that the block has started keeps the block, and may log after its end.
        self.is_over = False


_block: ContextVar[_Block | None] = ContextVar("flask_ecwid_lines", default=None)


@contextmanager
def together(*, at_once: bool) -> Iterator[None]:
    """Write the lines of the block together, at its end or within `SOON_S`."""
    block = _Block()
    token = _block.set(block)
    try:
        yield
    finally:
        _block.reset(token)
        block.is_over = True
        for handler, lines in block.lines.items():
            if at_once:
                handler.write(lines)
            else:
                handler.write_soon(lines)
