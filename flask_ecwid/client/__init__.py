"""EcwidClient: the five calls on a store's customers, usable without Flask."""

from __future__ import annotations

from .client import EcwidClient
from .pagination import CustomerIterator
from .types import (
    Customer,
    CustomerAttributes,
    CustomerContact,
    CustomerIdentity,
    CustomerPage,
    DeleteCount,
    ExtraField,
    Favorite,
    Person,
    ShippingAddress,
    Stats,
    UpdateCount,
)

__all__ = [
    "Customer",
    "CustomerAttributes",
    "CustomerContact",
    "CustomerIdentity",
    "CustomerIterator",
    "CustomerPage",
    "DeleteCount",
    "EcwidClient",
    "ExtraField",
    "Favorite",
    "Person",
    "ShippingAddress",
    "Stats",
    "UpdateCount",
]
