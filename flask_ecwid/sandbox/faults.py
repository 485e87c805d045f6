"""A fault that the sandbox injects into calls. The module is pure.

`wire.py` makes the faults below HTTP, which are `refuse`, `reset`, `close`, `stall`, `drip` and
`truncate`. `fault_replies.py` makes the others.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import Any

OPERATIONS = (
    "list_customers",
    "get_customer",
    "add_customer",
    "update_customer",
    "delete_customer",
    "list_deleted",
)
# These faults damage or delay a good reply, so the sandbox executes the call first.
DAMAGING = ("drip", "truncate", "latency")
BELOW_HTTP = ("refuse", "reset", "close", "stall", "drip", "truncate")
_REDIRECTIONS = (301, 302, 303, 307, 308)
KINDS = (*BELOW_HTTP, "bomb", "html", "shape", "redirect", "status", "latency")


@dataclass(frozen=True)
class Fault:
    """A fault, and the calls into which the sandbox injects it.

    `kind` says how a call fails:

        refuse      the connection is refused, which is possible only in this process
        reset       the connection is reset before the first byte
        close       the connection is closed before the first byte
        stall       nothing comes for `seconds`, and then the connection is closed
        drip        the good reply comes, with one byte every `seconds`
        truncate    the connection is closed after half of the good reply's body
        latency     the good reply comes after `seconds`
        bomb        the body is a small gzip that expands to `size` bytes
        html        the body is an HTML page, with `status` or 200
        shape       the body is JSON with members of wrong types, with status 200
        redirect    the reply is a redirection to `location`, with `status` or 302
        status      the reply has `status` or 500, Ecwid's error `code` or no body (`empty`), and
                    `retry_after` as its Retry-After, in seconds or as the text of the header

    The other fields choose the calls. Without any, the fault is injected into every call:

        operation      only calls of this operation
        nth            only the matching call of this number, where 1 is the next one
        times          at most this many calls
        probability    each matching call with this probability, repeatable with the same `seed`

    With `after`, the store executes the call, and then only the reply is lost. Otherwise the store
    does not execute the call. The kinds `drip`, `truncate` and `latency` always execute the call.

    Raises:
        ValueError: a field is invalid. The message names the field, the choices and the value.
    """

    kind: str
    operation: str | None = None
    nth: int | None = None
    times: int | None = None
    probability: float = 1.0
    seed: int = 0
    after: bool = False
    seconds: float = 1.0
    status: int = 0
    code: str | None = None
    empty: bool = False
    retry_after: int | str | None = None
    location: str = "https://elsewhere.example.com/"
    size: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        operation_is_valid = self.operation is None or self.operation in OPERATIONS
        nth_is_valid = self.nth is None or _is_whole(self.nth, 1, 2**31)
        times_is_valid = self.times is None or _is_whole(self.times, 1, 2**31)
        retry_after_is_valid = (
            self.retry_after is None
            or _is_whole(self.retry_after, 0, 2**31)
            or _is_header(self.retry_after)
        )
        for name, is_valid, expected in (
            ("kind", self.kind in KINDS, f"one of {', '.join(KINDS)}"),
            ("operation", operation_is_valid, f"None or one of {', '.join(OPERATIONS)}"),
            ("nth", nth_is_valid, "None or a whole number from 1"),
            ("times", times_is_valid, "None or a whole number from 1"),
            ("probability", _is_number(self.probability, 0, 1), "a number from 0 to 1"),
            ("seed", isinstance(self.seed, int), "a whole number"),
            ("after", isinstance(self.after, bool), "True or False"),
            ("seconds", _is_number(self.seconds, 0, 3600), "a number from 0 to 3600"),
            ("status", self._status_is_valid(), self._valid_statuses()),
            ("code", self.code is None or isinstance(self.code, str), "None or a string"),
            ("empty", isinstance(self.empty, bool), "True or False"),
            (
                "retry_after",
                retry_after_is_valid,
                "None, a whole number from 0 or a string of printable ASCII",
            ),
            ("location", _is_header(self.location), "a string of printable ASCII"),
            ("size", _is_whole(self.size, 1, 2**30), "a whole number from 1 to 1073741824"),
        ):
            if not is_valid:
                raise ValueError(f"Fault {name} must be {expected}; got {getattr(self, name)!r}")

    @classmethod
    def from_json(cls, given: Any) -> Fault:
        """Return the fault that a JSON object describes.

        Raises:
            ValueError: the object does not describe a fault.
        """
        if not isinstance(given, dict):
            raise ValueError(f"A fault must be a JSON object; got {given!r}")
        for name in given:
            if name not in cls.__dataclass_fields__:
                members = ", ".join(cls.__dataclass_fields__)
                raise ValueError(f"Fault members must be some of {members}; got {name!r}")
        if "kind" not in given:
            raise ValueError(f"Fault kind must be one of {', '.join(KINDS)}; got none")
        return cls(**given)

    def to_json(self) -> dict[str, Any]:
        """Return the fault as a JSON object."""
        return asdict(self)

    def applies_to(self, ordinal: int, injected: int) -> bool:
        """Return whether the fault is injected into a matching call.

        Args:
            ordinal: the number of the call among the matching calls, from 1.
            injected: the number of calls into which the fault was injected before.
        """
        if self.nth is not None and ordinal != self.nth:
            return False
        if self.times is not None and injected >= self.times:
            return False
        # Each ordinal has its own random number, because calls arrive in several processes. With
        # one sequence, the same seed would give different calls in each run.
        return (
            self.probability >= 1
            or random.Random(f"{self.seed}:{ordinal}").random() < self.probability
        )

    @property
    def executes_call(self) -> bool:
        """True if the store executes the call before the fault shows."""
        return self.after or self.kind in DAMAGING

    def _status_is_valid(self) -> bool:
        if self.kind == "redirect":
            return self.status in (0, *_REDIRECTIONS)
        return self.status == 0 or (
            self.kind in ("status", "html") and _is_whole(self.status, 200, 599)
        )

    def _valid_statuses(self) -> str:
        if self.kind == "redirect":
            return f"0 or one of {', '.join(map(str, _REDIRECTIONS))}"
        return "0 or from 200 to 599" if self.kind in ("status", "html") else "0 for this kind"


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_number(value: object, least: float, most: float) -> bool:
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most
    )


def _is_header(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and value.isascii()
