"""The rules that both modules of docs/clients follow, as scenarios.

A driver beside a module calls the module as a command. The plugin runs under gunicorn, and its
stores are simulated.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from flask_ecwid.sandbox import Fault
from flask_ecwid.settings import api_keys
from flask_ecwid.testing import EcwidSandbox

from ..conftest import PREFIX
from ..e2e.test_deployment import Server, gunicorn
from .fresh_folder import sh
from .raw_server import RawServer, receive_request

ADA = "ada@example.com"


class Shop:
    """A store, the plugin in front of the store, and the module that calls the plugin."""

    def __init__(
        self,
        store: EcwidSandbox,
        server: Server,
        folder: Path,
        driver: str,
        variables: dict[str, str],
    ) -> None:
        self.store = store
        self.server = server
        self.folder = folder
        self.driver = driver
        self.variables = variables

    def run(self, command: str, argument: object, **variables: str) -> str:
        """Return what the driver prints for a command."""
        changed = {**self.variables, **variables}
        return sh(f"{self.driver} {command} {argument}", self.folder, **changed).strip()

    def done(self) -> Counter[str]:
        """Return how often the store has done each operation."""
        return Counter(entry.operation for entry in self.store.ledger() if entry.done)

    def relay(self, *, loses_the_first_reply: bool) -> RawServer:
        """Return a relay to the plugin, which has a connection of its own for each request."""
        port = int(self.server.root.rpartition(":")[2])

        def lose(caller: socket.socket) -> None:
            with socket.create_connection(("127.0.0.1", port)) as target:
                target.sendall(request_of(caller))
                assert target.recv(1)

        def carry(caller: socket.socket) -> None:
            with socket.create_connection(("127.0.0.1", port)) as target:
                target.sendall(request_of(caller))
                while reply := target.recv(65_536):
                    caller.sendall(reply)

        return RawServer(lose, carry) if loses_the_first_reply else RawServer(carry)


def url_of(relay: RawServer) -> str:
    """Return the address of the mount behind a relay."""
    return f"http://127.0.0.1:{relay.port}{PREFIX}"


def request_of(caller: socket.socket) -> bytes:
    """Return a whole request, which asks the server to close the connection after its reply."""
    received = receive_request(caller)
    head, _, body = received.partition(b"\r\n\r\n")
    lines = [each for each in head.split(b"\r\n") if not each.lower().startswith(b"connection:")]
    lengths = [int(each[15:]) for each in lines if each.lower().startswith(b"content-length:")]
    while len(body) < sum(lengths):
        body += caller.recv(65_536)
    return b"\r\n".join([*lines, b"Connection: close", b"", body])


def waits_after_a_429(shop: Shop) -> None:
    """After a 429, the module waits for the time of Retry-After, and asks once more."""
    waits_after(429, shop)


def waits_after_a_503(shop: Shop) -> None:
    """After a 503, the module waits for the time of Retry-After, and asks once more."""
    waits_after(503, shop)


def waits_after(status: int, shop: Shop) -> None:
    ada = shop.store.add_customer({"email": ADA})
    shop.store.inject(Fault("status", status=status, retry_after="4", times=1))
    with shop.relay(loses_the_first_reply=False) as relay:
        assert shop.run("get", ada, SHOP_URL=url_of(relay)) == ADA
    assert relay.connections == 2


def creates_once_though_ecwids_reply_is_lost(shop: Shop) -> None:
    """If Ecwid's reply to a creation is lost, the customer is created once."""
    shop.store.inject(Fault("reset", operation="add_customer", nth=1, after=True))
    added = shop.run("add", ADA)
    assert [added] == [str(each["id"]) for each in shop.store.customers()]
    assert shop.done()["add_customer"] == 1


def creates_once_though_the_plugins_reply_is_lost(shop: Shop) -> None:
    """If the plugin's reply to a creation is lost, the repeat returns the same customer."""
    with shop.relay(loses_the_first_reply=True) as relay:
        added = shop.run("add", ADA, SHOP_URL=url_of(relay))
    assert [added] == [str(each["id"]) for each in shop.store.customers()]
    assert shop.done()["add_customer"] == 1


