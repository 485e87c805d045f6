"""The command `flask ecwid export`, which writes all customers of a store to a file or a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click
from flask.cli import ScriptInfo, pass_script_info

from .. import contract
from ..client import EcwidClient
from ..client.pagination import CustomerIterator
from ..errors import EcwidError, InvalidRequest
from . import terminal
from .columns import Columns
from .counting import count_customers
from .files import Format, Writer
from .options import format_of, format_option, load_store, store_id_option, store_option
from .resumable import CannotWrite, ResumableFile

_MOST_BYTES_OF_FILTERS = 64 * 1024  # longer than a search with every parameter


@click.command()
@click.argument("path")
@format_option
@click.option(
    "--where",
    "pairs",
    multiple=True,
    metavar="NAME=VALUE",
    help="Export only customers that match. NAME is a parameter of list_customers, but not sortBy "
    "or offset. With several, all must match.",
)
@click.option(
    "--where-file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help="Read lines of NAME=VALUE from this file, or from the standard input for -. All users of "
    "a host can see the values of --where, but not those of a file.",
)
@click.option("--resume", is_flag=True, help="Continue an export that was stopped.")
@store_option
@store_id_option
@pass_script_info
def export(
    info: ScriptInfo,
    path: str,
    file_format: Format | None,
    pairs: tuple[str, ...],
    where_file: str | None,
    resume: bool,
    store: str,
    store_id: str | None,
) -> None:
    """Write all customers to PATH, each once. The PATH - is the standard output.

    PATH appears when it is complete. Until then PATH.part grows, and PATH.resume says where to
    continue. An export may be stopped at any moment, even by kill -9, and the same command with
    --resume continues. An export uses at most half of ECWID_CALLS_PER_MINUTE, and waits when this
    half is used up.

    The files hold personal data, so only this user can read them.

    A customer whose data Ecwid sends in a form outside of the contract is left out. The export
    names the ids and the places, and goes on with the other customers.

    The exit status is 0 if all customers are there, 1 if not, and 2 if the command or the settings
    are wrong. After a signal it is 128 plus the signal's number. After a failure or a signal,
    --resume continues.

    \b
    Examples:
      flask ecwid export customers.jsonl
      flask ecwid export customers.csv --where acceptMarketing=true --where createdFrom=2026-01-01
      flask ecwid export ann.jsonl --where-file filters.txt
      flask ecwid export customers.jsonl --resume
      flask ecwid export - | wc -l
    """
    file_format = file_format or format_of(path)
    if path == "-" and resume:
        raise click.UsageError("an export to the standard output cannot be resumed")
    if where_file:
        pairs += read_pairs(where_file)
    client = load_store(info, store, store_id)[1].client
    filters = parse_filters(pairs)
    writer = Writer(file_format, Columns(contract.load()))
    try:
        with terminal.stop_at_once():
            if path == "-":
                customers = _export_to_stdout(client, filters, writer)
                left_out: Sequence[str] = left_out_of(customers)
            else:
                filters_digest = CustomerIterator.digest_of(filters)
                job = f"{client.store.digest} {file_format} {filters_digest}"
                with _open(path, job, resume) as file:
                    if resume and not file.resumed:
                        terminal.say(
                            "There is nothing to resume, so a new export begins.", success=True
                        )
                    customers = _export_to_file(client, filters, writer, file)
                left_out = file.checkpoint.left_out
                terminal.say(f"{file.checkpoint.customers} customers in {path}", success=True)
    except BrokenPipeError:
        raise  # the reader has closed the pipe, and click exits without a message
    except OSError as exc:
        reason = terminal.describe_file(path, exc)
        if not os.path.lexists(f"{path}.resume"):
            raise click.ClickException(reason) from None
        _say_failed(f"failed: {reason}", path)
        sys.exit(1)
    except terminal.Stopped as exc:
        _say_failed("stopped", path)
        sys.exit(exc.status)
    except EcwidError as exc:
        _say_failed(f"failed: {terminal.describe(exc)}", path)
        sys.exit(1)
    for each in left_out:
        terminal.say(each)
    if left_out:
        one = len(left_out) == 1
        subject = "1 customer is" if one else f"{len(left_out)} customers are"
        data = "the data" if one else "their data"
        terminal.say(f"{subject} left out, because {data} violates the contract.")
    missing = customers.difference or 0
    if missing:
        more = "more" if missing > 0 else "fewer"
        terminal.say(
            f"Ecwid counts {abs(missing)} customers {more}, because the list changed meanwhile.",
            success=missing < 0,  # customers were deleted after the export had read them
        )
    sys.exit(1 if missing > 0 or left_out else 0)


def _open(path: str, job: str, resume: bool) -> ResumableFile:
    """Begin the file of an export, or continue it.

    Raises:
        click.UsageError: The file cannot be begun or continued.
    """
    try:
        return ResumableFile(Path(path), job, resume=resume)
    except CannotWrite as exc:
        raise click.UsageError(str(exc)) from None
    except OSError as exc:
        raise click.UsageError(terminal.describe_file(path, exc)) from None


def _say_failed(why: str, path: str) -> None:
    terminal.say(why)
    if path != "-":
        terminal.say("The same command with --resume continues the export.")


def _export_to_stdout(
    client: EcwidClient, filters: dict[str, Any], writer: Writer
) -> CustomerIterator:
    customers = client.iter_customers(**filters)
    with (
        terminal.progress("export", lambda: count_customers(client, filters)) as advance,
        terminal.output() as pipe,
    ):
        for count in write_pipe(customers, writer, pipe):
            advance(count)
    return customers


def _export_to_file(
    client: EcwidClient, filters: dict[str, Any], writer: Writer, file: ResumableFile
) -> CustomerIterator:
    before = file.checkpoint.customers
    customers = client.iter_customers(cursor=file.checkpoint.cursor, **filters)
    about = f"export, after {before}" if before else "export"
    with terminal.progress(about, lambda: count_customers(client, filters) - before) as advance:
        for count in write_file(customers, writer, file):
            advance(count)
    return customers


def parse_filters(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Return the search parameters that the pairs NAME=VALUE stand for.

    Raises:
        click.UsageError: a pair is not a parameter of list_customers, or an export cannot use it.
            The message contains no value.
    """
    operation = contract.load().operations["list_customers"]
    if not all("=" in pair for pair in pairs):
        raise click.UsageError("--where and --where-file take NAME=VALUE")
    try:
        filters = operation.parse_parameters({}, [_split(pair) for pair in pairs])
        CustomerIterator.digest_of(filters)
    except InvalidRequest as exc:
        places = terminal.describe_places(exc)
        raise click.UsageError(f"--where or --where-file is invalid. {places}") from None
    except ValueError as exc:
        raise click.UsageError(f"--where or --where-file: {exc}") from None
    return filters


