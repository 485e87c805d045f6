"""The two apps of docs/cookbook.md, over HTTP, with a simulated store and its signed events."""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from werkzeug.security import generate_password_hash

from flask_ecwid import EcwidClient, Settings, clock

from ..conftest import PREFIX, ROOT, free_port, wait_for
from ..helpers.command import change_customer
from ..helpers.copied_rows import CopiedRows
from ..helpers.holding_relay import Part
from ..helpers.pages import blocks, running, sh
from ..helpers.storefront import Storefront, open_storefront, wait_for_next_second

PAGE = ROOT / "docs" / "cookbook.md"
CRM, NEWSLETTER = "A CRM that keeps a copy", "A newsletter with consent in both directions"
APPS = {
    name: blocks(PAGE, heading, "python")[0]
    for name, heading in (("crm", CRM), ("newsletter", NEWSLETTER))
}
CRM_INSTALL, CRM_SYNC, CRM_SERVE = blocks(PAGE, CRM)[0].splitlines()
INSTALL, SERVE, READERS = blocks(PAGE, NEWSLETTER)[0].splitlines()
[READ_ALL_AGAIN] = blocks(PAGE, "Limits", "sql")
[COUNT_WAITING] = re.findall(r"`(SELECT count[^`]*)`", PAGE.read_text(encoding="utf-8"))
MOST_LINES = 60
ANN, BOB, CARL = "ann.canary@example.com", "bob.canary@example.com", "carl.canary@example.com"


@pytest.mark.parametrize("name", APPS)
def test_an_app_is_short(name: str) -> None:
    """An app of the cookbook has 60 lines of code at most, none longer than 100 characters."""
    lines = [line for line in APPS[name].splitlines() if line.strip()]
    assert len(lines) <= MOST_LINES
    assert max(map(len, lines)) <= 100


def test_the_packages_of_an_app() -> None:
    """The page installs the plugin with the extras that the app needs."""
    assert CRM_INSTALL == "pip install '.[server,sync]' flask-wtf"
    assert INSTALL == "pip install '.[server]'"


@contextmanager
def serving(
    name: str, line: str, folder: Path, **settings: str
) -> Iterator[tuple[str, Storefront, dict[str, str]]]:
    """Serve an app as the page does, with a store whose events wait for a test.

    Yields the URL of the app, the store, and the settings for the commands of the app. The app
    refuses each caller of the endpoints. At the end, no log of the app has an e-mail.
    """
    (folder / f"{name}.py").write_text(APPS[name], encoding="utf-8")
    bind = f"127.0.0.1:{free_port()}"
    log = folder / "app.log"
    with open_storefront(folder, f"http://{bind}{PREFIX}/webhooks") as storefront:
        storefront.send_events(False)
        settings = {**storefront.settings, "SECRET_KEY": secrets.token_hex(), **settings}
        started = f"{line} --bind {bind} --access-logfile - >'{log}' 2>&1"
        with running(started, folder, stderr=subprocess.DEVNULL, **settings) as process:
            wait_for(f"http://{bind}/", process)
            assert process.poll() is None, log.read_text(encoding="utf-8")
            closed = requests.get(f"http://{bind}{PREFIX}/customers", timeout=60)
            assert closed.status_code == 403
            yield f"http://{bind}", storefront, settings
    text = log.read_text(encoding="utf-8")
    assert "HTTP/1.1" in text
    assert "canary" not in text.lower()


class Newsletter:
    """The newsletter, as its readers and its sender use it."""

    def __init__(self, url: str, folder: Path, settings: dict[str, str]) -> None:
        self.url = url
        self._folder = folder
        self._settings = settings

    def command(self) -> subprocess.CompletedProcess[str]:
        """Run the command of the page, which reads all changes."""
        return sh(READERS, self._folder, **self._settings)

    def links(self) -> dict[str, str]:
        """Return what the command prints, the links by the e-mails of the canaries."""
        done = self.command()
        assert done.returncode == 0, done.stderr
        lines = [line.split("\t") for line in done.stdout.splitlines()]
        return {email: link for email, link in lines if "canary" in email}

    def sql(self, statement: str, *values: object) -> list[Any]:
        path = self._settings["NEWSLETTER"]
        with closing(sqlite3.connect(path, 30, isolation_level=None)) as db:
            return db.execute(statement, values).fetchall()

    def emails(self) -> set[str]:
        """Return who would get a letter now, without a look at Ecwid."""
        rows = self.sql("SELECT email FROM readers WHERE email > '' AND waiting IS NULL")
        return {email for [email] in rows if "canary" in email}

    def waiting(self) -> int:
        """Return how many withdrawals have not arrived in Ecwid."""
        [[count]] = self.sql(COUNT_WAITING)
        return int(count)

    def unsubscribe(self, link: str) -> requests.Response:
        """Press the button of the link in a letter."""
        return requests.post(f"{self.url}{link}", timeout=60)


