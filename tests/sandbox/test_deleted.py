"""The sandbox's list of deleted customers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from flask_ecwid.sandbox import TOKEN, create_sandbox

from ..helpers.moving_store import NOW, date

DAY = 86_400
CUSTOMERS = "/api/v3/1003/customers"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


class Shop:
    """A sandbox whose clock a test sets."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = NOW
        self.client: FlaskClient = create_sandbox(path, customers=250).test_client()
        monkeypatch.setattr(time, "time", lambda: float(self.now))

    def delete(self, id: int) -> None:
        assert self.client.delete(f"{CUSTOMERS}/{id}", headers=HEADERS).status_code == 200

    def ids(self) -> list[int]:
        reply = self.client.get(CUSTOMERS, headers=HEADERS)
        return [item["id"] for item in reply.get_json()["items"]]

    def deleted(self, **query: Any) -> Any:
        reply = self.client.get(f"{CUSTOMERS}/deleted", headers=HEADERS, query_string=query)
        return reply.get_json()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    return Shop(tmp_path / "store.sqlite3", monkeypatch)


def test_a_deleted_customer_is_listed(shop: Shop) -> None:
    """A deletion is listed with its date, and a customer who was not deleted is not."""
    assert shop.deleted() == {"total": 0, "count": 0, "offset": 0, "limit": 100, "items": []}
    id = shop.ids()[0]
    shop.delete(id)
    assert shop.deleted()["items"] == [{"id": id, "date": date(NOW)}]


def test_the_bounds_in_all_forms(shop: Shop) -> None:
    """The list is bounded by dates in each of Ecwid's four forms."""
    for id in shop.ids()[:3]:
        shop.delete(id)
        shop.now += DAY
    day = date(NOW + DAY)[:10]
    for bound in (NOW + DAY, date(NOW + DAY), date(NOW + DAY)[:19]):
        assert shop.deleted(from_date=bound)["total"] == 2
        assert shop.deleted(to_date=bound)["total"] == 2
        assert shop.deleted(from_date=bound, to_date=bound)["total"] == 1
    assert (shop.deleted(from_date=day)["total"], shop.deleted(to_date=day)["total"]) == (2, 1)
    assert "errorCode" in shop.deleted(from_date="yesterday")


def test_pages(shop: Shop) -> None:
    """A page has at most 100 deletions, the latest first, and the total of all."""
    ids = shop.ids()
    for id in ids:
        shop.delete(id)
    for id in shop.ids()[:20]:
        shop.now += 1
        shop.delete(id)
    page = shop.deleted(limit=1000, offset=0)
    assert (page["total"], page["count"], page["limit"]) == (120, 100, 100)
    assert page["items"][0]["date"] == date(shop.now)
    assert shop.deleted(offset=110)["count"] == 10
    assert shop.deleted(limit=7, offset=3)["items"] == page["items"][3:10]


def test_six_months(shop: Shop) -> None:
    """A deletion is listed for six months."""
    shop.delete(shop.ids()[0])
    shop.now += 180 * DAY
    assert shop.deleted()["total"] == 1
    shop.now += 5 * DAY
    assert shop.deleted()["total"] == 0
