"""The calls of the last minute in the host's file.

`Window.take` says how calls are counted. Its usual case is one statement here, so SQLite holds the
lock of the file only for microseconds. In a transaction of several statements, a thread would wait
for the interpreter while it holds the lock. The other threads would then wait for both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .. import chance
from .state import Taken
from .window import SPAN_S, Window

if TYPE_CHECKING:
    import sqlite3

# A thread may count after another thread that has read the clock later. A call that is further in
# the future is from before the clock was set back.
_LATER_S = 5

# All times are whole seconds of the clock of the file.
SCHEMA = (
    "CREATE TABLE windows (name TEXT PRIMARY KEY, epoch TEXT NOT NULL, began INTEGER NOT NULL,"
    " closed_until INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE calls (name TEXT, second INTEGER, count INTEGER NOT NULL,"
    " PRIMARY KEY (name, second)) WITHOUT ROWID",
)
# Counts calls, unless the window is full or closed, or has to change first.
COUNT = """
INSERT INTO calls SELECT :name, :second, :calls FROM windows
WHERE name = :name AND :seen IN ('', epoch) AND began <= :second AND closed_until <= :second
  AND NOT EXISTS (SELECT 1 FROM calls WHERE name = :name AND second > :later)
  AND (SELECT ifnull(sum(count), 0) FROM calls WHERE name = :name AND second > :over)
    + :calls <= :limit
ON CONFLICT (name, second) DO UPDATE SET count = count + excluded.count
"""
TAKE_BACK = "UPDATE calls SET count = max(0, count - ?) WHERE name = ? AND second = ?"
READ = """
SELECT epoch, began, closed_until, sum(count), min(second), max(second)
FROM windows LEFT JOIN calls ON calls.name = windows.name AND second > :over
WHERE windows.name = :name GROUP BY windows.name
"""
# Deletes what is over. A process remembers the epoch of a window for `SPAN_S` after its last call,
# so a window stays for longer. Otherwise its successor would count as a loss of calls.
SWEEP = (
    "DELETE FROM calls WHERE second <= :long_over",
    "DELETE FROM windows WHERE max(began, closed_until) <= :long_over"
    " AND name NOT IN (SELECT name FROM calls)",
)
# How the rows of a removed file come into the new file.
MOVES = {
    "windows": "INSERT OR IGNORE INTO windows VALUES (?, ?, ?, ?)",
    "calls": "INSERT INTO calls VALUES (?, ?, ?)"
    " ON CONFLICT (name, second) DO UPDATE SET count = count + excluded.count",
}


class Take(NamedTuple):
    """The arguments of a `State.take` at a second of the clock of the file."""

    name: str
    limit: int
    second: int
    seen: str
    calls: int = 1  # How many calls to count.

    def values(self) -> dict[str, object]:
        """Return the arguments under their names in the statements."""
        return {**self._asdict(), **moment(self.second)}


def moment(second: int) -> dict[str, object]:
    """Return a second under its name in the statements, with the bounds that depend on it."""
    return {
        "second": second,
        "later": second + _LATER_S,
        "over": second - SPAN_S,
        "long_over": second - 2 * SPAN_S,
    }


def reply(take: Take, found: tuple[Any, ...] | None, *, granted: bool) -> Taken | None:
    """Return the reply of `Window.take`, or None if the window has to change first.

    Args:
        take: The arguments.
        found: The row that `READ` found, or None if there is no window.
        granted: `COUNT` has counted the calls.
    """
    if found is None:
        return None
    epoch, began, closed_until, used, oldest, newest = found
    is_known = began <= take.second and take.seen in ("", epoch)
    # The clock of the file can be set back, if it is the wall clock.
    if not is_known or max(newest or 0, closed_until - SPAN_S) > take.second + _LATER_S:
        return None
    is_open = closed_until <= take.second
    remaining = max(0, take.limit - (used or 0)) if is_open else 0
    if remaining and not granted:
        return None  # Another process has made the window after `COUNT`.
    first = take.second - SPAN_S if oldest is None else oldest
    frees_at = max(first + SPAN_S, closed_until)
    return Taken(granted, remaining, max(0, frees_at - take.second), epoch, 1)


def take_and_change(db: sqlite3.Connection, take: Take) -> Taken:
    """Count a call in a window that is new, has lost calls, or has calls of the future.

    The caller has begun a transaction that writes.
    """
    found = db.execute("SELECT * FROM windows WHERE name = ?", [take.name]).fetchone()
    if found is None or found[2] > take.second:  # The host has started again.
        window = Window(chance.token_hex(8), take.second)
    else:
        _, epoch, began, closed_until = found
        calls = db.execute("SELECT second, count FROM calls WHERE name = ?", [take.name])
        window = Window(epoch, began, closed_until, {str(at): count for at, count in calls})
    taken = window.take(take.second, take.limit, "", take.seen)
    head = [take.name, window.epoch, window.began, window.closed_until]
    db.execute("REPLACE INTO windows VALUES (?, ?, ?, ?)", head)
    db.execute("DELETE FROM calls WHERE name = ?", [take.name])
    counts = [(take.name, int(at), count) for at, count in window.counts.items()]
    db.executemany("INSERT INTO calls VALUES (?, ?, ?)", counts)
    return taken