Newspaper = tuple[Newsletter, Storefront]


@pytest.fixture
def newspaper(tmp_path: Path) -> Iterator[Newspaper]:
    """Serve the newsletter and its store."""
    file = str(tmp_path / "newsletter.sqlite3")
    with serving("newsletter", SERVE, tmp_path, NEWSLETTER=file) as (url, storefront, settings):
        assert (tmp_path / "newsletter.sqlite3").stat().st_mode & 0o077 == 0
        yield Newsletter(url, tmp_path, settings), storefront


def reader_of(newspaper: Newspaper, email: str = ANN) -> tuple[int, str]:
    """Return the id and the link of a new reader."""
    newsletter, storefront = newspaper
    customer_id = storefront.add(email=email, acceptMarketing=True)
    link = newsletter.links()[email]
    wait_for_next_second()
    return customer_id, link


def lost_withdrawal(newspaper: Newspaper) -> int:
    """Let a new reader unsubscribe while Ecwid's reply is lost, and return the id."""
    newsletter, storefront = newspaper
    customer_id, link = reader_of(newspaper)
    storefront.fail(kind="reset", operation="update_customer", after=True)
    newsletter.unsubscribe(link)
    storefront.recover()
    return customer_id


def test_events_from_the_storefront(newspaper: Newspaper) -> None:
    """A customer who gives consent in the storefront is a reader, until they withdraw."""
    newsletter, storefront = newspaper
    ann = storefront.add(email=ANN)
    assert (storefront.deliver(), newsletter.emails()) == ([200], set())
    for accepts in (True, False, True):
        storefront.change(ann, acceptMarketing=accepts)
        assert (storefront.deliver(), newsletter.emails()) == ([200], {ANN} if accepts else set())
    storefront.change(ann, email=BOB)
    assert (storefront.deliver(), newsletter.emails()) == ([200], {BOB})
    storefront.delete(ann)
    assert (storefront.deliver(), newsletter.emails()) == ([200], set())


def test_lost_events(newspaper: Newspaper) -> None:
    """Changes whose events are lost are followed before the readers are printed."""
    newsletter, storefront = newspaper
    ids = [storefront.add(email=email, acceptMarketing=True) for email in (ANN, BOB)]
    carl = storefront.add(email=CARL, acceptMarketing=False)
    assert newsletter.links().keys() == {ANN, BOB}
    storefront.change(ids[0], acceptMarketing=False)
    storefront.delete(ids[1])
    storefront.change(carl, acceptMarketing=True)
    assert newsletter.links().keys() == newsletter.emails() == {CARL}


def test_unsubscribing(newspaper: Newspaper) -> None:
    """A reader who unsubscribes gets no letter, and has withdrawn the consent in Ecwid."""
    newsletter, storefront = newspaper
    ann, link = reader_of(newspaper)
    assert "<button>" in requests.get(f"{newsletter.url}{link}", timeout=60).text
    assert (newsletter.emails(), storefront.accepts(ann)) == ({ANN}, True)
    assert newsletter.unsubscribe(f"{link}x").status_code == 404
    assert (newsletter.emails(), storefront.accepts(ann)) == ({ANN}, True)
    assert newsletter.unsubscribe(link).status_code == 200
    assert (newsletter.emails(), storefront.accepts(ann)) == (set(), False)
    assert newsletter.waiting() == 0
    assert newsletter.sql("SELECT email FROM readers WHERE email = ?", ANN) == []


def test_consent_after_a_withdrawal(newspaper: Newspaper) -> None:
    """A consent that is given after Ecwid has shown the withdrawal counts."""
    newsletter, storefront = newspaper
    ann, link = reader_of(newspaper)
    newsletter.unsubscribe(link)
    storefront.change(ann, acceptMarketing=True)
    assert (storefront.deliver(), newsletter.emails()) == ([200], {ANN})
    assert newsletter.links().keys() == {ANN}
    assert storefront.accepts(ann)