def deletes_though_the_plugins_reply_is_lost(shop: Shop) -> None:
    """If the plugin's reply to a deletion is lost, the 404 of the repeat is a success."""
    ada = shop.store.add_customer({"email": ADA})
    with shop.relay(loses_the_first_reply=True) as relay:
        assert shop.run("delete", ada, SHOP_URL=url_of(relay)) == ""
    assert shop.store.customers() == []


def reads_every_customer_while_some_are_deleted(shop: Shop) -> None:
    """Read each customer who stays once, although customers before them are deleted."""
    shop.store.seed(generated=260)
    before = [each["id"] for each in shop.store.customers()]
    for deleted in (0, 3, 100):
        read = [int(each) for each in shop.run("list", deleted).split()]
        assert len(read) == len(set(read)) == len(before)
        assert set(read) == set(before)
        before = [each["id"] for each in shop.store.customers()]


def every_failure_has_a_class(shop: Shop) -> None:
    """A failure that a repeat cannot mend has a class of its own, and is sent once."""
    ada = shop.store.add_customer({"email": ADA})
    assert shop.run("update", ada) == ""
    assert shop.run("get", 1) == "NotFound unknown 1"
    assert shop.run("delete", 1) == "NotFound no 1"
    assert shop.run("add", ADA) == "EmailTaken no 1"
    assert shop.run("add", "canary") == "Invalid no 1"
    assert shop.run("get", ada, SHOP_KEY="canary") == "NotAllowed unknown 1"
    astray = shop.server.root + "/elsewhere"
    assert shop.run("get", ada, SHOP_URL=astray) == "ShopError unknown 1"


def gives_up_in_time(shop: Shop) -> None:
    """The module gives up if Retry-After is longer than its patience."""
    shop.store.inject(Fault("status", status=503, retry_after="60"))
    assert shop.run("add", ADA, PATIENCE_S="5") == "Unavailable unknown 1"
    assert shop.store.customers() == []


def says_that_a_change_may_have_happened(shop: Shop) -> None:
    """Without any reply, nobody knows whether a change has happened."""
    nobody = "http://127.0.0.1:9"
    words = shop.run("add", ADA, SHOP_URL=nobody, PATIENCE_S="1").split()
    assert words[:2] == ["Unavailable", "unknown"]
    assert int(words[2]) > 1


def remembers_what_an_earlier_attempt_may_have_done(shop: Shop) -> None:
    """A last attempt that did nothing does not hide what an earlier attempt may have done."""
    ada = shop.store.add_customer({"email": ADA})
    late = Fault("status", status=429, retry_after="60", operation="update_customer", nth=2)
    shop.store.inject(late)
    with shop.relay(loses_the_first_reply=True) as relay:
        printed = shop.run("update", ada, SHOP_URL=url_of(relay), PATIENCE_S="5")
    assert printed == "Unavailable unknown 2"
    assert shop.store.customers()[0]["lang"] == "de"


def a_late_404_is_no_success_if_nothing_was_deleted(shop: Shop) -> None:
    """A deletion after attempts that surely did nothing fails with a 404."""
    shop.store.inject(Fault("status", status=429, retry_after="4", times=1))
    assert shop.run("delete", 1) == "NotFound no 2"


SCENARIOS: list[Callable[[Shop], None]] = [
    waits_after_a_429,
    waits_after_a_503,
    creates_once_though_ecwids_reply_is_lost,
    creates_once_though_the_plugins_reply_is_lost,
    deletes_though_the_plugins_reply_is_lost,
    reads_every_customer_while_some_are_deleted,
    every_failure_has_a_class,
    gives_up_in_time,
    says_that_a_change_may_have_happened,
    remembers_what_an_earlier_attempt_may_have_done,
    a_late_404_is_no_success_if_nothing_was_deleted,
]


def play(
    scenario: Callable[[Shop], None], path: Path, folder: Path, driver: str, **more: str
) -> None:
    """Run the plugin on a new store, and play a scenario with the module in front of the plugin."""
    store = EcwidSandbox(path / "store.sqlite3")
    key, entry = api_keys.make("all", api_keys.SCOPES)
    settings = {**store.config, "ECWID_API_KEYS": entry.entry()}
    with gunicorn(**settings) as server:
        variables = {"SHOP_URL": server.url, "SHOP_KEY": key, "PATIENCE_S": "60", **more}
        scenario(Shop(store, server, folder, driver, variables))
