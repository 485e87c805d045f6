"""The report of an import, which lists the refused rows without any value of a customer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from types import TracebackType

import click
import orjson

from .. import private_files
from . import terminal

_MOST_BYTES = 64 * 1024  # longer than the first line of any report
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

    @staticmethod
    def is_json(line: bytes) -> bool:
        """Return whether a line of JSON has the form of a refusal."""
        try:
            members = orjson.loads(line)
        except ValueError:
            return False
        return isinstance(members, dict) and _NEEDED <= members.keys() <= _MEMBERS

    def to_json(self) -> bytes:
        """Return the refusal as a line of JSON."""
        members = {name: value for name, value in asdict(self).items() if value is not None}
        return orjson.dumps(members, option=orjson.OPT_APPEND_NEWLINE)


_MEMBERS = {member.name for member in fields(Refusal)}
_NEEDED = {member.name for member in fields(Refusal) if member.default is MISSING}


class Report:
    """The refusals of an import, in a file or as a short list on the standard error.

    If the file cannot be written any more, the standard error gets all further ones. Otherwise
    a full disk would end an import that can still create customers.
    """

    def __init__(self, path: Path | None) -> None:
        """Create the file, or empty the report of an earlier run.

        Raises:
            click.UsageError: The file cannot be a report, or holds other data.
        """
        self._lines: set[int] = set()
        self._shown: set[int] = set()
        self._path = path
        self._fd: int | None = None
        self._bytes = 0  # the bytes of the whole lines in the file
        self._is_new = False
        if path:
            try:
                self._open(path)
            except OSError as exc:
                reason = terminal.describe_file(str(path), exc)
                raise click.UsageError(f"--report: {reason}") from None

    def _open(self, path: Path) -> None:
        earlier = private_files.peek(path, _MOST_BYTES)
        self._is_new = earlier is None
        # Without the check, two exchanged arguments would empty a file of the user.
        if earlier and not Refusal.is_json(earlier.partition(b"\n")[0]):
            raise click.UsageError(
                f"--report: {path} holds other data than a report, so choose another file"
            )
        self._fd = private_files.open_or_create(path)
        os.ftruncate(self._fd, 0)

    @property
    def rows(self) -> int:
        """The number of refused rows. A row can have several refusals."""
        return len(self._lines)

    def add(self, refusal: Refusal) -> None:
        """Write the refusal into the file.

        Without a file, show the refusals of the first rows. After a full disk, show all.
        """
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
        if self._path or len(self._shown) <= _SHOWN:
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._close()
        except OSError as exc:  # some file systems report a full disk as late as here
            self._give_up(exc)
        is_refused = isinstance(error, click.UsageError) or (
            isinstance(error, SystemExit) and error.code == terminal.USAGE_ERROR
        )
        if self._path and self._is_new and is_refused:  # a refused command leaves nothing behind
            self._path.unlink(missing_ok=True)
