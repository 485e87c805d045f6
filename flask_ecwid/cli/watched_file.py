"""A file that notices while it is read whether its bytes are UTF-8."""

from __future__ import annotations

import codecs
import io
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_MARK = codecs.BOM_UTF8


class WatchedFile(io.RawIOBase):
    """A file to read, which looks at each piece of its bytes and keeps none.

    Text in another encoding is hardly ever valid UTF-8 as a whole, so valid UTF-8 is UTF-8.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._start = b""
        self._is_valid = True
        self._is_ascii = True

    @property
    def is_utf_8(self) -> bool:
        """True if the bytes so far are UTF-8 and not only ASCII, or begin with the mark of UTF-8.

        Text with NUL is UTF-16 or UTF-32, because a file of customers has no NUL.
        """
        return self._start == _MARK or (self._is_valid and not self._is_ascii)

    def readable(self) -> bool:
        """Return True, because a buffer only reads from a file that says so."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer with the next bytes. Return their number, which is 0 at the end."""
        view = memoryview(buffer)
        piece = self._file.read(len(view))
        view[: len(piece)] = piece
        if len(self._start) < len(_MARK):
            self._start = (self._start + piece)[: len(_MARK)]
        if self._is_valid:
            self._watch(piece)
        return len(piece)

    def _watch(self, piece: bytes) -> None:
        try:
            text = self._decoder.decode(piece, final=not piece)
        except UnicodeDecodeError:
            self._is_valid = False
            return
        self._is_valid = "\0" not in text
        self._is_ascii = self._is_ascii and text.isascii()
