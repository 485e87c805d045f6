"""The table of the operations, with the call to Ecwid that each operation makes.

The contract has the first five. `list_deleted` is no endpoint. The change feed needs the call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["read", "change", "create"]


@dataclass(frozen=True)
class EcwidOperation:
    """One call of Ecwid's REST API, https://docs.ecwid.com/api-reference/rest-api/customers."""

    name: str  # The operationId, if the contract has the operation.
    method: str
    path: str  # The path below the URL of the store.
    kind: Kind  # Decides how often a failed call may be repeated.
    ecwid_scope: str  # The Ecwid scope that the token needs.
    reply: str  # The component of components.py that a good reply fits.
    required_fields: str = ""  # Added to a caller's `responseFields`, because replies need them.
    is_paged: bool = False  # The reply has `items`, of which the call limits the number.
    sets_email: bool = False  # A 409 means that another customer has the e-mail.
    reply_if_gone: bytes | None = None  # The reply if a repetition finds the customer deleted.

    @property
    def is_about_one_customer(self) -> bool:
        """True if a 404 means that the store has no such customer."""
        return "{customer_id}" in self.path


OPERATIONS = {
    operation.name: operation
    for operation in (
        EcwidOperation(
            name="list_customers",
            method="GET",
            path="/customers",
            kind="read",
            ecwid_scope="read_customers",
            reply="CustomerPage",
            required_fields="total,count,offset,limit,items(id)",
            is_paged=True,
        ),
        EcwidOperation(
            name="get_customer",
            method="GET",
            path="/customers/{customer_id}",
            kind="read",
            ecwid_scope="read_customers",
            reply="Customer",
            required_fields="id",
        ),
        EcwidOperation(
            name="add_customer",
            method="POST",
            path="/customers",
            kind="create",
            ecwid_scope="create_customers",
            reply="CustomerIdentity",
            sets_email=True,
        ),
        EcwidOperation(
            name="update_customer",
            method="PUT",
            path="/customers/{customer_id}",
            kind="change",
            ecwid_scope="update_customers",
            reply="UpdateCount",
            sets_email=True,
        ),
        EcwidOperation(
            name="delete_customer",
            method="DELETE",
            path="/customers/{customer_id}",
            kind="change",
            ecwid_scope="update_customers",
            reply="DeleteCount",
            reply_if_gone=b'{"deleteCount":1}',
        ),
        EcwidOperation(
            name="list_deleted",
            method="GET",
            path="/customers/deleted",
            kind="read",
            ecwid_scope="read_store_profile",
            reply="DeletionPage",
            is_paged=True,
        ),
    )
}
