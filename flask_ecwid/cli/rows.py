"""The lines of a file in bounded memory, however long a line is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import AnyStr, Generic, Protocol, TypeVar

MOST = 8 * 1024 * 1024  # the size limit of a reply of Ecwid, so every exported customer fits
_PIECE = 64 * 1024
_Line = TypeVar("_Line", str, bytes, covariant=True)


class RowTooLong(Exception):
    """A row is longer than `MOST`. The next line is the first line of the next row."""


class _File(Protocol[_Line]):
    def readline(self, size: int, /) -> _Line: ...


class Lines(Generic[AnyStr]):
    """The lines of a text or binary file.

    Call `begin_row` before each row. A row may have several lines, as in CSV.
    """

    def __init__(self, file: _File[AnyStr], quote: AnyStr | None = None) -> None:
        """Read nothing yet.

        Args:
            file: the file.
            quote: the sign around the texts of a row. A line end in such a text ends no row.
        """
        self._file: _File[AnyStr] = file
        self._quote: AnyStr | None = quote
        self._number = 0  # of the lines that were read
        self._left = MOST  # how much longer the current row may be
        self._quotes = 0  # in the current row
        self._is_cut = False  # True after a piece of a line that may end between CR and LF

    def begin_row(self) -> int:
        """Begin a row, and return the number of its first line."""
        self._left = MOST
        self._quotes = 0
        return self._number + 1

    def __iter__(self) -> Iterator[AnyStr]:
        return self

    def __next__(self) -> AnyStr:
        """Return the next line.

        Raises:
            RowTooLong: The row with this line is too long.
            StopIteration: The file has no further line.
        """
        line = self._piece(self._left + 1)
        if not line:
            raise StopIteration
        self._number += 1
        if len(line) > self._left:
            self._skip_row(line)
            raise RowTooLong
        self._left -= len(line)
        return line

    def _piece(self, size: int) -> AnyStr:
        """Return a line, or the first part of a longer line."""
        piece = self._file.readline(size)
        if self._is_cut and piece == "\n":
            piece = self._file.readline(size)
        self._is_cut = len(piece) == size and piece[-1:] == "\r"
        if self._quote is not None:
            self._quotes += piece.count(self._quote)
        return piece

    def _skip_row(self, piece: AnyStr) -> None:
        # CR alone ends a line of text, and no line of bytes.
        ends = ("\n", "\r") if isinstance(piece, str) else (b"\n",)
        while piece:
            if piece[-1:] in ends:
                if self._quotes % 2 == 0:
                    return
                # Without the quotes, the rest of a long text would count as rows of the file.
                self._number += 1
            piece = self._piece(_PIECE)