def test_a_deleted_reader(newspaper: Newspaper) -> None:
    """A withdrawal of a customer who was deleted does not wait for Ecwid."""
    newsletter, storefront = newspaper
    ann, link = reader_of(newspaper)
    storefront.delete(ann)
    assert newsletter.unsubscribe(link).status_code == 200
    assert (newsletter.links(), newsletter.waiting()) == ({}, 0)


def test_a_404_of_a_proxy(newspaper: Newspaper) -> None:
    """A reader stays after a 404 in HTML, and the next delivery of the event has its effect."""
    newsletter, storefront = newspaper
    ann, _ = reader_of(newspaper)
    storefront.change(ann, email=BOB)
    storefront.fail(kind="html", status=404, operation="get_customer")
    assert (storefront.deliver(), newsletter.emails()) == ([500], {ANN})
    storefront.recover()
    assert (storefront.deliver(), newsletter.emails()) == ([200], {BOB})


def test_ecwid_fails(newspaper: Newspaper) -> None:
    """A withdrawal counts at once, and arrives in Ecwid as soon as Ecwid works again."""
    newsletter, storefront = newspaper
    ann, link = reader_of(newspaper)
    storefront.fail(kind="reset", operation="update_customer")
    assert newsletter.unsubscribe(link).status_code == 200
    assert (newsletter.emails(), newsletter.waiting()) == (set(), 1)
    assert (storefront.hint(ann), newsletter.emails()) == ([200], set())
    storefront.recover()
    assert (newsletter.links(), newsletter.waiting()) == ({}, 0)
    assert not storefront.accepts(ann)


def test_a_lost_reply(newspaper: Newspaper) -> None:
    """An event ends the wait of a withdrawal whose reply was lost, and a later consent counts."""
    newsletter, storefront = newspaper
    ann = lost_withdrawal(newspaper)
    assert (storefront.accepts(ann), newsletter.waiting()) == (False, 1)
    assert (storefront.deliver(), newsletter.waiting()) == ([200], 0)
    storefront.change(ann, acceptMarketing=True)
    assert (storefront.deliver(), newsletter.emails()) == ([200], {ANN})


def test_consent_while_a_withdrawal_waits(newspaper: Newspaper) -> None:
    """A withdrawal that Ecwid has not shown wins against a later consent."""
    newsletter, storefront = newspaper
    ann = lost_withdrawal(newspaper)
    storefront.change(ann, acceptMarketing=True)
    assert (storefront.deliver(), newsletter.emails()) == ([200], set())
    assert (newsletter.links(), newsletter.waiting()) == ({}, 0)
    assert not storefront.accepts(ann)


@pytest.mark.parametrize("way", ["unsubscribes", "withdraws", "is deleted"])
def test_a_reading_from_before(newspaper: Newspaper, way: str) -> None:
    """A reading that began before a withdrawal and ends after it restores nothing."""
    newsletter, storefront = newspaper
    ann, link = reader_of(newspaper)
    storefront.change(ann, lang="de")
    late = storefront.events()[-1]
    wait_for_next_second()
    with ThreadPoolExecutor(1) as pool, storefront.hold("reply", "GET", ann) as gate:
        statuses = pool.submit(storefront.deliver, late)
        assert gate.asked.wait(20)
        if way == "unsubscribes":
            newsletter.unsubscribe(link)
        elif way == "withdraws":
            storefront.change_now(ann, acceptMarketing=False)
            storefront.deliver()
        else:
            storefront.delete(ann)
            storefront.deliver()
        assert newsletter.emails() == set()
        gate.open()
        assert statuses.result() == [200]
    assert newsletter.emails() == set()


def test_a_second_withdrawal(newspaper: Newspaper) -> None:
    """A reading ends only a withdrawal from before the reading began."""
    newsletter, storefront = newspaper
    ann, link = reader_of(newspaper)
    storefront.fail(kind="status", status=400, operation="update_customer", after=True)
    newsletter.unsubscribe(link)
    storefront.recover()
    late = storefront.events()[-1]
    wait_for_next_second()
    with ThreadPoolExecutor(1) as pool, storefront.hold("reply", "GET", ann) as gate:
        statuses = pool.submit(storefront.deliver, late)
        assert gate.asked.wait(20)
        storefront.change_now(ann, acceptMarketing=True)
        storefront.fail(kind="status", status=400, operation="update_customer")
        newsletter.unsubscribe(link)
        gate.open()
        assert statuses.result() == [200]
    storefront.recover()
    assert newsletter.waiting() == 1
    assert storefront.accepts(ann)
    assert (storefront.deliver(), newsletter.emails()) == ([200], set())
    assert newsletter.links() == {}
    assert not storefront.accepts(ann)


