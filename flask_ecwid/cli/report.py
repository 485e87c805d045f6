"""The report of an import, which lists the refused rows without any value of a customer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import orjson

from .. import private_files
from . import terminal

_SHOWN = 10  # the number of refused rows that are shown if no file gets the report


@dataclass(frozen=True)
class Refusal:
    """A reason why a row was refused. Each refusal is a line of the report."""

    line: int
    type: str
    pointer: str
    keyword: str
    expected: str | None = None
    ecwid_code: str | None = None
    columns: Sequence[str] | None = None  # the headers of the columns in a CSV file

    def to_json(self) -> bytes:
        """Return the refusal as a line of JSON."""
        members = {name: value for name, value in asdict(self).items() if value is not None}
        return orjson.dumps(members, option=orjson.OPT_APPEND_NEWLINE)


class Report:
    """The refusals of an import, in a file or as a short list on the standard error.

    If the file cannot be written any more, the standard error gets the further refusals. Otherwise
    a full disk would end an import that can still create customers.
    """

    def __init__(self, path: Path | None) -> None:
        self._lines: set[int] = set()
        self._shown: set[int] = set()
        self._path = path
        self._fd: int | None = None
        self._bytes = 0  # the bytes of the whole lines in the file
        if path:
            try:
                self._fd = private_files.open_or_create(path)
                os.ftruncate(self._fd, 0)
            except OSError as exc:
                raise click.FileError(str(path), exc.strerror) from None

    @property
    def rows(self) -> int:
        """The number of refused rows. A row can have several refusals."""
        return len(self._lines)

    def add(self, refusal: Refusal) -> None:
        """Write the refusal into the file. Without a file, show the refusals of the first rows."""
        self._lines.add(refusal.line)
        if self._fd is not None:
            line = refusal.to_json()
            try:
                private_files.write(self._fd, line)
                self._bytes += len(line)
                return
            except OSError as exc:
                self._give_up(exc)
        self._show(refusal)

    def _show(self, refusal: Refusal) -> None:
        self._shown.add(refusal.line)
        if len(self._shown) <= _SHOWN:
            place = refusal.pointer or "the row"
            if refusal.columns:
                noun = "column" if len(refusal.columns) == 1 else "columns"
                place += f" ({noun} {', '.join(refusal.columns)})"
            expected = f". {refusal.expected}" if refusal.expected else ""
            terminal.say(f"line {refusal.line}: {place}: {refusal.keyword}{expected}")
        elif len(self._shown) == _SHOWN + 1:
            terminal.say("More rows were refused. --report PATH writes all of them to a file.")

    def _give_up(self, exc: OSError) -> None:
        """Keep the whole lines of the file, and say that further lines are missing."""
        if self._fd is not None:
            with suppress(OSError):
                os.ftruncate(self._fd, self._bytes)
        self._close()
        terminal.say(f"{self._path}: {exc.strerror}. The report is not complete.")

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._close()
        except OSError as exc:  # some file systems report a full disk as late as here
            self._give_up(exc)
