"""The command `flask ecwid import`, which creates the customers of a file in a store.

The import checks all rows before the first call. The import creates each valid row once, however
often the file is imported. The idempotency key of a row is a digest of the row, so every run uses
the same idempotency key. If nobody knows the idempotency key, the import searches for the e-mail
first. A customer counts as there only if the store shows all values of the row.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Literal

import click
import orjson
from flask.cli import ScriptInfo, pass_script_info

from .. import clock, contract
from ..client import EcwidClient, merge, upsert
from ..client.reconcile import same_email
from ..errors import (
    ContractBroken,
    CustomerNotFound,
    EcwidError,
    EmailTaken,
    IdempotencyKeyInUse,
    InvalidRequest,
    OutcomeUnknown,
    Rejected,
    Violation,
)
from ..web.idempotency import Idempotency
from ..web.mount import Mount, StoreRuntime
from . import terminal
from .columns import Columns
from .files import UTF_8, Format, Row, read_rows
from .header import NotACustomerFile, described_columns, parse_mappings
from .mistaken import mistaken
from .new_customer import creation_body
from .options import (
    format_of,
    format_option,
    load_store,
    say_that_the_store_ends,
    store_id_option,
    store_option,
)
from .report import Refusal, Report

# No caller has this name, because the name of an API key has no blanks.
CALLER = "flask ecwid import"
_EMAIL_TAKEN = "An e-mail that no other customer has."
_NEEDS_EMAIL = "An e-mail, because Ecwid creates no customer without an e-mail."
_UNUSED = (
    "The values of the column {column} were not used in {times} {rows}, because other columns set"
    " the same member."
)
_LEFT_OUT = (
    "These columns are left out, because Ecwid has no such member or sets the member itself:"
    " {columns}. --map 'HEADER=COLUMN' names another column for a header."
)
_NEVER_SHOWN = frozenset({"password", "primaryPhone"})  # Ecwid takes these, and never returns them.

Body = dict[str, Any]


def _print_columns(context: click.Context, parameter: click.Parameter, given: bool) -> None:
    """Print the columns and end the command, although PATH is missing."""
    if given:
        terminal.show("\n".join(described_columns(Columns(contract.load()))))
        context.exit()


def _known_encoding(context: click.Context, parameter: click.Parameter, name: str) -> str:
    """Return the name of an encoding of text.

    Raises:
        click.BadParameter: Python does not know the encoding.
    """
    try:
        io.TextIOWrapper(io.BytesIO(), name)  # Python also has encodings of bytes, as base64
        codec = codecs.lookup(name).name
    except (LookupError, UnicodeError, ValueError):
        raise click.BadParameter("the encoding is not known") from None
    return UTF_8 if codec in ("utf-8", "utf-8-sig") else name


@click.command("import")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@format_option
@click.option(
    "--report",
    "report_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write refused rows to this file as JSON Lines with line, type, pointer, keyword and "
    "expected. Replaces only an empty file or an earlier report.",
)
@click.option(
    "--update",
    is_flag=True,
    help="Bring existing customers to the values of their rows. Values that a row leaves out stay. "
    "A changed address is added once, beside the old address. If several customers have the e-mail "
    "of a row, the row is refused.",
)
@click.option(
    "--map",
    "mappings",
    multiple=True,
    metavar="HEADER=COLUMN",
    help="Name the column of a CSV file that has this header. Without a COLUMN, leave the column "
    "out. May be repeated.",
)
@click.option(
    "--encoding",
    default=UTF_8,
    show_default=True,
    callback=_known_encoding,
    help="The encoding of a CSV file, for example windows-1252.",
)
@click.option(
    "--columns",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_columns,
    help="Print the columns of a CSV file with their other names, and exit.",
)
@click.option("--dry-run", is_flag=True, help="Check the rows, and make no call.")
@store_option
@store_id_option
@pass_script_info
def import_(
    info: ScriptInfo,
    path: str,
    file_format: Format | None,
    report_path: Path | None,
    update: bool,
    mappings: tuple[str, ...],
    encoding: str,
    dry_run: bool,
    store: str,
    store_id: str | None,
) -> None:
    """Create a customer for each row of PATH. The PATH - is the standard input.

    PATH is JSON Lines or CSV, and may be an export. A CSV file may have the columns of Ecwid's
    admin or of WooCommerce, and --columns lists all. Members that only Ecwid sets (id, registered,
    stats and others) are ignored. A message names each column of a CSV file that is left out. A
    name becomes billingPerson.name. All rows are checked before the first call. Valid rows are
    created, and invalid rows are refused. If two rows have the same e-mail, the second is refused,
    also after a refused row.

    Importing the same rows again creates no duplicates, because a row counts as done if the store
    shows all its values. So an import may be stopped at any moment and run again. If a customer
    with the e-mail has other values, the row is refused. With --update, the customer gets the
    values of the row, and keeps all other values. An import uses at most half of
    ECWID_CALLS_PER_MINUTE, and waits when this half is used up.

    The exit status is 0 if all rows are in the store, and 1 if not. The status is 2 if the command,
    the file or the settings are wrong. After a signal it is 128 plus the signal's number.

    \b
    Examples:
      flask ecwid import customers.csv --dry-run --report refused.jsonl
      flask ecwid import customers.csv --report refused.jsonl
      flask ecwid import shop.csv --map "Phone nr=billingPerson.phone" --update
      flask ecwid export - | flask --app other.py ecwid import -
    """
    file_format = file_format or format_of(path)
    if file_format == "jsonl" and (mappings or encoding != UTF_8):
        raise click.UsageError("--map and --encoding belong to CSV, and JSON Lines are in UTF-8")
    if report_path == Path("-"):
        raise click.UsageError("--report needs the path of a file, and - is none")
    if report_path and _is_same_file(path, report_path):
        raise click.UsageError("--report would overwrite PATH")
    # The report is emptied first. Otherwise the report of an earlier run would seem to be new.
    with Report(report_path) as report:
        mount, runtime = load_store(info, store, store_id)
        loaded = contract.load()
        columns = Columns(loaded)
        try:
            named = parse_mappings(mappings, columns)
        except ValueError as exc:
            raise click.UsageError(f"--map: {exc}") from None
        try:
            with terminal.open_input(path) as file:
                rows = read_rows(file, file_format, columns, mappings=named, encoding=encoding)
                creations, refusals, left_out = check_rows(rows, loaded)
        except NotACustomerFile as exc:
            raise click.UsageError(f"{path}: {exc}") from None
        except OSError as exc:
            raise click.UsageError(f"{path}: {exc.strerror}") from None
        if not (creations or refusals):
            terminal.say(f"{path}: the file has no row, so there is nothing to import.")
        if left_out:
            terminal.say(_LEFT_OUT.format(columns=", ".join(dict.fromkeys(left_out))))
        for refusal in refusals:
            report.add(refusal)
        if without := sum(refusal.expected == _NEEDS_EMAIL for refusal in refusals):
            rows_have = "row has" if without == 1 else "rows have"
            terminal.say(f"{without} {rows_have} no e-mail. Ecwid creates no customer without one.")
        if dry_run:
            _say_unused(creations)
            terminal.say(
                f"{len(creations)} valid rows, {report.rows} invalid", success=not report.rows
            )
            sys.exit(1 if report.rows else 0)
        sys.exit(_import(mount, runtime, creations, report, update=update))


def _is_same_file(path: str, report_path: Path) -> bool:
    return path != "-" and os.path.exists(report_path) and os.path.samefile(path, report_path)


def _import(
    mount: Mount,
    runtime: StoreRuntime,
    creations: list[Creation],
    report: Report,
    *,
    update: bool,
) -> int:
    """Import the rows, print a summary, and return the exit status."""
    importer = Importer(runtime.client, runtime.idempotency, update=update)
    counts: Counter[str] = Counter()
    failure = ""
    with (
        terminal.stop_gracefully() as stopped,
        terminal.progress("import", lambda: len(creations)) as advance,
    ):
        try:
            for outcome in importer.run(creations):
                counts[outcome.kind] += 1
                if outcome.refusal:
                    report.add(outcome.refusal)
                advance(1)
        except EcwidError as exc:
            failure = f"failed: {terminal.describe(exc)}"
        status = stopped()
    left = len(creations) - sum(counts.values())
    if left:
        terminal.say("stopped" if status else failure)
        terminal.say(f"{left} rows are left. The same command continues the import.")
    say_that_the_store_ends(mount, "no customer was kept")
    _say_unused(creations)
    updated = f" {counts['updated']} updated," if update else ""
    terminal.say(
        f"{counts['created']} created,{updated} {counts['exists']} there already,"
        f" {report.rows - counts['unknown']} refused, {counts['unknown']} unknown",
        success=not (left or report.rows),
    )
    if counts["unknown"]:
        terminal.say("The same command finds out whether the unknown rows were created.")
    if left and status:
        return status
    return 1 if left or report.rows else 0


def _say_unused(creations: Iterable[Creation]) -> None:
    """Say which columns of the file have values that set nothing, because other columns count."""
    for column, times in Counter(name for each in creations for name in each.unused).items():
        rows = "row" if times == 1 else "rows"
        terminal.say(_UNUSED.format(column=column, times=times, rows=rows))


@dataclass(frozen=True)
class Creation:
    """A valid row, the body of the creation, and the columns whose values set nothing."""

    line: int
    body: Body
    unused: Sequence[str] = ()


@dataclass(frozen=True)
class Outcome:
    """The result of a row. `exists` means that the store showed all its values before."""

    kind: Literal["created", "updated", "exists", "refused", "unknown"]
    refusal: Refusal | None = None


def check_rows(
    rows: Iterable[Row], loaded: contract.Contract
) -> tuple[list[Creation], list[Refusal], Sequence[str]]:
    """Return the valid rows, the refusals of the others, and the columns that are left out.

    Each e-mail is valid only once.
    """
    left_out: Sequence[str] = ()
    creations: list[Creation] = []
    refusals: list[Refusal] = []
    first_lines: dict[str, int] = {}
    for row in rows:
        if row.cells:
            left_out = row.cells.header.left_out
        email = _email(row.customer)
        # A refused row counts as well, because nobody knows which of the two rows is meant.
        first_line = first_lines.setdefault(email, row.line) if email else row.line
        body: Body = {}
        violations: list[Violation] = []
        try:
            body = _body(row, loaded)
        except InvalidRequest as exc:
            violations += exc.errors
        if first_line != row.line and not any(each.pointer == "/email" for each in violations):
            expected = f"An e-mail that no other row has. Line {first_line} has the same e-mail."
            violations.append(Violation("/email", "uniqueItems", expected))
        if violations:
            refusals += [_refusal_of_row(row, each) for each in violations]
        else:
            creations.append(Creation(row.line, body, row.cells.unused() if row.cells else ()))
    return creations, refusals, left_out


def _body(row: Row, loaded: contract.Contract) -> Body:
    """Return the body that creates the customer of a row.

    Raises:
        InvalidRequest: The row cannot be read, or violates the contract.
    """
    if row.violation:
        raise InvalidRequest([row.violation])
    if _lacks_email(row.customer):
        raise InvalidRequest([Violation("/email", "required", _NEEDS_EMAIL)])
    if faults := [*mistaken(row.customer)]:
        raise InvalidRequest(faults)
    return creation_body(loaded, row.customer)


def _lacks_email(customer: Any) -> bool:
    return isinstance(customer, dict) and (customer.get("email") is None or _email(customer) == "")


def _email(customer: Any) -> str | None:
    """Return the e-mail of a row in lower case, or None if the row has no text there."""
    email = customer.get("email") if isinstance(customer, dict) else None
    return email.strip().lower() if isinstance(email, str) else None


def _refusal_of_row(row: Row, violation: Violation) -> Refusal:
    """Return the refusal of a row of the file, with its columns if the file is CSV."""
    columns = row.columns
    if row.cells and violation != row.violation:
        violation, columns = row.cells.explained(violation), row.cells.columns(violation)
    return replace(
        _refusal(row.line, InvalidRequest([violation]), violation), columns=columns or None
    )


class Importer:
    """Creates or updates customers in one store, and waits whenever the store is unavailable."""

    def __init__(self, client: EcwidClient, idempotency: Idempotency, *, update: bool) -> None:
        """Make an importer.

        Args:
            client: Makes the calls.
            idempotency: Remembers the created rows.
            update: True to update the customers that are there, and False to refuse their rows.
        """
        self._client = client
        self._idempotency = idempotency
        self._update = update

    def run(self, creations: Iterable[Creation]) -> Iterator[Outcome]:
        """Yield the outcome of each row until all are done or the process is stopping.

        Raises:
            EcwidError: all further rows would fail in the same way. The next run continues.
        """
        waiting = deque(creations)
        while waiting and not clock.is_stopping():
            creation = waiting.popleft()
            try:
                yield self._outcome(creation)
            except IdempotencyKeyInUse as exc:
                # Another import uses the idempotency key, or was killed while it did. The lease of
                # the idempotency key expires, so this row is tried again at the end.
                waiting.append(creation)
                clock.sleep(float(exc.retry_after_s or 0))

    def _outcome(self, creation: Creation) -> Outcome:
        try:
            if self._update:
                return Outcome(self._put(creation.body))
            return Outcome("created" if self._create_once(creation.body) else "exists")
        except EmailTaken as exc:
            violation = next(iter(exc.errors), Violation("/email", "uniqueItems", _EMAIL_TAKEN))
            return Outcome("refused", _refusal(creation.line, exc, violation))
        except Rejected as exc:
            return Outcome("refused", _refusal(creation.line, exc, Violation("", "rejected")))
        except ContractBroken as exc:
            if not exc.customer_ids:  # Ecwid's search is broken, and not the data of a customer.
                raise
            violation = Violation("", "unfit", "A customer in the store whose data can be read.")
            return Outcome("refused", _refusal(creation.line, exc, violation))
        except OutcomeUnknown as exc:
            return Outcome("unknown", _refusal(creation.line, exc, Violation("", "unknown")))

    def _put(self, body: Body) -> Literal["created", "updated", "exists"]:
        """Create or update the customer. A put needs no idempotency key, because it searches."""
        outcome = self._client.wait_while_unavailable(
            lambda: upsert.put(self._client, body, self._client.wait_for_budget, only_one=True)
        ).outcome
        return "exists" if outcome == "unchanged" else outcome

    def _create_once(self, body: Body) -> bool:
        """Create the customer. Return False if the store showed the customer before.

        Raises:
            EmailTaken: A customer with the e-mail does not show all values of the row.
        """
        canonical = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
        digest = hashlib.sha256(canonical).hexdigest()
        for attempt in count(1):
            idempotency_key = f"{digest}-{attempt}"
            # A record of the key would show that the row was created. Without a record, the search
            # shows it. Otherwise a store that takes an e-mail twice would get each row again.
            if not self._idempotency.is_known((CALLER,), idempotency_key) and self._is_there(body):
                return False
            self._client.wait_for_budget()
            try:
                response, replayed = self._client.wait_while_unavailable(
                    self._keyed(idempotency_key, body)
                )
            except (Rejected, EmailTaken) as exc:
                if exc.replayed:  # Ecwid refused an earlier run, but may accept the row now
                    continue
                if isinstance(exc, EmailTaken) and self._is_there(body, exact=False):
                    return False
                raise
            if not replayed:
                return True
            if self._is_still_there(response["id"], body):
                return False
        raise AssertionError

    def _keyed(self, idempotency_key: str, body: Body) -> Callable[[], tuple[dict[str, Any], bool]]:
        def create(age_s: float | None) -> dict[str, Any]:
            return dict(self._client.add_customer(body, first_attempt_age_s=age_s))

        # The owner names no mount, so all imports into a store share the records. Otherwise another
        # mount's import would send each creation again.
        return lambda: self._idempotency.run((CALLER,), idempotency_key, body, create)

    def _is_there(self, body: Body, *, exact: bool = True) -> bool:
        """Return whether the store has the customer with all values of the row.

        Args:
            body: The body of the row.
            exact: Ask Ecwid for exact matches only.

        Raises:
            EmailTaken: Each customer with the e-mail lacks a value of the row.
        """
        found = self._client.wait_while_unavailable(
            lambda: upsert.list_with_email(
                self._client, body["email"], self._client.wait_for_budget, exact=exact
            )
        )
        if not found:
            return False
        places = [merge.differences(body, customer) for customer in found]
        if not all(places):
            return True
        raise _taken(places[0])

    def _is_still_there(self, customer_id: int, body: Body) -> bool:
        """Return False if the customer of an earlier run was deleted meanwhile.

        Raises:
            EmailTaken: The customer was changed meanwhile, and lacks a value of the row.
        """
        try:
            found = self._client.wait_while_unavailable(
                lambda: self._client.get_customer(customer_id)
            )
        except CustomerNotFound:
            return False
        except ContractBroken:  # The store has the customer, whose data is odd.
            return True
        # A new sandbox may have another customer with the same id, so the e-mail must agree.
        if not same_email(body, found):
            return False
        # An earlier run has set the members that Ecwid never shows.
        shown = {name: value for name, value in body.items() if name not in _NEVER_SHOWN}
        if places := merge.differences(shown, found):
            raise _taken(places)
        return True


def _taken(places: Iterable[str]) -> EmailTaken:
    """Return the error for a row whose customer exists with other values in these places."""
    expected = (
        f"{_EMAIL_TAKEN} The store's customer does not show the row's {', '.join(places)}."
        " With --update, the import writes the values of the row."
    )
    return EmailTaken().changed(errors=[Violation("/email", "uniqueItems", expected)])


def _refusal(line: int, error: EcwidError, violation: Violation) -> Refusal:
    return Refusal(line, error.urn, *violation, error.ecwid_code)
