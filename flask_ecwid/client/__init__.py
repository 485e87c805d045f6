"""EcwidClient, which makes the five calls without Flask, and the types of its results."""

from __future__ import annotations

from .change_cursor import CursorExpired
from .change_feed import (
    Change,
    ChangeIterator,
    CustomerDeleted,
    CustomerUnreadable,
    CustomerUpdated,
)
from .client import EcwidClient
from .pagination import CustomerIterator
from .types import (
    Customer,
    CustomerAttributes,
    CustomerContact,
    CustomerIdentity,
    CustomerPage,
    DeleteCount,
    Deletion,
    DeletionPage,
    ExtraField,
    Favorite,
    Person,
    ShippingAddress,
    Stats,
    UpdateCount,
)
from .upsert import Put

__all__ = [
    "Change",
    "ChangeIterator",
    "CursorExpired",
    "Customer",
    "CustomerAttributes",
    "CustomerContact",
    "CustomerDeleted",
    "CustomerIdentity",
    "CustomerIterator",
    "CustomerPage",
    "CustomerUnreadable",
    "CustomerUpdated",
    "DeleteCount",
    "Deletion",
    "DeletionPage",
    "EcwidClient",
    "ExtraField",
    "Favorite",
    "Person",
    "Put",
    "ShippingAddress",
    "Stats",
    "UpdateCount",
]
