"""The ids of customers that a later page may show again, in few bytes. Pure, without I/O."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Iterator
from itertools import accumulate, islice

LAG_S = 300  # The most of the search lag and the difference between Ecwid's clock and ours.
UNDATED = -1  # Stands for a date that cannot be read. Every date that can be read is 0 or later.


class OverlapIds:
    """The ids of returned customers that a later page may show again.

    Ids are grouped by a second, so that a whole second can be forgotten. The ids of a `Crowd` are
    grouped by the offset of their page instead.
    """

    def __init__(self) -> None:
        self._by_second: dict[int, set[int]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_second.values()))

    def has_anywhere(self, id: int) -> bool:
        """Return whether the id was added with any second."""
        return any(id in ids for ids in self._by_second.values())

    def has(self, id: int, second: int) -> bool:
        """Return whether the id was added with this second."""
        return id in self._by_second.get(second, ())

    def add(self, id: int, second: int) -> None:
        """Remember an id."""
        self._by_second.setdefault(second, set()).add(id)

    def forget_before(self, watermark: int) -> None:
        """Forget older seconds. Undated ids stay, because any page may show them again."""
        for second in list(self._by_second):
            if UNDATED < second < watermark:
                del self._by_second[second]

    def forget_from(self, second: int) -> None:
        """Forget the seconds from this second on."""
        for each in list(self._by_second):
            if each >= second:
                del self._by_second[each]

    def pack(self) -> str:
        """Return the ids as text.

        For each second, the text holds the distance from the second before, the number of ids, and
        the distances between the ids. Small numbers take fewer bytes, so distances make the text
        short. An id takes one character if ids are 20 apart on average, and two characters if ids
        are 900 apart.
        """
        packed = bytearray()
        before = UNDATED
        for second in sorted(self._by_second):
            ids = sorted(self._by_second[second])
            _append(packed, second - before)
            _append(packed, len(ids))
            id_before = 0
            for id in ids:
                _append(packed, id - id_before)
                id_before = id
            before = second
        return base64.urlsafe_b64encode(zlib.compress(packed)).decode()

    @classmethod
    def unpack(cls, text: str) -> OverlapIds:
        """Return the ids of a text that `pack` made."""
        unpacked = cls()
        numbers = _numbers(zlib.decompress(base64.urlsafe_b64decode(text)))
        second = UNDATED
        for distance in numbers:
            second += distance
            count = next(numbers)
            unpacked._by_second[second] = set(accumulate(islice(numbers, count)))
        return unpacked


def _append(packed: bytearray, number: int) -> None:
    """Append a number as a varint, which has seven bits in each byte, the lowest bits first."""
    while number > 127:
        packed.append(number & 127 | 128)
        number >>= 7
    packed.append(number)


def _numbers(packed: Iterable[int]) -> Iterator[int]:
    """Yield the numbers of varints."""
    number = shift = 0
    for byte in packed:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield number
            number = shift = 0