@pytest.mark.parametrize("part", ["call", "reply"])
def test_both_sides_at_once(newspaper: Newspaper, part: Part) -> None:
    """A consent that is given while a withdrawal is on its way to Ecwid does not count."""
    newsletter, storefront = newspaper
    ann, link = reader_of(newspaper)
    with ThreadPoolExecutor(1) as pool, storefront.hold(part, "PUT", ann) as gate:
        pressed = pool.submit(newsletter.unsubscribe, link)
        assert gate.asked.wait(20)
        storefront.change(ann, acceptMarketing=True)
        assert (storefront.deliver(), newsletter.emails()) == ([200], set())
        gate.open()
        assert pressed.result().status_code == 200
    assert newsletter.emails() == set()
    assert newsletter.links() == {}
    assert (newsletter.waiting(), storefront.accepts(ann)) == (0, False)


def test_the_same_second(newspaper: Newspaper) -> None:
    """Of two versions with the same date, the version without the consent counts."""
    newsletter, storefront = newspaper
    ann, _ = reader_of(newspaper)
    for accepts in (False, True):  # The order in which the versions are read.
        storefront.change(ann, acceptMarketing=not accepts)
        date = storefront.customer(ann)["updated"]
        storefront.deliver()
        change_customer(storefront.file, ann, acceptMarketing=accepts, updated=date)
        assert (storefront.hint(ann), newsletter.emails()) == ([200], set())


@pytest.mark.parametrize("odd", [{"lang": [5]}, {"updated": None}, {"updated": "soon"}])
def test_a_customer_in_doubt(newspaper: Newspaper, odd: dict[str, Any]) -> None:
    """A reader whose data cannot be read gets no letter, and all others do."""
    newsletter, storefront = newspaper
    ann, _ = reader_of(newspaper)
    storefront.change(ann, lang="de")
    storefront.add(email=BOB, acceptMarketing=True)
    change_customer(storefront.file, ann, **odd)
    assert newsletter.links().keys() == {BOB}
    change_customer(storefront.file, ann, lang="de")
    storefront.change(ann, lang="fr")
    assert newsletter.links().keys() == {ANN, BOB}


def test_an_email_with_a_line(newspaper: Newspaper) -> None:
    """An e-mail cannot add a line to the readers that the command prints."""
    newsletter, storefront = newspaper
    ann, _ = reader_of(newspaper)
    storefront.change(ann, lang="de")
    change_customer(storefront.file, ann, email=f"{ANN}\n{BOB}\t/unsubscribe/x")
    assert len(newsletter.links()) == 1
    assert BOB not in newsletter.links()


def test_no_letter_without_the_changes(newspaper: Newspaper) -> None:
    """If the changes cannot be read, the command fails and prints no reader."""
    newsletter, storefront = newspaper
    reader_of(newspaper)
    storefront.fail(kind="html", operation="list_deleted")
    done = newsletter.command()
    assert (done.returncode != 0, done.stdout) == (True, "")
    assert "canary" not in done.stderr


def test_six_months_without_a_run(newspaper: Newspaper, monkeypatch: pytest.MonkeyPatch) -> None:
    """After six months no reader is printed until the statements of the page were run."""
    newsletter, storefront = newspaper
    reader_of(newspaper)
    bob, _ = reader_of(newspaper, BOB)
    names = ("ECWID_STORE_ID", "ECWID_TOKEN", "ECWID_API_URL")
    config = {**{name: storefront.settings[name] for name in names}, "ECWID_AUTH": "none"}
    with monkeypatch.context() as patch:
        wall = clock.wall
        patch.setattr(clock, "wall", lambda: wall() - 200 * 86_400)
        with EcwidClient(Settings.from_config(config)) as client:
            old = client.iter_changes().cursor
    newsletter.sql("UPDATE feed SET cursor = ?", old)
    storefront.delete(bob)
    with closing(sqlite3.connect(storefront.file)) as db, db:
        db.execute("DELETE FROM deleted")  # Ecwid forgets a deletion after six months.
    done = newsletter.command()
    assert (done.returncode != 0, done.stdout, "CursorExpired" in done.stderr) == (True, "", True)
    for statement in READ_ALL_AGAIN.split(";"):
        newsletter.sql(statement)
    assert newsletter.emails() == set()
    assert newsletter.links().keys() == {ANN}


# The CRM

