"""All customers into a file, or into a pipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from ..client import EcwidClient
from ..client.pagination import CustomerIterator
from .files import Writer
from .resumable import Unfinished


def expected(client: EcwidClient, filters: dict[str, Any]) -> int:
    """How many customers there are, as Ecwid counts them now."""
    client.take_turn()
    page = client.patiently(lambda: client.list_customers(**{**filters, "limit": 1}))
    return int(page.get("total") or 0)


def into_file(customers: CustomerIterator, writer: Writer, file: Unfinished) -> Iterator[int]:
    """Write them; after each page gives how many came since the one before, which are kept now.

    Raises:
        EcwidError: a page could not be read. What is kept is gone on with later.
    """
    if file.kept.whole:  # all but put in its place
        file.finish()
        return
    data = b"" if file.resumed else writer.head(marked=True)
    count = 0
    for customer in customers:
        data += writer.row(customer)
        count += 1
        if customers.page_is_over:
            file.add(data, customers=count, cursor=customers.cursor)
            yield count
            data, count = b"", 0
    file.add(data, customers=count, cursor=customers.cursor)
    yield count
    file.finish()


def into_pipe(customers: CustomerIterator, writer: Writer, pipe: BinaryIO) -> Iterator[int]:
    """Write them, each page when it is there."""
    pipe.write(writer.head(marked=False))
    count = 0
    for customer in customers:
        pipe.write(writer.row(customer))
        count += 1
        if customers.page_is_over:
            pipe.flush()
            yield count
            count = 0
    pipe.flush()
    yield count
