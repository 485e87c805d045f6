"""The changes of a store's customers, each once and in the order of time.

The updates come from Ecwid's search, and the deletions from Ecwid's list of deletions, because the
search shows no deleted customer. Without a cursor, the feed begins with the update that is oldest,
so all customers come first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

from .. import clock
from ..errors import Violation
from .change_cursor import Part, Place
from .deletions import FOREVER, Deletions
from .overlap_ids import LAG_S
from .page_reader import PAGE_SIZE, PageReader, Skipped
from .types import Customer, CustomerPage, DeletionPage
from .updates import Updates


@dataclass(frozen=True)
class CustomerUpdated:
    """A customer that was created or changed, with all members. The repr shows only the id."""

    customer: Customer = field(repr=False)

    @property
    def customer_id(self) -> int:
        """The id of the customer."""
        return self.customer["id"]

    def __repr__(self) -> str:
        return f"CustomerUpdated(customer_id={self.customer_id})"


@dataclass(frozen=True)
class CustomerDeleted:
    """A customer that was deleted, perhaps one that never came. `deleted_at` is in UTC."""

    customer_id: int
    deleted_at: datetime


@dataclass(frozen=True)
class CustomerUnreadable:
    """A customer that was created or changed, and whose data violates the contract.

    The id is None if Ecwid's page shows no id.
    """

    customer_id: int | None
    violations: Sequence[Violation]


Change = CustomerUpdated | CustomerDeleted | CustomerUnreadable


class ChangeIterator(Iterator[Change]):
    """An iterator over the changes since a cursor.

    - Each customer comes whose creation or last change is not in the cursor. If a customer changes
      several times between two readings, the last change comes.
    - Each deletion comes, also of a customer that never came. After its deletion, no change of a
      customer comes.
    - No change comes twice. Two versions of a customer are two changes, even in the same second.
    - The changes come in the order of Ecwid's dates. A change that Ecwid shows late comes late.

    The promise has one condition. The lag of the search and the difference between the clocks are
    at most 5 minutes together (`LAG_S`).

    `next` raises an error that occurs while a page is read. Calling `next` again continues at the
    same place.
    """

    def __init__(
        self,
        list_page: Callable[..., CustomerPage],
        list_deleted: Callable[..., DeletionPage],
        *,
        cursor: str | None = None,
        before_call: Callable[[], None] = lambda: None,
        get_customer: Callable[[int, str | None], Customer] | None = None,
        store: str = "",
        limit: int = PAGE_SIZE,
    ) -> None:
        """Begin with all customers, or with the changes since the cursor.

        Args:
            list_page: Returns Ecwid's page of customers for a query.
            list_deleted: Returns Ecwid's page of deletions for a query.
            cursor: The `cursor` of an earlier iterator.
            before_call: Is called before each call.
            get_customer: Returns a customer by the id.
            store: A name of the store. The ids of a cursor mean nothing in another store.
            limit: The customers on a page.

        Raises:
            CursorExpired: The cursor is older than six months.
            ValueError: The cursor is damaged, or belongs to another store.
        """
        self._store = store
        now = clock.wall()
        if cursor is None:
            self._place = Place(Part(0), Part(max(0, int(now) - LAG_S)))
        else:
            self._place = Place.from_cursor(cursor, store, now)
        reader = PageReader(list_page, before_call, get_customer, selection=None)
        self._updates = Updates(reader, limit, self._place)
        self._deletions = Deletions(list_deleted, before_call, limit, self._place.deletions)
        self._is_over = False

    def __iter__(self) -> ChangeIterator:
        return self

    def __next__(self) -> Change:
        while not self._is_over:
            if (change := self._step()) is not None:
                return change
        raise StopIteration

    @property
    def cursor(self) -> str:
        """The place after the change that came last, as a text of ids, dates and digests."""
        return self._place.to_cursor(self._store)

    @property
    def ended_early(self) -> bool:
        """True if the changes of a burst are left for a later reading.

        A reading ends early if the cursor would have to remember too many changes of the last
        minutes.
        """
        return self._updates.is_cut or self._deletions.is_cut

    def _step(self) -> Change | None:
        """Read a page, or return the next change in memory."""
        updates, deletions = self._updates, self._deletions
        updated_at = updates.second
        if updated_at is None and not updates.is_over:
            updates.read()
            return None
        # Each deletion up to `wanted` comes before the next update, so it has to be in memory.
        wanted, newest = FOREVER, FOREVER
        if updated_at is not None:
            wanted, newest = updated_at, updates.newest
        deleted_at = deletions.second
        if deleted_at is None and deletions.until < wanted:
            deletions.read(newest)
            return None
        if deleted_at is not None and deleted_at <= wanted:
            return self._take_deletion()
        if updated_at is not None:
            return self._take_update()
        deletions.finish()
        self._is_over = True
        return None

    def _take_deletion(self) -> CustomerDeleted | None:
        deletion = self._deletions.take()
        if deletion is None:
            return None
        deleted_at = datetime.fromtimestamp(deletion.second, timezone.utc)
        return CustomerDeleted(deletion.customer_id, deleted_at)

    def _take_update(self) -> CustomerUpdated | CustomerUnreadable | None:
        id = self._updates.customer_id
        if id is not None and self._deletions.has(id):
            self._updates.leave_out()  # The search lags behind the deletion.
            return None
        found = self._updates.take()
        if isinstance(found, Skipped):
            return CustomerUnreadable(found.customer_id, found.errors)
        return None if found is None else CustomerUpdated(found)