TOKEN_OF_FORM = r'name="csrf_token" value="([^"]+)"'


class Crm:
    """The CRM, as a user sees it who is logged in."""

    def __init__(self, url: str, folder: Path, settings: dict[str, str]) -> None:
        self.url = url
        self.browser = requests.Session()
        self.folder = folder
        self.settings = settings

    def send(self, path: str, **fields: str) -> str:
        """Send the form of a page, and return the next page."""
        [token] = re.findall(TOKEN_OF_FORM, self.get(path).text)
        fields = {**fields, "csrf_token": token}
        response = self.browser.post(f"{self.url}{path}", data=fields, timeout=60)
        response.raise_for_status()
        return response.text

    def get(self, path: str) -> requests.Response:
        return self.browser.get(f"{self.url}{path}", timeout=60)

    def log_in(self, password: str) -> str:
        return self.send("/login", name="anna canary", password=password)

    def finds(self, words: str) -> set[int]:
        """Return the ids of the customers that a search shows."""
        return {int(id) for id in re.findall(r"/customers/(\d+)", self.send("/", words=words))}

    def sync(self) -> None:
        """Bring the copy up to date, as a run without an event would do."""
        done = sh(CRM_SYNC.replace(" --follow 900", ""), self.folder, **self.settings)
        assert done.returncode == 0, done.stderr


Desk = tuple[Crm, Storefront]


@pytest.fixture
def desk(tmp_path: Path, database_url: str) -> Iterator[Desk]:
    """Serve the CRM and its store, with a user who is logged in and a copy without canaries."""
    password = secrets.token_hex()
    staff = {"anna canary": generate_password_hash(password, method="pbkdf2:sha256:1000")}
    more = {
        "ECWID_DATABASE_URL": database_url.replace("postgresql://", "postgresql+psycopg://"),
        "CRM_STAFF": json.dumps(staff),
    }
    with serving("crm", CRM_SERVE, tmp_path, **more) as (url, storefront, settings):
        crm = Crm(url, tmp_path, settings)
        crm.sync()
        with crm.browser:
            assert "password" in crm.log_in("wrong")
            assert "Search" in crm.log_in(password)
            yield crm, storefront


@contextmanager
def following(desk: Desk) -> Iterator[Callable[[str, set[int]], None]]:
    """Keep the copy as the page does, and yield a function that waits for what a search finds."""
    crm, storefront = desk
    storefront.send_events(True)
    with running(CRM_SYNC, crm.folder, stderr=subprocess.DEVNULL, **crm.settings) as process:

        def wait_until_found(words: str, expected: set[int]) -> None:
            ends_at = time.monotonic() + 60
            while crm.finds(words) != expected:
                assert process.poll() is None
                assert time.monotonic() < ends_at
                time.sleep(0.2)

        yield wait_until_found


def test_nobody_without_a_login(desk: Desk) -> None:
    """Each page and each endpoint is closed for others, and an event needs no login."""
    crm, storefront = desk
    ann = storefront.add(email=ANN, privateAdminNotes="canary note")
    crm.sync()
    for path in ("/", f"/customers/{ann}", "/nowhere", "/static/x"):
        response = requests.get(f"{crm.url}{path}", timeout=60)
        assert (response.url, "canary" in response.text) == (f"{crm.url}/login", False)
    for path in ("/", f"/customers/{ann}"):
        body = {"words": "", "note": "x"}
        assert requests.post(f"{crm.url}{path}", data=body, timeout=60).status_code == 400
        assert crm.browser.post(f"{crm.url}{path}", data=body, timeout=60).status_code == 400
    assert crm.get(f"{PREFIX}/customer/{ann}").status_code == 403
    cookie = requests.get(f"{crm.url}/login", timeout=60).headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert storefront.customer(ann)["privateAdminNotes"] == "canary note"
    assert storefront.deliver() == [200]


def test_the_search(desk: Desk) -> None:
    """The search finds a part of the e-mail, the name or the notes, in any case."""
    crm, storefront = desk
    person = {"name": "Ann <b>Canary</b> 100%"}
    ann = storefront.add(email=ANN, billingPerson=person, privateAdminNotes="calls_before noon")
    bob = storefront.add(email=BOB)
    crm.sync()
    for words in ("ANN.canary@", "<B>canary", "100%", "calls_before NOON"):
        assert crm.finds(words) == {ann}
    assert crm.finds("canary") == {ann, bob}
    for words in ("calls%before", "calls_b_fore", "nobody"):
        assert crm.finds(words) == set()
    assert "<b>" not in crm.send("/", words="canary")
    assert "<b>" not in crm.send("/", words='"><b>')
    assert crm.finds("") > {ann, bob}
    storefront.delete(ann)
    crm.sync()
    assert crm.finds("canary") == {bob}


