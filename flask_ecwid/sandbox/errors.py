"""The errors of the simulated store, which the app turns into Ecwid's error replies."""

from __future__ import annotations


class WrongParameter(ValueError):
    """A parameter or a body is invalid, and the reply is a 400.

    The message names the parameter or field, but never its value.
    """


class CustomerNotFound(Exception):
    """The store has no customer with this id."""


class EmailTaken(Exception):
    """Another customer has this e-mail. Upper and lower case are equal."""
