"""What the store refuses."""

from __future__ import annotations


class WrongParameter(ValueError):
    """A parameter or a body that Ecwid answers with 400. Says which one, never its value."""


class CustomerNotFound(Exception):
    """The store has no customer with this id."""


class EmailTaken(Exception):
    """Another customer has this e-mail; case makes no difference."""
