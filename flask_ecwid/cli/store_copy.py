"""The copy of one store while a command keeps it: its readings, its messages and its failures."""

from __future__ import annotations

import click
from flask.cli import ScriptInfo

from .. import clock
from ..client import EcwidClient
from ..client.overlap_ids import LAG_S
from ..errors import EcwidError
from ..storage.event_mark import EventMark
from ..storage.state import StateUnavailable
from ..web.mount import Mount
from . import mirror, terminal
from .counting import count_customers
from .database import DatabaseFailed, ServerRefuses, WrongDatabase, open_engine
from .mirror import AnotherSync, Gap, Mirror
from .options import find_store

_MOST_PAUSE_S = 60.0  # The longest wait after a failure.
# A reading comes again so soon after an event, because Ecwid's search shows a change late. The
# changes of a burst come as late.
_AGAIN_S = 10.0
_FAILURES = (EcwidError, DatabaseFailed, AnotherSync)


def open_copies(
    info: ScriptInfo, mount: Mount, store_ids: list[str], database_url: str
) -> list[StoreCopy]:
    """Return the copies of the stores, without a connection to the database.

    Raises:
        click.UsageError: The URL cannot be used.
    """
    try:
        engine = open_engine(database_url)
    except WrongDatabase as exc:
        raise click.UsageError(str(exc)) from None
    return [StoreCopy(info, mount, each, Mirror(engine, each)) for each in store_ids]


class StoreCopy:
    """The copy of one store."""

    def __init__(self, info: ScriptInfo, mount: Mount, store_id: str, copy: Mirror) -> None:
        """Make the object, without a connection.

        Args:
            info: Loads the app, which may look up the store.
            mount: The mount that serves the store.
            store_id: The number of the store.
            copy: The rows of the store.
        """
        self._info = info
        self._mount = mount
        self._store_id = store_id
        self._mirror = copy
        self._has_tables = False
        self._was_reached = False  # The database has been there once.
        upstream = mount.stores.upstream
        digest = upstream.settings.digest_of(store_id)
        self._event_mark = EventMark(upstream.storage.shared, digest)
        self._seen_mark: bytes | None = None
        self._read_at: clock.Moment | None = None
        self._pause_s = 0.0  # between the last reading and the next
        self._failure = ""  # the failure that was said last
        self._said: list[Gap] = []  # the unreadable customers that were said last

    def update(self) -> bool:
        """Read all changes, and return whether the copy is in sync. Say the reason if not.

        Raises:
            click.UsageError: The store is gone, or the database is wrong.
        """
        try:
            while not self._read():
                clock.sleep(_AGAIN_S)
        except WrongDatabase as exc:
            raise click.UsageError(str(exc)) from None
        except _FAILURES as exc:
            self._say(f"failed: {_describe(exc)}")
            terminal.say("The same command continues the copy.")
            return False
        return not self._said

    def is_due(self) -> bool:
        """Return whether the time for another reading has come, or an event after the last one."""
        if self._read_at is None or self._read_at.elapsed_s() >= self._pause_s:
            return True
        mark = self._find_mark()
        return not self._failure and mark is not None and mark != self._seen_mark

    def follow(self, interval_s: float) -> None:
        """Read the changes, and say a failure unless it was said before.

        Args:
            interval_s: The seconds to the next reading, if nothing happens.

        Raises:
            click.UsageError: The database is wrong.
        """
        # The mark is read first, because an event during the reading needs another reading.
        before, self._seen_mark = self._seen_mark, self._find_mark()
        has_event = self._seen_mark not in (None, before)
        try:
            is_complete = self._read()
        except WrongDatabase as exc:
            raise click.UsageError(str(exc)) from None
        except (*_FAILURES, click.UsageError) as exc:
            text = _describe(exc)
            if text != self._failure:
                self._say(f"failed: {text}")
                terminal.say("The command tries again.")
            longest_s = min(interval_s, _MOST_PAUSE_S)
            self._pause_s = min(2 * self._pause_s, longest_s) if self._failure else 1.0
            self._failure = text
        else:
            if self._failure:
                self._say("in sync again")
            self._failure = ""
            is_soon = has_event or not is_complete
            self._pause_s = min(interval_s, _AGAIN_S) if is_soon else interval_s
        self._read_at = clock.Moment.seconds_ago()

    def _read(self) -> bool:
        """Read the changes, and return False if a later reading has to bring more.

        Raises:
            EcwidError: Ecwid's changes cannot be read.
            DatabaseFailed: The database cannot be used.
            AnotherSync: Another command has continued the copy.
            WrongDatabase: The tables or the cursor belong to something else. Or the server
                refuses the first connection of the command.
            click.UsageError: The store is gone.
        """
        credentials = find_store(self._info, self._mount, self._store_id)
        client = self._mount.runtime(credentials).client
        try:
            if not self._has_tables:
                self._mirror.create_tables()
                self._has_tables = self._was_reached = True
            changes = self._read_changes(client)
            if changes and terminal.is_interactive():
                customers = self._mirror.count()
                self._say(f"{changes} changes, and {customers} customers in the copy")
            gaps = self._mirror.gaps()
        except DatabaseFailed as exc:
            if isinstance(exc, ServerRefuses) and not self._was_reached:
                raise WrongDatabase(str(exc)) from None
            self._has_tables = False  # Another database may be there when the failure is over.
            raise
        if gaps != self._said:
            self._say_gaps(gaps)
        self._said = gaps
        return self._mirror.is_complete

    def _read_changes(self, client: EcwidClient) -> int:
        """Read and store the changes under a bar, and return their number."""
        changes = 0
        with terminal.progress(
            f"store {self._store_id}", lambda: _count_changes(client, self._mirror)
        ) as advance:
            for count in mirror.update(client, self._mirror):
                advance(count)
                changes += count
        return changes

    def _find_mark(self) -> bytes | None:
        try:
            return self._event_mark.find()
        except StateUnavailable:
            return self._seen_mark  # The next reading comes after the interval.

    def _say(self, text: str) -> None:
        terminal.say(f"store {self._store_id}: {text}")

    def _say_gaps(self, gaps: list[Gap]) -> None:
        for each in gaps:
            name = "without an id" if each.customer_id is None else each.customer_id
            self._say(f"customer {name} is unreadable: {each.places}")
        if gaps:
            one = len(gaps) == 1
            subject = "1 customer keeps" if one else f"{len(gaps)} customers keep"
            data = "the data" if one else "their data"
            self._say(f"{subject} an earlier row or none, because {data} violates the contract.")


def _count_changes(client: EcwidClient, copy: Mirror) -> int:
    """Return about how many changes come, for the bar."""
    copy.start()
    if copy.synced_at is None:
        # Each unseen row comes as a customer, or the command asks Ecwid for it.
        return max(copy.count_unseen(), count_customers(client, {}) - copy.count())
    since = int(copy.synced_at.timestamp()) - LAG_S
    return count_customers(client, {"updatedFrom": since})


def _describe(error: Exception) -> str:
    if isinstance(error, EcwidError):
        return terminal.describe(error)
    return error.message if isinstance(error, click.UsageError) else str(error)
