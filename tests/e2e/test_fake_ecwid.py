"""The fake Ecwid of the long runs, which judges them."""

from __future__ import annotations

import ast
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from ..conftest import ROOT, TOKEN
from ..soak import fake_ecwid
from ..soak.services import STORE, Ecwid

OTHER = "secret_otherOtherOtherOtherOtherOther1"


@pytest.fixture
def fake() -> Iterator[Ecwid]:
    with Ecwid(customers=300, unique_emails=False) as ecwid:
        yield ecwid


def call(fake: Ecwid, method: str, path: str = "", token: str = TOKEN, **options: Any) -> Any:
    url = f"{fake.settings()['ECWID_API_URL']}/{options.pop('store', STORE)}/customers{path}"
    headers = {"Authorization": f"Bearer {token}"}
    return requests.request(method, url, headers=headers, timeout=60, **options)


def create(fake: Ecwid, tag: str, **options: Any) -> Any:
    body = {"email": "ann@example.com", "privateAdminNotes": tag}
    return call(fake, "POST", json=body, **options)


def test_imports() -> None:
    """The judge of the long runs shares no code with the package."""
    tree = ast.parse((ROOT / "tests/soak/fake_ecwid.py").read_text(encoding="utf-8"))
    names = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    ]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert names
    assert not [name for name in names if "ecwid" in name or not name]


@pytest.mark.parametrize(
    ("moments", "most"),
    [([], 0), ([0.0, 59.9], 2), ([0.0, 60.0], 1), ([0.0, 1.0, 60.5, 60.9, 60.95], 4)],
)
def test_most_calls_of_a_minute(moments: list[float], most: int) -> None:
    """Calls at both ends of a minute count together, and calls a minute apart do not."""
    assert fake_ecwid.most_in(60, moments) == most


def test_calls_count_by_store_and_token(fake: Ecwid) -> None:
    """A call counts for its store and its token alone, and a refused token gets an empty 403."""
    fake.order("open_store", store="2004", tokens=[OTHER])
    assert call(fake, "GET").status_code == 200
    assert call(fake, "GET", store="2004", token=OTHER).json()["total"] == 0
    refused = call(fake, "GET", store="2004")
    assert (refused.status_code, refused.content) == (403, b"")
    fake.order("refuse", store=STORE, token=TOKEN)
    assert call(fake, "GET").status_code == 403
    figures = fake.report()
    assert (figures["calls"], figures["most_in_60_s"], figures["refused"]) == (2, 2, 1)
    other = fake.order("report", store="2004", token=OTHER)
    assert (other["calls"], other["refused"]) == (1, 0)
    fake.order("accept", store=STORE, token=TOKEN)
    assert call(fake, "GET").status_code == 200


def test_figures_of_all_stores(fake: Ecwid) -> None:
    """The calls of all stores count together, and a call with another store's token is a crossing.

    A token that no store accepts is refused, but is no crossing.
    """
    fake.order("open_store", store="2004", tokens=[OTHER])
    calls = [(STORE, TOKEN), ("2004", OTHER), ("2004", TOKEN), ("3005", OTHER), (STORE, "invented")]
    statuses = [call(fake, "GET", store=store, token=token).status_code for store, token in calls]
    assert statuses == [200, 200, 403, 403, 403]
    figures = fake.report_all()
    assert (figures["calls"], figures["most_of_a_token"]) == (5, 1)
    assert [figures[name] for name in ("refused", "most_refused_in_60_s")] == [3, 3]
    assert figures["refused_tokens"] == 3
    assert figures["crossings"] == 2
    assert figures["calls_of_stores"] == {STORE: 2, "2004": 2, "3005": 1}


def test_marked_customers(fake: Ecwid) -> None:
    """Two stores have customers with the same ids and e-mails, which only a mark tells apart.

    The ids of customers who are created later differ.
    """
    shown = []
    for store, mark in (("2004", "a"), ("2005", "b")):
        first = int(store) * 1_000_000
        options = {"customers": 1, "mark": mark, "created_from": first}
        fake.order("open_store", store=store, tokens=[OTHER], **options)
        made = create(fake, "made", store=store, token=OTHER).json()["id"]
        assert made == first
        items = call(fake, "GET", store=store, token=OTHER).json()["items"]
        assert [each["taxId"] for each in items] == [mark, mark]
        shown.append((items[0]["id"], items[0]["email"]))
    assert shown[0] == shown[1]


def test_doubled_customers(fake: Ecwid) -> None:
    """Two customers with one tag are doubled, unless the store keeps e-mails unique."""
    ids = [create(fake, tag).json()["id"] for tag in ("a", "b", "b")]
    assert fake.report()["doubled"] == {"b": ids[1:]}
    fake.order("open_store", store="2004", tokens=[OTHER])
    statuses = [create(fake, "a", store="2004", token=OTHER).status_code for _ in range(2)]
    assert statuses == [200, 409]
    assert fake.order("report", store="2004", token=OTHER)["doubled"] == {}


