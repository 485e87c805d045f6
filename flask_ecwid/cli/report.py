"""The report of an import, which lists the refused rows without any value of a customer."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import click
import orjson

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

    def to_json(self) -> bytes:
        """Return the refusal as a line of JSON."""
        members = {name: value for name, value in asdict(self).items() if value is not None}
        return orjson.dumps(members, option=orjson.OPT_APPEND_NEWLINE)


class Report:
    """The refusals of an import, in a file or as a short list on the standard error."""

    def __init__(self, path: Path | None) -> None:
        self._lines: set[int] = set()
        self._file: BinaryIO | None = None
        if path:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            try:
                self._file = os.fdopen(os.open(path, flags, 0o600), "wb", buffering=0)
            except OSError as exc:
                raise click.FileError(str(path), exc.strerror) from None

    @property
    def rows(self) -> int:
        """The number of refused rows. A row can have several refusals."""
        return len(self._lines)

    def add(self, refusal: Refusal) -> None:
        """Write the refusal into the file. Without a file, show the refusals of the first rows."""
        self._lines.add(refusal.line)
        if self._file:
            self._file.write(refusal.to_json())
        elif self.rows <= _SHOWN:
            place = refusal.pointer or "the row"
            expected = f". {refusal.expected}" if refusal.expected else ""
            terminal.say(f"line {refusal.line}: {place}: {refusal.keyword}{expected}")
        elif self.rows == _SHOWN + 1:
            terminal.say("More rows were refused. --report PATH writes all of them to a file.")

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()
