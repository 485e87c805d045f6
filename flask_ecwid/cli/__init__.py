"""flask ecwid check | export | import | key | openapi | sandbox"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO, cast

import click
from flask.cli import ScriptInfo, pass_script_info
from werkzeug.serving import WSGIRequestHandler, make_server

from .. import api_keys, contract
from ..web import openapi as published
from ..errors import EcwidError, InvalidRequest
from ..extension import URL_PREFIX
from ..web.mount import Mount
from ..client.pagination import CustomerIterator
from ..sandbox import STORE_ID, TOKEN, Fault, Orders, create_sandbox
from ..settings import SettingsError
from ..client.opening import private_file
from . import check as checking
from . import export as exporting
from . import import_ as importing
from . import terminal
from .columns import Columns
from .files import ENDINGS, Form, NotACustomerFile, Writer, read
from .new_customer import Creatable
from .resumable import CannotWrite, Unfinished

_REFUSALS_TOLD = 10  # where there is no report
_NO_LOG = logging.NullHandler()


class _QuietHandler(WSGIRequestHandler):
    """Logs no requests: their lines hold query strings."""

    def log_request(self, code: object = "-", size: object = "-") -> None:
        pass


@click.group()
def ecwid() -> None:
    """An Ecwid store's customers."""
    # A command says itself what went wrong. Where the host has set up logs, they get their lines.
    logging.getLogger("flask_ecwid").addHandler(_NO_LOG)


_store_option = click.option(
    "--store", default="ecwid", show_default=True, help="The name of the store's mount."
)
_format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv"]),
    help="jsonl or csv. Default: by PATH's ending, .jsonl, .ndjson or .csv; of - it is jsonl.",
)


@ecwid.command()
@_store_option
@pass_script_info
def check(info: ScriptInfo, store: str) -> None:
    """Say whether the configured store answers, and what the token may do.

    Also how long it takes, whether Ecwid's clock and this host's agree, how much is left of the
    budget, and whether Redis answers where one is configured. Changes nothing in the store.

    Exit status: 0 when all five operations can work, 1 when one cannot, 2 when the settings are
    at fault.

    \b
    Example:
      flask ecwid check && systemctl start shop
    """
    mount = _mounted(info, store)
    good = True
    for finding in checking.findings(mount.store):
        click.echo(f"{finding.about}: {finding.told}")
        good = good and finding.good
    sys.exit(0 if good else 1)


@ecwid.command()
@click.argument("path")
@_format_option
@click.option(
    "--where",
    "pairs",
    multiple=True,
    metavar="NAME=VALUE",
    help="Only customers that match: any parameter of list_customers but sortBy and offset. "
    "Several may be given; all must match.",
)
@click.option("--resume", is_flag=True, help="Go on with an export that was stopped.")
@_store_option
@pass_script_info
def export(
    info: ScriptInfo, path: str, form: Form | None, pairs: tuple[str, ...], resume: bool, store: str
) -> None:
    """Write all customers to PATH, each once; - is the standard output.

    PATH appears when it is whole. Until then PATH.part grows, and PATH.resume says how to go on:
    an export may be stopped at any moment, with kill -9 too, and the same command with --resume
    goes on. It takes half of the calls that ECWID_CALLS_PER_MINUTE allows, and waits for them.

    The files hold personal data and can be read by this user alone.

    Exit status: 0 when all customers are there; 1 when not, 128 and the signal's number when it
    was stopped, then --resume goes on; 2 when the command or the settings are at fault.

    \b
    Examples:
      flask ecwid export customers.jsonl
      flask ecwid export customers.csv --where acceptMarketing=true --where createdFrom=2026-01-01
      flask ecwid export customers.jsonl --resume
      flask ecwid export - | wc -l
    """
    form = form or _form(path)
    if path == "-" and resume:
        raise click.UsageError("what went to the standard output cannot be resumed")
    mount = _mounted(info, store)
    filters = _filters(pairs)
    writer = Writer(form, Columns(contract.load()))
    try:
        with terminal.stopped_at_once():
            if path == "-":
                customers = _export_into_pipe(mount, filters, writer)
            else:
                job = f"{mount.client.store.digest} {form} {CustomerIterator.digest_of(filters)}"
                with Unfinished(Path(path), job, resume=resume) as file:
                    if resume and not file.resumed:
                        terminal.tell("nothing to resume: begun anew", good=True)
                    customers = _export_into_file(mount, filters, writer, file)
                terminal.tell(f"{file.kept.customers} customers in {path}", good=True)
    except CannotWrite as exc:
        raise click.UsageError(str(exc)) from None
    except BrokenPipeError:
        raise  # who reads has enough: click ends it quietly
    except OSError as exc:
        raise click.ClickException(f"{path}: {exc.strerror}") from None
    except terminal.Stopped as exc:
        terminal.tell(f"stopped{_resumable(path)}")
        sys.exit(exc.status)
    except EcwidError as exc:
        terminal.tell(f"failed: {_described(exc)}{_resumable(path)}")
        sys.exit(1)
    if customers.difference:
        terminal.tell(
            f"Ecwid counts {abs(customers.difference)} customers"
            f" {'more' if customers.difference > 0 else 'fewer'}: they changed meanwhile",
            good=customers.difference < 0,  # those were deleted after they were read
        )
    sys.exit(1 if (customers.difference or 0) > 0 else 0)


