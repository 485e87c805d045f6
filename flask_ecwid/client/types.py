"""The types of Ecwid's replies. Each type has the name and the members of a component.

The components are those of the contract and of components.py.

The client checks a reply against the contract before it returns the reply, so the types hold at
run time. Ecwid may send more members than a type has, and the client returns the additional members
as well. Only `UpdateCount` and `DeleteCount` have no additional members.

Ecwid leaves out optional members, and sends None for some of them. Read an optional member with
`customer.get("email")`, because `customer["email"]` raises a KeyError where the member is absent.
"""

from __future__ import annotations

from typing import Any, TypedDict

__all__ = [
    "Customer",
    "CustomerAttributes",
    "CustomerContact",
    "CustomerIdentity",
    "CustomerPage",
    "DeleteCount",
    "Deletion",
    "DeletionPage",
    "ExtraField",
    "Favorite",
    "Person",
    "ShippingAddress",
    "Stats",
    "UpdateCount",
]


class CustomerIdentity(TypedDict):
    """The id of a customer, which is all of Ecwid's reply to a creation."""

    id: int


class CustomerAttributes(TypedDict, total=False):
    """A customer without the id.

    Prefer `billingPerson.name` to `name`, and `stats.numberOfOrders` to `totalOrderCount`, because
    Ecwid does not always update both. Dates look like `2021-12-21 06:05:58 +0000`.
    https://docs.ecwid.com/api-reference/rest-api/customers/get-customer
    """

    name: str | None
    email: str | None
    registered: str | None
    updated: str | None
    totalOrderCount: int | None
    customerGroupId: int | None
    customerGroupName: str | None
    billingPerson: Person | None
    shippingAddresses: list[ShippingAddress] | None
    contacts: list[CustomerContact] | None
    taxExempt: bool | None
    taxId: str | None
    taxIdValid: bool | None
    b2b_b2c: str | None
    fiscalCode: str | None
    electronicInvoicePecEmail: str | None
    electronicInvoiceSdiCode: str | None
    acceptMarketing: bool | None
    lang: str | None
    stats: Stats | None
    privateAdminNotes: str | None
    favorites: list[Favorite] | None
    extrafields: list[ExtraField] | None
    externalReferenceId: str | None


class Customer(CustomerIdentity, CustomerAttributes):
    """A customer with the id. https://docs.ecwid.com/api-reference/rest-api/customers/get-customer"""


class _RequiredOfPage(TypedDict):
    """The members that every page has."""

    total: int
    count: int
    offset: int
    limit: int
    items: list[Customer]


class CustomerPage(_RequiredOfPage, total=False):
    """A page of customers. https://docs.ecwid.com/api-reference/rest-api/customers/search-customers

    `total` counts the customers that match, and `allCustomerCount` all customers of the store.
    """

    allCustomerCount: int | None


class Person(TypedDict, total=False):
    """The person to bill."""

    name: str | None
    firstName: str | None
    lastName: str | None
    companyName: str | None
    street: str | None
    city: str | None
    countryCode: str | None
    countryName: str | None
    postalCode: str | None
    stateOrProvinceCode: str | None
    stateOrProvinceName: str | None
    phone: str | None


class ShippingAddress(TypedDict, total=False):
    """A saved shipping address of a customer.

    Ecwid documents `orderBy` as a boolean and sends a number. An incomplete address has -1.
    """

    id: int | None
    name: str | None
    companyName: str | None
    street: str | None
    city: str | None
    countryCode: str | None
    countryName: str | None
    postalCode: str | None
    stateOrProvinceCode: str | None
    stateOrProvinceName: str | None
    phone: str | None
    addressFormatted: str | None
    note: str | None
    createdDate: str | None
    defaultAddress: bool | None
    orderBy: Any


class CustomerContact(TypedDict, total=False):
    """A way to reach a customer. `contact` is an e-mail, a phone number or a link.

    Ecwid documents `orderBy` as a boolean and sends a number.
    """

    id: int | None
    contact: str | None
    handle: str | None
    note: str | None
    type: str | None
    default: bool | None
    orderBy: Any
    timestamp: str | None


class Stats(TypedDict, total=False):
    """The orders of a customer. Money is in the currency of the store."""

    numberOfOrders: int | None
    numberOfCanceledOrders: int | None
    salesValue: float | None
    averageOrderValue: float | None
    firstOrderDate: str | None
    lastOrderDate: str | None


class Favorite(TypedDict, total=False):
    """A product that a customer likes."""

    productId: int | None
    addedTimestamp: str | None


class ExtraField(TypedDict, total=False):
    """A field that the merchant added to customers.

    `value` is a text in most cases, but Ecwid does not document the type. Ecwid documents `orderBy`
    as a boolean and sends a number. Ecwid documents `entityTypes` as a string and sends a list.
    """

    key: str | None
    title: str | None
    value: Any
    type: str | None
    orderBy: Any
    entityTypes: Any


class UpdateCount(TypedDict):
    """Ecwid's reply to an update. https://docs.ecwid.com/api-reference/rest-api/customers/update-customer"""

    updateCount: int


class DeleteCount(TypedDict):
    """Ecwid's reply to a deletion. https://docs.ecwid.com/api-reference/rest-api/customers/delete-customer"""

    deleteCount: int


class Deletion(TypedDict):
    """A customer that was deleted. The date looks like `2021-12-21 06:05:58 +0000`."""

    id: int
    date: str


class DeletionPage(TypedDict):
    """A page of the deletions of the last six months. `total` counts the deletions that match."""

    total: int
    count: int
    offset: int
    limit: int
    items: list[Deletion]
