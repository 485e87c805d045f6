"""Ecwid's search, translated from query parameters to SQL for the table of store.py.

The module is pure. The SQL compares texts without case. The SQL uses instr() instead of LIKE,
because a `%` in a search term is an ordinary character. An empty text filters nothing. An invalid
number, date or boolean is an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

import orjson

from .errors import WrongParameter

MAX_LIMIT = 100
_DATE_FORMATS = (
    "%Y-%m-%d %H:%M:%S %z",  # 2021-12-21 06:05:58 +0000, the only format in bodies
    "%Y-%m-%d %H:%M:%S",  # UTC (S20)
    "%Y-%m-%d",  # UTC (S20)
)

Value = str | int | float | bool | None


@dataclass(frozen=True)
class Search:
    """A search. `where` and `order_by` are SQL, and `arguments` are the named values of `where`."""

    where: str
    arguments: Mapping[str, Value]
    order_by: str
    offset: int
    limit: int


def read_search(query: Mapping[str, str]) -> Search:
    """Return the search that the query parameters describe.

    A customer must match all filters. Unknown parameters are ignored (F).

    Raises:
        WrongParameter: a value is invalid.
    """
    conditions = ["1"]
    arguments: dict[str, Value] = {"useExactEmailMatch": False}
    for name, (parse, condition) in _FILTERS.items():
        if name in query and (value := parse(name, query[name])) is not None:
            conditions.append(condition)
            arguments[name] = value
    offset, limit = _read_page(query)
    return Search(
        where=" AND ".join(conditions),
        arguments=arguments,
        order_by=_parse_sort("sortBy", query.get("sortBy", "NAME_ASC")),  # the default of R24, S20
        offset=offset,
        limit=limit,
    )


def read_deletions(query: Mapping[str, str]) -> Search:
    """Return the search for deletions that the query parameters describe.

    No document names an order. The sandbox shows the latest first, so that the list moves while it
    is read.

    Raises:
        WrongParameter: a value is invalid.
    """
    bounds = {name: _date(name, query[name]) for name in ("from_date", "to_date") if name in query}
    offset, limit = _read_page(query)
    return Search(
        where="date >= :from_date AND date <= :to_date",
        arguments={"from_date": 0, "to_date": 2**62, **bounds},
        order_by="date DESC, id DESC",
        offset=offset,
        limit=limit,
    )


def _read_page(query: Mapping[str, str]) -> tuple[int, int]:
    """Return the offset and the limit of a page."""
    offset = _integer("offset", query.get("offset", "0"))
    limit = _integer("limit", query.get("limit", str(MAX_LIMIT)))
    if offset < 0:
        raise _wrong_number("offset")
    if limit < 1:
        raise _wrong_number("limit")
    return offset, min(limit, MAX_LIMIT)  # no document says whether Ecwid clamps or refuses


# SQLite sorts null and the empty text before all other values. So customers without orders come
# first in an ascending sort by the date of an order, and customers without a name by name.
_SORT_COLUMNS = {
    "NAME": "name",
    "EMAIL": "email",
    "ORDER_COUNT": "order_count",
    "REGISTERED_DATE": "registered",
    "UPDATED_DATE": "updated",
    "SALES_VALUE": "sales_value",
    "FIRST_ORDER_DATE": "first_order",
    "LAST_ORDER_DATE": "last_order",
}


def _parse_sort(name: str, text: str) -> str:
    column, _, direction = text.rpartition("_")
    if column not in _SORT_COLUMNS or direction not in ("ASC", "DESC"):
        known = ", ".join(f"{column}_{way}" for column in _SORT_COLUMNS for way in ("ASC", "DESC"))
        raise WrongParameter(f"Wrong parameter '{name}' value: expected one of {known}")
    # Equal customers are sorted by id, because otherwise pages could overlap. The id has the same
    # direction, so that SQLite can use the index of the column.
    return f"{_SORT_COLUMNS[column]} {direction}, id {direction}"


def parse_date(text: str) -> int | None:
    """Return a date in one of Ecwid's formats as a UNIX time, or None for any other text."""
    for date_format in _DATE_FORMATS:
        try:
            date = datetime.strptime(text, date_format)
        except ValueError:
            continue
        if date.tzinfo is None:
            date = date.replace(tzinfo=timezone.utc)
        return math.floor(date.timestamp())
    return None


def _text(name: str, text: str) -> str | None:
    return text.casefold() or None


def _integer(name: str, text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,19}", text) or not -(2**63) <= int(text) < 2**63:
        raise _wrong_number(name)
    return int(text)


def _decimal(name: str, text: str) -> float:
    if not re.fullmatch(r"[+-]?[0-9]{1,300}(\.[0-9]+)?", text):
        raise _wrong_number(name)
    return float(text)


def _date(name: str, text: str) -> int:
    """Return a bound as a UNIX time. The search includes the bound.

    A day without a time is its first second, also as an upper bound.
    """
    if re.fullmatch(r"[+-]?[0-9]+", text):
        return _integer(name, text)
    date = parse_date(text)
    if date is None:
        raise WrongParameter(f"Wrong parameter '{name}' value: not a date")
    return date


