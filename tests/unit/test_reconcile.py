"""A customer of a search counts as created by a call if it shows no sent value differently."""

from __future__ import annotations

from typing import Any

import pytest

from flask_ecwid.client.reconcile import find_created
from flask_ecwid.errors import EmailTaken

EMAIL = {"email": "a@example.com"}
REGISTERED = "2026-01-01 00:00:00 +0000"
STARTED_AT = 1767225600.0


def found(sent: dict[str, Any], shown: dict[str, Any]) -> int | None:
    item = {**EMAIL, "id": 7, "registered": REGISTERED, **shown}
    return find_created({**EMAIL, **sent}, {"items": [item]}, STARTED_AT)


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ({"contacts": [{"contact": "1", "orderBy": True}]}, {"contact": "1", "orderBy": 0}),
        ({"contacts": [{"contact": "1", "type": "SIGNAL"}]}, {"contact": "1", "type": "OTHER"}),
        ({"contacts": [{"contact": 5, "id": 9}]}, {"contact": "5", "id": 1}),
    ],
)
def test_values_that_ecwid_changes_itself(sent: dict[str, Any], shown: dict[str, Any]) -> None:
    """An order, a type, an id and the type of a number say nothing about who created a customer."""
    assert found(sent, {"contacts": [shown]}) == 7


@pytest.mark.parametrize(
    ("sent", "shown"),
    [({"lang": "en"}, {"lang": "de"}), ({"customerGroupId": 5}, {"customerGroupId": "6"})],
)
def test_other_values(sent: dict[str, Any], shown: dict[str, Any]) -> None:
    """Another value belongs to another creation."""
    with pytest.raises(EmailTaken):
        found(sent, shown)