def _export_into_pipe(mount: Mount, filters: dict[str, Any], writer: Writer) -> CustomerIterator:
    client = mount.client
    customers = client.iter_customers(**filters)
    with terminal.progress("export", lambda: exporting.expected(client, filters)) as advance:
        for count in exporting.into_pipe(customers, writer, sys.stdout.buffer):
            advance(count)
    return customers


def _export_into_file(
    mount: Mount, filters: dict[str, Any], writer: Writer, file: Unfinished
) -> CustomerIterator:
    client = mount.client
    before = file.kept.customers
    customers = client.iter_customers(cursor=file.kept.cursor, **filters)
    about = f"export, after {before}" if before else "export"
    with terminal.progress(about, lambda: exporting.expected(client, filters) - before) as advance:
        for count in exporting.into_file(customers, writer, file):
            advance(count)
    return customers


@ecwid.command("import")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@_format_option
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Gets the rows that were refused, as JSON Lines: line, type, pointer, keyword.",
)
@click.option("--dry-run", is_flag=True, help="Check the rows only; no call is made.")
@_store_option
@pass_script_info
def import_(
    info: ScriptInfo,
    path: str,
    form: Form | None,
    report: Path | None,
    dry_run: bool,
    store: str,
) -> None:
    """Create a customer for each row of PATH; - is the standard input.

    PATH is JSON Lines or CSV, and may be an export: what only Ecwid sets (id, registered, stats
    and others) is left out. Every row is checked before the first call; those that fit are
    created, the others refused. An e-mail that comes twice is refused the second time.

    Importing the same rows again makes no doubles: a row that is in the store already counts as
    done. So an import may be stopped at any moment, and be run again. It takes half of the calls
    that ECWID_CALLS_PER_MINUTE allows, and waits for them.

    Exit status: 0 when all rows are in the store; 1 when not; 128 and the signal's number when it
    was stopped; 2 when the command, the file as a whole or the settings are at fault.

    \b
    Examples:
      flask ecwid import customers.csv --dry-run --report refused.jsonl
      flask ecwid import customers.csv --report refused.jsonl
      flask ecwid export - | flask --app other.py ecwid import -
    """
    form = form or _form(path)
    if report and report.exists() and path != "-" and os.path.samefile(path, report):
        raise click.UsageError("--report would overwrite PATH")
    mount = _mounted(info, store)
    loaded = contract.load()
    try:
        with click.open_file(path, "rb") as file:
            rows = read(cast(BinaryIO, file), form, Columns(loaded))
            creations, refusals = importing.checked(rows, Creatable(loaded))
    except NotACustomerFile as exc:
        raise click.UsageError(f"{path}: {exc}") from None
    with _Report(report) as told:
        for refusal in refusals:
            told.add(refusal)
        if dry_run:
            terminal.tell(f"{len(creations)} rows fit, {told.rows} do not", good=not told.rows)
            sys.exit(1 if told.rows else 0)
        sys.exit(_import(mount, creations, told))