def _boolean(name: str, text: str) -> bool:
    if text in ("true", "yes", "on", "1"):
        return True
    if text in ("false", "no", "off", "0"):
        return False
    raise WrongParameter(
        f"Wrong parameter '{name}' value: expected one of true, yes, on, 1, false, no, off, 0"
    )


def _integers(name: str, text: str) -> str:
    return orjson.dumps([_integer(name, item.strip()) for item in text.split(",")]).decode()


def _texts(name: str, text: str) -> str | None:
    items = [item.strip() for item in text.casefold().split(",")]
    return orjson.dumps(items).decode() if text else None


def _scheme(name: str, text: str) -> str:
    if text not in ("b2b", "b2c"):
        raise WrongParameter(f"Wrong parameter '{name}' value: expected one of b2b, b2c")
    return text


def _wrong_number(name: str) -> WrongParameter:
    return WrongParameter(
        f"Wrong numeric parameter '{name}' value: not a number or a number out of range"
    )


def _of_address(key: str, condition: str) -> str:
    """Return SQL that is true if the member of any shipping address meets the condition.

    The condition calls the member `text`.
    """
    return (
        f"EXISTS (SELECT json_extract(value, '$.{key}') AS text"
        f" FROM json_each(folded, '$.shippingaddresses') WHERE {condition})"
    )


def _in_list(name: str) -> str:
    return f"IN (SELECT value FROM json_each(:{name}))"


def _of_customer(key: str) -> str:
    return f"json_extract(folded, '$.{key}')"


_PHONE_CONTACT = (
    "EXISTS (SELECT 1 FROM json_each(folded, '$.contacts')"
    " WHERE json_extract(value, '$.type') = 'phone'"
    " AND instr(json_extract(value, '$.contact'), :phone))"
)
# A customer who was never asked has no acceptMarketing, and matches neither true nor false. A
# customer without taxExempt is not exempt, and a customer without b2b_b2c is a consumer. The search
# compares the count of orders in `stats` if the customer has it. Otherwise the search compares
# totalOrderCount, because the two counts can disagree (as in D26's sample).
_FILTERS: dict[str, tuple[Callable[[str, str], Value], str]] = {
    "keyword": (_text, "(instr(name, :keyword) OR instr(email, :keyword))"),
    "name": (_text, "instr(name, :name)"),
    "useExactEmailMatch": (_boolean, "1"),
    "email": (
        _text,
        "CASE WHEN :useExactEmailMatch THEN email = :email ELSE instr(email, :email) END",
    ),
    "phone": (_text, f"({_of_address('phone', 'instr(text, :phone)')} OR {_PHONE_CONTACT})"),
    "city": (_text, _of_address("city", "instr(text, :city)")),
    "postalCode": (_text, _of_address("postalcode", "instr(text, :postalCode)")),
    "stateOrProvinceCode": (
        _text,
        _of_address("stateorprovincecode", "instr(text, :stateOrProvinceCode)"),
    ),
    "companyName": (_text, _of_address("companyname", "instr(text, :companyName)")),
    "countryCodes": (_texts, _of_address("countrycode", f"text {_in_list('countryCodes')}")),
    "acceptMarketing": (_boolean, f"{_of_customer('acceptmarketing')} = :acceptMarketing"),
    "lang": (_text, f"{_of_customer('lang')} = :lang"),
    "customerGroupIds": (
        _integers,
        f"{_of_customer('customergroupid')} {_in_list('customerGroupIds')}",
    ),
    "customerGroup": (_integer, f"{_of_customer('customergroupid')} = :customerGroup"),
    "minOrderCount": (_integer, "order_count >= :minOrderCount"),
    "maxOrderCount": (_integer, "order_count <= :maxOrderCount"),
    "minSalesValue": (_decimal, "sales_value >= :minSalesValue"),
    "maxSalesValue": (_decimal, "sales_value <= :maxSalesValue"),
    "purchasedProductIds": (
        _integers,
        "EXISTS (SELECT 1 FROM json_each(purchased)"
        f" WHERE value {_in_list('purchasedProductIds')})",
    ),
    "b2b_b2c": (_scheme, f"ifnull({_of_customer('b2b_b2c')}, 'b2c') = :b2b_b2c"),
    "taxExempt": (_boolean, f"ifnull({_of_customer('taxexempt')}, 0) = :taxExempt"),
    "fiscalCode": (_text, f"instr({_of_customer('fiscalcode')}, :fiscalCode)"),
    "electronicInvoicePecEmail": (
        _text,
        f"instr({_of_customer('electronicinvoicepecemail')}, :electronicInvoicePecEmail)",
    ),
    "electronicInvoiceSdiCode": (
        _text,
        f"instr({_of_customer('electronicinvoicesdicode')}, :electronicInvoiceSdiCode)",
    ),
    "createdFrom": (_date, "registered >= :createdFrom"),
    "createdTo": (_date, "registered <= :createdTo"),
    "updatedFrom": (_date, "updated >= :updatedFrom"),
    "updatedTo": (_date, "updated <= :updatedTo"),
    # J sends these parameters, but no document says what they change.
    "usePrecalculatedOrderCount": (_boolean, "1"),
    "checkOnlyCustomerId": (_boolean, "1"),
}
