"""The command `flask ecwid import`, which creates the customers of a file in a store.

The import checks all rows before the first call. The import creates each valid row once, however
often the file is imported. The idempotency key of a row is a digest of the row, so every run uses
the same idempotency key. When the idempotency key has expired, the import finds an existing
customer by the e-mail.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

import click
import orjson
from flask.cli import ScriptInfo, pass_script_info

from .. import clock, contract
from ..client import EcwidClient
from ..client.reconcile import find_created, same_email
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
from ..web.mount import Mount
from . import terminal
from .columns import Columns
from .files import Format, NotACustomerFile, Row, read_rows
from .new_customer import creation_body
from .options import format_of, format_option, load_mount, store_option
from .report import Refusal, Report

# No caller has this name, because the name of an API key has no blanks.
CALLER = "flask ecwid import"

Body = dict[str, Any]


@click.command("import")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@format_option
@click.option(
    "--report",
    "report_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write refused rows to this file as JSON Lines with line, type, pointer, keyword and "
    "expected.",
)
@click.option("--dry-run", is_flag=True, help="Check the rows, and make no call.")
@store_option
@pass_script_info
def import_(
    info: ScriptInfo,
    path: str,
    file_format: Format | None,
    report_path: Path | None,
    dry_run: bool,
    store: str,
) -> None:
    """Create a customer for each row of PATH. The PATH - is the standard input.

    PATH is JSON Lines or CSV, and may be an export. Members that only Ecwid sets (id, registered,
    stats and others) are ignored. A name becomes billingPerson.name. All rows are checked before
    the first call. Valid rows are created, and invalid rows are refused. If two rows have the same
    e-mail, the second is refused.

    Importing the same rows again creates no duplicates, because a row that is in the store already
    counts as done. So an import may be stopped at any moment and run again. An import uses at
    most half of ECWID_CALLS_PER_MINUTE, and waits when this half is used up.

    The exit status is 0 if all rows are in the store, and 1 if not. The status is 2 if the command,
    the file or the settings are wrong. After a signal it is 128 plus the signal's number.

    \b
    Examples:
      flask ecwid import customers.csv --dry-run --report refused.jsonl
      flask ecwid import customers.csv --report refused.jsonl
      flask ecwid export - | flask --app other.py ecwid import -
    """
    file_format = file_format or format_of(path)
    if report_path and report_path.exists() and path != "-" and os.path.samefile(path, report_path):
        raise click.UsageError("--report would overwrite PATH")
    mount = load_mount(info, store)
    loaded = contract.load()
    try:
        with terminal.open_input(path) as file:
            rows = read_rows(file, file_format, Columns(loaded))
            creations, refusals = check_rows(rows, loaded)
    except NotACustomerFile as exc:
        raise click.UsageError(f"{path}: {exc}") from None
    except OSError as exc:
        raise click.UsageError(f"{path}: {exc.strerror}") from None
    with Report(report_path) as report:
        for refusal in refusals:
            report.add(refusal)
        if dry_run:
            terminal.say(
                f"{len(creations)} valid rows, {report.rows} invalid", success=not report.rows
            )
            sys.exit(1 if report.rows else 0)
        sys.exit(_import(mount, creations, report))


def _import(mount: Mount, creations: list[Creation], report: Report) -> int:
    """Create the customers, print a summary, and return the exit status."""
    importer = Importer(mount.client, mount.store.idempotency)
    counts: Counter[str] = Counter()
    failure = ""
    with (
        terminal.stop_gracefully() as stopped,
        terminal.progress("import", lambda: len(creations)) as advance,
    ):
        try:
            for outcome in importer.create(creations):
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
    terminal.say(
        f"{counts['created']} created, {counts['exists']} there already,"
        f" {report.rows - counts['unknown']} refused, {counts['unknown']} unknown",
        success=not (left or report.rows),
    )
    if counts["unknown"]:
        terminal.say("The same command finds out whether the unknown rows were created.")
    if left and status:
        return status
    return 1 if left or report.rows else 0


@dataclass(frozen=True)
class Creation:
    """A valid row, and the body of the creation."""

    line: int
    body: Body


@dataclass(frozen=True)
class Outcome:
    """The result of a creation. `exists` means that the customer was in the store before."""

    kind: Literal["created", "exists", "refused", "unknown"]
    refusal: Refusal | None = None


def check_rows(
    rows: Iterable[Row], loaded: contract.Contract
) -> tuple[list[Creation], list[Refusal]]:
    """Return the valid rows, and the refusals of the others. Each e-mail is valid only once."""
    creations: list[Creation] = []
    refusals: list[Refusal] = []
    emails: set[str] = set()
    for row in rows:
        try:
            if row.violation:
                raise InvalidRequest([row.violation])
            body = creation_body(loaded, row.customer)
            email = body["email"].casefold()
            if email in emails:
                raise InvalidRequest(
                    [Violation("/email", "uniqueItems", "An e-mail that no other row has.")]
                )
        except InvalidRequest as exc:
            refusals += [_refusal(row.line, exc, each) for each in exc.errors]
            continue
        emails.add(email)
        creations.append(Creation(row.line, body))
    return creations, refusals


class Importer:
    """Creates customers in one store, and waits whenever the store is unavailable."""

    def __init__(self, client: EcwidClient, idempotency: Idempotency) -> None:
        self._client = client
        self._idempotency = idempotency

    def create(self, creations: Iterable[Creation]) -> Iterator[Outcome]:
        """Yield the outcome of each creation until all are done or the process is stopping.

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
            created = self._create_once(creation.body)
        except EmailTaken as exc:
            if self._exists(creation.body):
                return Outcome("exists")
            violation = Violation("/email", "uniqueItems", "An e-mail that no other customer has.")
            return Outcome("refused", _refusal(creation.line, exc, violation))
        except Rejected as exc:
            return Outcome("refused", _refusal(creation.line, exc, Violation("", "rejected")))
        except OutcomeUnknown as exc:
            return Outcome("unknown", _refusal(creation.line, exc, Violation("", "unknown")))
        return Outcome("created" if created else "exists")

    def _create_once(self, body: Body) -> bool:
        """Create the customer. Return False if an earlier run created the customer."""
        canonical = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
        digest = hashlib.sha256(canonical).hexdigest()
        for attempt in count(1):
            self._client.wait_for_budget()
            try:
                response, replayed = self._client.wait_while_unavailable(
                    self._keyed(f"{digest}-{attempt}", body)
                )
            except (Rejected, EmailTaken) as exc:
                if exc.replayed:  # Ecwid refused an earlier run, but may accept the row now
                    continue
                raise
            if not replayed:
                return True
            if self._still_exists(response["id"], body):
                return False
        raise AssertionError

    def _keyed(self, idempotency_key: str, body: Body) -> Callable[[], tuple[dict[str, Any], bool]]:
        def create(first_attempt_at: float | None) -> dict[str, Any]:
            return dict(self._client.add_customer(body, first_attempt_at=first_attempt_at))

        # The owner names no mount, so all imports into a store share the records. Otherwise another
        # mount's import would send each creation again.
        return lambda: self._idempotency.run((CALLER,), idempotency_key, body, create)

    def _still_exists(self, customer_id: int, body: Body) -> bool:
        """Return False if the customer of an earlier run was deleted meanwhile."""
        try:
            found = self._client.wait_while_unavailable(
                lambda: self._client.get_customer(customer_id, responseFields="email")
            )
        except CustomerNotFound:
            return False
        except ContractBroken:  # The store has the customer, whose data is odd.
            return True
        # A new sandbox may have another customer with the same id, so the e-mail must agree.
        return same_email(body, found)

    def _exists(self, body: Body) -> bool:
        """Return whether the store has a customer with all the members of the row."""
        self._client.wait_for_budget()
        page = self._client.wait_while_unavailable(
            lambda: self._client.list_with_unfit(email=body["email"], useExactEmailMatch=True)
        )
        try:
            return find_created(body, page, started_at=0.0) is not None
        except EmailTaken:
            return False


def _refusal(line: int, error: EcwidError, violation: Violation) -> Refusal:
    return Refusal(line, error.urn, *violation, error.ecwid_code)
