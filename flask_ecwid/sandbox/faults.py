"""Faults to order: which calls they befall, and what is then seen of them. Pure.

Faults below HTTP (`refuse`, `reset`, `close`, `stall`, `drip`, `truncate`) are made by wire.py.
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
)
# Those that are a good answer, spoiled: the call's work is done by then.
SPOILING = ("drip", "truncate", "latency")
BELOW_HTTP = ("refuse", "reset", "close", "stall", "drip", "truncate")
KINDS = (*BELOW_HTTP, "bomb", "html", "shape", "redirect", "status", "latency")


@dataclass(frozen=True)
class Fault:
    """A rule: which calls, and what happens to them.

    Which: those of one `operation` (None: any); of these the `nth` alone, from 1, or each with a
    `probability`, the same for the same `seed`; so many `times` at most. What: `kind`:

        refuse      no connection; only in this process
        reset       the connection breaks without a byte
        close       it ends without a byte
        stall       nothing for `seconds`, then it ends
        drip        a byte of the good answer every `seconds`
        truncate    half of the good answer's body
        latency     the good answer after `seconds`
        bomb        a small gzip body that becomes `size` bytes
        html        a page, with `status` or 200
        shape       a 200 with JSON that no operation answers
        redirect    `status` to `location`
        status      any `status`, with Ecwid's error `code` or no body (`empty`), and `retry_after`

    `after`: the call's work is done before the fault shows; otherwise it is not done at all, but
    for `drip`, `truncate` and `latency`, which need the answer.

    Raises:
        ValueError: names what cannot be.
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
    retry_after: str | None = None
    location: str = "https://elsewhere.example.com/"
    size: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        for name, allowed in (
            ("kind", self.kind in KINDS),
            ("operation", self.operation is None or self.operation in OPERATIONS),
            ("nth", self.nth is None or _is_whole(self.nth, 1, 2**31)),
            ("times", self.times is None or _is_whole(self.times, 1, 2**31)),
            ("probability", _is_number(self.probability, 0, 1)),
            ("seed", isinstance(self.seed, int)),
            ("after", isinstance(self.after, bool)),
            ("seconds", _is_number(self.seconds, 0, 3600)),
            ("status", self._status_fits()),
            ("code", self.code is None or isinstance(self.code, str)),
            ("empty", isinstance(self.empty, bool)),
            ("retry_after", self.retry_after is None or _is_header(self.retry_after)),
            ("location", _is_header(self.location)),
            ("size", _is_whole(self.size, 1, 2**30)),
        ):
            if not allowed:
                raise ValueError(f"{name} cannot be so")

    @classmethod
    def read(cls, given: Any) -> Fault:
        """A rule as JSON has it.

        Raises:
            ValueError: it is none.
        """
        if not isinstance(given, dict) or not set(given) <= set(cls.__dataclass_fields__):
            raise ValueError("a fault is an object with the members of Fault")
        if "kind" not in given:
            raise ValueError("kind is missing")
        return cls(**given)

    def written(self) -> dict[str, Any]:
        return asdict(self)

    def befalls(self, ordinal: int, times: int) -> bool:
        """Whether it befalls the matching call of this number, having befallen so many."""
        if self.nth is not None and ordinal != self.nth:
            return False
        if self.times is not None and times >= self.times:
            return False
        # By the ordinal and not in a row: the same in whichever process the call falls.
        return (
            self.probability >= 1
            or random.Random(f"{self.seed}:{ordinal}").random() < self.probability
        )

    @property
    def needs_work(self) -> bool:
        return self.after or self.kind in SPOILING

    def _status_fits(self) -> bool:
        if self.kind == "redirect":
            return self.status in (0, 301, 302, 303, 307, 308)
        return self.status == 0 or (
            self.kind in ("status", "html") and _is_whole(self.status, 200, 599)
        )


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_number(value: object, least: float, most: float) -> bool:
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most
    )


def _is_header(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and value.isascii()
