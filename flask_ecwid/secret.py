"""Text that is not shown: a token, or a URL with a password."""

from __future__ import annotations

from typing import Any, NoReturn


class Secret(str):
    """The text, for whoever uses it as one; its repr shows nothing, and it is in no pickle.

    A config that is printed, a debugger's view and a traceback with its variables show reprs.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is not pickled")