def read_pairs(path: str) -> tuple[str, ...]:
    """Return the lines of a file that are not empty.

    Raises:
        click.UsageError: the file cannot be read, is too long, or is not UTF-8.
    """
    try:
        with terminal.open_input(path) as file:
            data = file.read(_MOST_BYTES_OF_FILTERS + 1)
    except OSError as exc:
        raise click.UsageError(f"--where-file: {exc.strerror}") from None
    if len(data) > _MOST_BYTES_OF_FILTERS:
        raise click.UsageError("--where-file has more than 64 KiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise click.UsageError("--where-file must be UTF-8") from None
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    return tuple(line for line in lines if line.strip())


def _split(pair: str) -> tuple[str, str]:
    name, _, value = pair.partition("=")
    return name, value


def left_out_of(customers: CustomerIterator, after: int = 0) -> list[str]:
    """Return a text with id and places for each skipped customer after the first `after`."""
    return [
        f"customer {each.customer_id or 'without an id'} is left out: {each.places}"
        for each in customers.skipped[after:]
    ]


def write_file(customers: CustomerIterator, writer: Writer, file: ResumableFile) -> Iterator[int]:
    """Write the customers, and yield after each page the number of customers that reached the disk.

    Raises:
        EcwidError: a page could not be read. A later run continues after the last checkpoint.
    """
    if file.checkpoint.complete:  # an earlier run ended just before it could rename the file
        file.finish()
        return
    data = b"" if file.resumed else writer.header(bom=True)
    count = skipped = 0

    def append() -> None:
        left_out = left_out_of(customers, skipped)
        file.append(data, customers=count, cursor=customers.cursor, left_out=left_out)

    for customer in customers:
        data += writer.row(customer)
        count += 1
        if customers.page_is_over:
            append()
            yield count
            data, count, skipped = b"", 0, len(customers.skipped)
    append()
    yield count
    file.finish()


def write_pipe(customers: CustomerIterator, writer: Writer, pipe: BinaryIO) -> Iterator[int]:
    """Write the customers, and yield after each page its number of customers."""
    terminal.write_whole(pipe, writer.header(bom=False))
    count = 0
    for customer in customers:
        terminal.write_whole(pipe, writer.row(customer))
        count += 1
        if customers.page_is_over:
            pipe.flush()
            yield count
            count = 0
    pipe.flush()
    yield count
