"""A violation of a row of CSV -> the cells that it is about. The module is pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..contract.schema import pointer
from ..errors import Violation
from .columns import counting
from .header import Header, letters

# A cell may be more than the member of JSON that the contract describes.
_BOOLEAN = "`true`, `false`, `yes`, `no`, `ja`, `nein`, `wahr`, `falsch`, `1` or `0`, in any case."
_JSON = "JSON in the cell."


@dataclass(frozen=True)
class Cells:
    """The cells of a row below their header."""

    header: Header
    texts: Sequence[str]

    def explained(self, violation: Violation) -> Violation:
        """Return a violation of the row's customer, with the values that the cell may have."""
        numbers = self._of(violation.pointer)
        if violation.keyword != "type" or not numbers:
            return violation
        column = self.header.columns[numbers[0]]
        if column.type == "boolean":
            return violation._replace(expected=_BOOLEAN)
        if column.type == "json" and violation.pointer == pointer(column.path):
            return violation._replace(expected=f"{_JSON} {violation.expected or ''}".rstrip())
        return violation

    def columns(self, violation: Violation) -> list[str]:
        """Return the headers of the columns that a violation of the row's customer is about."""
        return self.named(self._of(violation.pointer))

    def named(self, numbers: Iterable[int]) -> list[str]:
        """Return the headers of these columns as in the file. Without a header, use the letter."""
        names = dict(enumerate(self.header.names))
        return [names.get(number) or letters(number) for number in numbers]

    def _of(self, place: str) -> list[int]:
        """Return the columns that set the member at a pointer, or that could set the member."""
        columns = self.header.columns
        able = [
            number
            for number, column in enumerate(columns)
            if column.path and f"{place}/".startswith(f"{pointer(column.path)}/")
        ]
        given = [number for number in able if self._text(number)]
        used = counting(columns[number] for number in given)
        return [number for number in given if columns[number] in used] or able

    def unused(self) -> list[str]:
        """Return the headers of the columns whose values set nothing, because others count.

        A value that one of the others also has is not lost, so its column is left out.
        """
        texts = {column: self._text(n) for n, column in enumerate(self.header.columns)}
        given = [column for column, text in texts.items() if column.path and text]
        found = []
        for column in given:
            used = counting(other for other in given if other.path == column.path)
            values = [texts[other] for other in used]
            if texts[column] not in (*values, " ".join(values)):
                found.append(self.header.columns.index(column))
        return self.named(found)

    def _text(self, number: int) -> str:
        return "".join(self.texts[number : number + 1]).strip()
