"""EcwidClient, which makes the five calls without Flask, and the types of its results."""

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
from .upsert import Put

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
    "Put",
    "ShippingAddress",
    "Stats",
    "UpdateCount",
]