def test_the_search_in_one_store(desk: Desk) -> None:
    """The search shows no customer of another store in the same database."""
    crm, storefront = desk
    ann = storefront.add(email=ANN)
    crm.sync()
    CopiedRows(crm.settings["ECWID_DATABASE_URL"]).change(
        "INSERT INTO ecwid_customers (store_id, id, email, document)"
        " SELECT '1004', id + 1, email, document FROM ecwid_customers WHERE id = :id",
        id=ann,
    )
    assert crm.finds("canary") == {ann}


def test_a_search_that_fails(desk: Desk) -> None:
    """The words of a search are in no log when the database fails."""
    crm, _ = desk
    [token] = re.findall(TOKEN_OF_FORM, crm.get("/").text)
    CopiedRows(crm.settings["ECWID_DATABASE_URL"]).change("DROP TABLE ecwid_customers")
    body = {"words": "canary", "csrf_token": token}
    failed = crm.browser.post(f"{crm.url}/", data=body, timeout=60)
    assert (failed.status_code, "canary" in failed.text) == (500, False)
    assert "ecwid_customers" in (crm.folder / "app.log").read_text(encoding="utf-8")


def test_the_search_without_ecwid(desk: Desk) -> None:
    """While Ecwid fails, the search works, and the page of a customer is a 5xx without a value."""
    crm, storefront = desk
    ann = storefront.add(email=ANN)
    crm.sync()
    storefront.fail(kind="status", status=500)
    assert crm.finds("canary") == {ann}
    page = crm.get(f"/customers/{ann}")
    assert (page.status_code, "canary" in page.text) == (502, False)
    assert crm.get("/customers/0").status_code == 400


def test_a_note_of_the_app(desk: Desk) -> None:
    """A note is on the page at once, in Ecwid, and seconds later in the search."""
    crm, storefront = desk
    with following(desk) as wait_until_found:
        ann = storefront.add(email=ANN, privateAdminNotes="first")
        wait_until_found("canary", {ann})
        page = crm.send(f"/customers/{ann}", note=" wants  a call")
        assert re.search(r"first\n\d{4}-\d\d-\d\d anna canary: wants a call<", page)
        assert storefront.customer(ann)["privateAdminNotes"] in page
        wait_until_found("wants a call", {ann})


def test_a_change_elsewhere(desk: Desk) -> None:
    """A change elsewhere is on the page at once, and seconds later in the search."""
    crm, storefront = desk
    with following(desk) as wait_until_found:
        ann = storefront.add(email=ANN)
        wait_until_found("canary", {ann})
        storefront.change(ann, privateAdminNotes="from elsewhere", email=BOB)
        assert "from elsewhere" in crm.get(f"/customers/{ann}").text
        wait_until_found("bob", {ann})
        assert crm.finds("ann.canary") == set()
        storefront.delete(ann)
        assert crm.get(f"/customers/{ann}").status_code == 404
        wait_until_found("canary", set())


def test_a_note_changes_nothing_else(desk: Desk) -> None:
    """A note keeps the notes and the consent that have changed since the page was opened."""
    crm, storefront = desk
    ann = storefront.add(email=ANN, acceptMarketing=True, privateAdminNotes="first")
    form = crm.get(f"/customers/{ann}")
    storefront.change(ann, acceptMarketing=False, privateAdminNotes="first\nsecond")
    assert "second" not in form.text
    crm.send(f"/customers/{ann}", note="third")
    customer = storefront.customer(ann)
    assert re.fullmatch(r"first\nsecond\n.*: third", customer["privateAdminNotes"])
    assert customer["acceptMarketing"] is False


def test_a_note_that_is_sent_twice(desk: Desk) -> None:
    """A note whose reply was lost is added once when the user sends the form again."""
    crm, storefront = desk
    ann = storefront.add(email=ANN)
    storefront.fail(kind="status", status=400, operation="update_customer", after=True)
    with pytest.raises(requests.HTTPError):
        crm.send(f"/customers/{ann}", note="wants a call")
    storefront.recover()
    crm.send(f"/customers/{ann}", note="wants a call")
    assert storefront.customer(ann)["privateAdminNotes"].count("wants a call") == 1