def _import(mount: Mount, creations: list[importing.Creation], report: _Report) -> int:
    """Create them; gives the exit status."""
    importer = importing.Importer(mount.client, mount.store.idempotency)
    counts: Counter[str] = Counter()
    failure = ""
    with (
        terminal.stopped_softly() as stopped,
        terminal.progress("import", lambda: len(creations)) as advance,
    ):
        try:
            for outcome in importer.create(creations):
                counts[outcome.kind] += 1
                if outcome.refusal:
                    report.add(outcome.refusal)
                advance(1)
        except EcwidError as exc:
            failure = _described(exc)
        status = stopped()
    left = len(creations) - sum(counts.values())
    good = not (left or report.rows)
    if left:
        failure = "stopped" if status else f"failed: {failure}"
        terminal.tell(f"{failure}; {left} rows are left: the same command again goes on")
    terminal.tell(
        f"{counts['created']} created, {counts['there']} there already,"
        f" {report.rows - counts['unknown']} refused, {counts['unknown']} not known"
        + (": the same command again settles it" if counts["unknown"] else ""),
        good=good,
    )
    return status if left and status else 0 if good else 1


class _Report:
    """Where refusals go: into a file, or a few of them to the standard error."""

    def __init__(self, path: Path | None) -> None:
        self._lines: set[int] = set()
        self._file: BinaryIO | None = None
        if path:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            try:
                self._file = os.fdopen(os.open(path, flags, 0o600), "wb", buffering=0)
            except OSError as exc:
                raise click.FileError(str(path), exc.strerror) from None

    @property
    def rows(self) -> int:
        return len(self._lines)

    def add(self, refusal: importing.Refusal) -> None:
        self._lines.add(refusal.line)
        if self._file:
            self._file.write(refusal.written())
        elif self.rows <= _REFUSALS_TOLD:
            place = refusal.pointer or "the row"
            terminal.tell(f"line {refusal.line}: {place}: {refusal.keyword}")
        elif self.rows == _REFUSALS_TOLD + 1:
            terminal.tell("and others: --report PATH gets all of them")

    def __enter__(self) -> _Report:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()


def _mounted(info: ScriptInfo, store: str) -> Mount:
    try:
        app = info.load_app()
    except SettingsError as exc:
        for fault in exc.faults:
            click.echo(fault, err=True)
        sys.exit(2)
    mounts: dict[str, Mount] = app.extensions.get("ecwid", {})
    if store not in mounts:
        raise click.UsageError(f"the app has no Ecwid store named {store!r}")
    return mounts[store]


def _form(path: str) -> Form:
    if path == "-":
        return "jsonl"
    found = ENDINGS.get(Path(path).suffix.lower())
    if found is None:
        raise click.UsageError(f"PATH ends with none of {', '.join(ENDINGS)}: say --format")
    return found


def _filters(pairs: tuple[str, ...]) -> dict[str, Any]:
    operation = contract.load().operations["list_customers"]
    if not all("=" in pair for pair in pairs):
        raise click.UsageError("--where is NAME=VALUE")
    try:
        filters = operation.read_parameters({}, [_parted(pair) for pair in pairs])
        CustomerIterator.digest_of(filters)
    except InvalidRequest as exc:
        places = ", ".join(f"{each.pointer}: {each.keyword}" for each in exc.errors)
        known = ", ".join(
            sorted(name for _, name in operation.parameters if name not in ("offset", "sortBy"))
        )
        raise click.UsageError(f"--where does not fit ({places}); there are {known}") from None
    except ValueError as exc:
        raise click.UsageError(f"--where: {exc}") from None
    return filters


def _parted(pair: str) -> tuple[str, str]:
    name, _, value = pair.partition("=")
    return name, value


def _described(error: EcwidError) -> str:
    places = ", ".join(f"{misfit.pointer}: {misfit.keyword}" for misfit in error.errors)
    return f"{error} ({places})" if places else str(error)


def _resumable(path: str) -> str:
    return "" if path == "-" else "; the same command with --resume goes on"