def test_pages_and_filters(fake: Ecwid) -> None:
    """Pages show every customer once, and the filters are those of the client."""
    pages = [call(fake, "GET", params={"offset": at, "limit": 100}).json() for at in (0, 100, 200)]
    shown = [each for page in pages for each in page["items"]]
    assert [each["id"] for each in shown] == fake.customers()
    exact = {"email": "SEED-1@example.com", "useExactEmailMatch": "true"}
    assert [c["email"] for c in call(fake, "GET", params=exact).json()["items"]] == [
        "seed-1@example.com"
    ]
    assert call(fake, "GET", params={"email": "seed-1@"}).json()["total"] == 1
    assert call(fake, "GET", params={"keyword": "seed-29"}).json()["total"] == 11
    id = create(fake, "a").json()["id"]
    for name in ("createdFrom", "updatedFrom"):
        assert call(fake, "GET", params={name: "4000000000"}).json()["total"] == 0
        assert call(fake, "GET", params={name: "1000"}).json()["total"] == 301
    last = call(fake, "GET", params={"sortBy": "UPDATED_DATE_ASC", "offset": 300}).json()["items"]
    assert [each["id"] for each in last] == [id]
    assert call(fake, "PUT", f"/{id}", json={"lang": "en"}).json() == {"updateCount": 1}
    assert call(fake, "GET", f"/{id}").json()["lang"] == "en"
    assert call(fake, "DELETE", f"/{id}").json() == {"deleteCount": 1}
    assert call(fake, "GET", f"/{id}").status_code == 404


def test_the_order_of_updates(fake: Ecwid) -> None:
    """The customers come in the order of their last update, from a second on."""
    ids = fake.customers()
    by_update = {"sortBy": "UPDATED_DATE_ASC"}
    first = call(fake, "GET", params=by_update).json()
    assert (first["total"], [each["id"] for each in first["items"]]) == (300, ids[:100])
    assert call(fake, "PUT", f"/{ids[0]}", json={"lang": "en"}).ok
    fake.change(ids[1], {"lang": "de"})
    assert call(fake, "DELETE", f"/{ids[2]}").ok
    last = call(fake, "GET", params={**by_update, "offset": 297}).json()
    assert [each["id"] for each in last["items"]] == ids[:2]
    second = int(time.time()) - 3600
    for filters in ({"updatedFrom": second}, {"updatedFrom": second, "updatedTo": second + 7200}):
        found = call(fake, "GET", params={**by_update, **filters}).json()
        assert [each["id"] for each in found["items"]] == ids[:2]


def test_deletions(fake: Ecwid) -> None:
    """The list of deletions has each deletion between two seconds, and its date."""
    ids = fake.customers()[:3]
    begun = int(time.time())
    for id in ids:
        assert call(fake, "DELETE", f"/{id}").ok
    found = call(fake, "GET", "/deleted", params={"limit": 2}).json()
    assert (found["total"], [each["id"] for each in found["items"]]) == (3, ids[:0:-1])
    rest = call(fake, "GET", "/deleted", params={"offset": 2}).json()["items"]
    dates = {str(each["id"]): each["date"] for each in [*found["items"], *rest]}
    assert fake.order("deletions", store=STORE) == dates
    for bounds in ({"from_date": begun + 3600}, {"to_date": begun - 1}):
        assert call(fake, "GET", "/deleted", params=bounds).json()["items"] == []
    bounds = {"from_date": begun, "to_date": begun + 3600}
    assert call(fake, "GET", "/deleted", params=bounds).json()["total"] == 3
    assert len(fake.order("documents", store=STORE)) == 297


@pytest.mark.parametrize("after", [False, True])
def test_a_fault_comes_before_or_after_the_effect(fake: Ecwid, after: bool) -> None:
    """A cut connection and a failure come before or after the effect, as ordered."""
    fake.fail({"kind": "cut", "after": after, "store": STORE})
    with pytest.raises(requests.ConnectionError):
        create(fake, "cut")
    fake.fail({"kind": "status", "status": 502, "after": after, "method": "POST"})
    assert create(fake, "status").status_code == 502
    assert call(fake, "GET").status_code == 200
    fake.fail({"kind": "status", "status": 429, "retry_after": 7, "after": after})
    assert create(fake, "limited").headers["Retry-After"] == "7"
    fake.fail()
    assert len(fake.report()["created"]) == (3 if after else 0)
    assert fake.report()["faults"] == {"cut": 1, "status": 2}
