"""Calls docs/clients/ecwid_shop.py as a command, and prints a result or the class of an error.

Runs beside what openapi-python-client has generated: tests/helpers/shop_scenarios.py.
"""

from __future__ import annotations

import os
import sys

from ecwid_customers_client.models import (
    Customer,
    CustomerAttributes,
    CustomerChanges,
    CustomerInput,
    Problem,
)
from ecwid_shop import Shop, ShopError
from typing_extensions import assert_type

shop = Shop(os.environ["SHOP_URL"], os.environ["SHOP_KEY"], float(os.environ["PATIENCE_S"]))


def run(command: str, argument: str) -> None:
    match command:
        case "add":
            print(assert_type(shop.add(CustomerInput(email=argument)), int))
        case "get":
            print(assert_type(shop.get(int(argument)), CustomerAttributes).email)
        case "update":
            shop.update(int(argument), CustomerChanges(lang="de"))
        case "delete":
            shop.delete(int(argument))
        case "list":
            to_delete = int(argument)  # so many of the first customers, after the first page
            ids: list[int] = []
            for customer in shop.customers():
                ids.append(assert_type(customer, Customer).id)
                if len(ids) == 100:
                    for each in ids[:to_delete]:
                        shop.delete(each)
            print(*ids)


try:
    run(sys.argv[1], sys.argv[2])
except ShopError as error:
    assert_type(error.problem, Problem | None)
    print(type(error).__name__, error.executed, error.attempts)