@ecwid.command()
@click.argument("name")
@click.option(
    "--scopes",
    default="read",
    show_default=True,
    help=f"What it is good for, joined by +: {', '.join(api_keys.SCOPES)}.",
)
def key(name: str, scopes: str) -> None:
    """Make a key for the caller NAME.

    The key is printed once, for the caller, and kept nowhere. Add the entry to ECWID_API_KEYS and
    start anew; to replace a key let both entries stand until the caller has the new one.

    \b
    Example:
      flask ecwid key warehouse --scopes read+write
    """
    try:
        made, entry = api_keys.make(name, scopes.split("+"))
    except ValueError:
        raise click.UsageError(
            "NAME is letters, digits, '.', '_' and '-'; the scopes are some of "
            f"{'+'.join(api_keys.SCOPES)}"
        ) from None
    click.echo(f"key: {made}")
    click.echo(f"entry: {entry.entry()}")


@ecwid.command()
@click.option("--json", "as_json", is_flag=True, help="JSON instead of YAML.")
@click.option("--mount", default=URL_PREFIX, show_default=True, help="The URL it is served under.")
def openapi(as_json: bool, mount: str) -> None:
    """Print the contract.

    \b
    Example:
      flask ecwid openapi --mount https://shop.example.com/api/json/v1/ecwid > customers.yaml
    """
    document = published.at_mount(contract.load().document, mount)
    click.echo(
        json.dumps(document, ensure_ascii=False, indent=2)
        if as_json
        else published.to_yaml(document)
    )


@ecwid.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8100,
    show_default=True,
    help="0 takes any free one.",
)
@click.option(
    "--customers",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="How many generated ones a new store gets; one that is there stays as it is.",
)
@click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The SQLite file to keep the store in. Default: a private one, gone at the end.",
)
@click.option(
    "--calls-per-minute",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Refuse a token's calls above it; Ecwid's limit is 600. 0 lets any number pass.",
)
@click.option(
    "--search-lag",
    type=click.FloatRange(0, 3600),
    default=0.0,
    show_default=True,
    help="Seconds until a new customer shows in searches.",
)
@click.option("--duplicate-emails", is_flag=True, help="Let two customers have the same e-mail.")
@click.option(
    "--faults", type=click.File("rb"), help="A JSON file with a list of faults to order at once."
)
def sandbox(
    port: int,
    customers: int,
    path: Path | None,
    calls_per_minute: int,
    search_lag: float,
    duplicate_emails: bool,
    faults: BinaryIO | None,
) -> None:
    """Serve a simulated Ecwid store on 127.0.0.1.

    Prints the settings that point a plugin at it; and to the standard error where faults can
    be ordered and the calls it got be read: GET, POST and DELETE there.

    \b
    Examples:
      flask ecwid sandbox --port 8100 --customers 1000
      flask ecwid sandbox --port 8100 --calls-per-minute 600 --search-lag 2
      curl http://127.0.0.1:8100/admin/faults -d '{"kind": "reset", "operation": "add_customer"}'
      curl http://127.0.0.1:8100/admin/ledger
    """
    try:
        ordered = [Fault.read(each) for each in json.load(faults)] if faults else []
    except (ValueError, TypeError) as exc:
        raise click.BadParameter(str(exc), param_hint="--faults") from None
    path = path or private_file()
    store = create_sandbox(
        path,
        customers=customers,
        calls_per_minute=calls_per_minute,
        search_lag_s=search_lag,
        duplicate_emails=duplicate_emails,
    )
    Orders(path).order(*ordered)
    server = make_server("127.0.0.1", port, store, threaded=True, request_handler=_QuietHandler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # or the private file would stay behind
    try:
        click.echo(f"ECWID_API_URL=http://127.0.0.1:{server.server_port}/api/v3")
        click.echo(f"ECWID_STORE_ID={STORE_ID}")
        click.echo(f"ECWID_TOKEN={TOKEN}")
        click.echo("ECWID_AUTH=none")
        click.echo(f"orders: http://127.0.0.1:{server.server_port}/admin/faults", err=True)
        sys.stdout.flush()
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
