"""A place in the changes of a store, and its text, the cursor. Pure, without I/O.

A place has a part for the updates and a part for the deletions. Each part has a floor. Everything
before the floor has come and cannot change any more. The ids say what has come since the floor, so
that an overlap shows nothing twice.

A part holds at most `MOST_IDS` ids of the last `LAG_S` seconds. A feed that has so many ends early,
and a later feed goes on when the ids are older. So a burst of changes may come `LAG_S` later. No
change is lost or doubled.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from .cursors import read_cursor, write_cursor
from .overlap_ids import LAG_S, OverlapIds

KEPT_S = 181 * 86_400  # Ecwid lists a deletion for six months, which have 181 days at least.
MOST_IDS = 10_000
FEW_IDS = 100  # So many ids cost one page at each reading, although their seconds are settled.
CROWD_PAGES = 100  # The pages of a crowd whose ids are remembered.

_NUMBER = r"(\d{1,12})"
_IDS = r"([\w=-]+)"
_FORM = re.compile(
    rf"([0-9a-f]{{16}})\.{_NUMBER}\.{_IDS}\.{_NUMBER}\.{_IDS}(?:\.{_NUMBER}\.{_NUMBER}\.{_IDS})?",
    flags=re.ASCII,
)


class CursorExpired(ValueError):
    """The cursor is older than six months, so Ecwid no longer lists all deletions since then.

    Begin again without a cursor. Then call `get_customer` for each customer of your copy that does
    not come. Remove the customer only after a `CustomerNotFound` with `by_ecwid`.
    """


@dataclass
class Part:
    """The place in the updates or in the deletions."""

    floor: int
    ids: OverlapIds = field(default_factory=OverlapIds)

    def settle(self, started_at: int, reached: int) -> None:
        """Raise the floor, and forget the ids before the floor.

        Every change before `reached` has come, and was read after `started_at`. A change from
        `LAG_S` before a reading is shown for certain. Ecwid's own dates say how late it is. Our
        clock counts only if there are more ids than `FEW_IDS`, because our clock may be wrong.

        Args:
            started_at: The UNIX seconds at which the reading began.
            reached: The UNIX seconds before which every change has come.
        """
        self.floor = max(self.floor, min(started_at, reached) - LAG_S)
        self.ids.forget_before(self.floor)
        if len(self.ids) > FEW_IDS:
            self.floor = max(self.floor, min(started_at - LAG_S, reached))
            self.ids.forget_before(self.floor)

    def is_full(self) -> bool:
        """Return whether the part may hold no further id."""
        return len(self.ids) >= MOST_IDS


@dataclass
class Crowd:
    """A second with more updates than a page, whose list has come from the offset `end` on."""

    second: int
    end: int | None = None  # None until the size of the crowd is known.
    ids: OverlapIds = field(default_factory=OverlapIds)  # Grouped by the offset of their page.

    def move_to(self, end: int, page: int) -> None:
        """Go to an earlier offset, and forget the ids that a page of this size cannot show again.

        A page shows a customer again if other customers have left the second meanwhile.
        """
        self.end = end
        self.ids.forget_from(end + CROWD_PAGES * page)


@dataclass
class Place:
    """A place in the changes of a store."""

    updates: Part
    deletions: Part
    crowd: Crowd | None = None

    def to_cursor(self, store: str) -> str:
        """Return the cursor of this place, which is valid for one store."""
        parts: list[object] = [_digest(store)]
        for part in (self.updates, self.deletions):
            parts += [part.floor, part.ids.pack()]
        if self.crowd is not None and self.crowd.end is not None:
            parts += [self.crowd.second, self.crowd.end, self.crowd.ids.pack()]
        return write_cursor(*parts)

    @classmethod
    def from_cursor(cls, cursor: str, store: str, now: float) -> Place:
        """Return the place of a cursor.

        Args:
            cursor: The text that `to_cursor` returned.
            store: The name of the store.
            now: The present time in UNIX seconds.

        Raises:
            CursorExpired: The cursor is older than six months.
            ValueError: The cursor is damaged, or belongs to another store.
        """
        digest, *parts = read_cursor(cursor, _FORM, "iter_changes")
        if digest != _digest(store):
            raise ValueError("the cursor belongs to another store")
        floor, ids, deletions_floor, deletion_ids, second, end, crowd_ids = parts
        updates = Part(int(floor), OverlapIds.unpack(ids))
        deletions = Part(int(deletions_floor), OverlapIds.unpack(deletion_ids))
        if now - deletions.floor > KEPT_S:
            raise CursorExpired("the cursor is older than six months, so begin without a cursor")
        crowd = None
        if second is not None:
            crowd = Crowd(int(second), int(end), OverlapIds.unpack(crowd_ids))
        return cls(updates, deletions, crowd)


def _digest(store: str) -> str:
    return hashlib.blake2b(f"changes of {store}".encode(), digest_size=8).hexdigest()
