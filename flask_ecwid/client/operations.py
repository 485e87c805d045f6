"""The operations: one table that says how Ecwid is called for each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["read", "change", "create"]


@dataclass(frozen=True)
class EcwidOperation:
    """One call of Ecwid's REST API, https://api-docs.ecwid.com/reference/customers."""

    name: str  # the operationId in the contract
    method: str
    path: str  # below the URL of the store
    kind: Kind  # decides how often a failed call may be repeated
    ecwid_scope: str  # that the token needs
    reply: str  # the component of the contract that a good reply fits
    required_fields: str = ""  # that the contract requires, whatever `responseFields` names
    sets_email: bool = False  # a 409 then says that another customer has the e-mail
    reply_if_gone: bytes | None = None  # of a repeated attempt that finds the effect of the first

    @property
    def is_about_one_customer(self) -> bool:
        """Whether a 404 says that the store has no such customer."""
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
    )
}
