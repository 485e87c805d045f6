"""The long run of a steady load, while the resources of the workers stay flat."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

from .services import THREADS, Ecwid, Plugin, Repeated, ask, at_a_rate, hosts, plugin, status_of
from .verdict import Figures, Outcome, why

FAULTS: list[dict[str, Any]] = [
    {"kind": "cut"},
    {"kind": "cut", "after": True},
    {"kind": "truncate"},
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 502, "after": True},
    {"kind": "slow", "seconds": 1.0},
]


def steady(scale: float) -> Outcome:
    """Send 40 requests a second for 3 minutes, while 5 % of the calls fail."""
    seconds = max(30.0, 180 * scale)
    samples: list[list[dict[str, float]]] = []
    with (
        hosts() as [host],
        Ecwid(customers=1000) as ecwid,
        plugin(host, ecwid.settings(), workers=2) as served,
    ):
        ids = ecwid.customers()
        ecwid.fail(*({**fault, "probability": 0.05 / len(FAULTS)} for fault in FAULTS))

        def sample() -> None:
            samples.append([_held(worker) for worker in served.workers()])

        with Repeated(seconds / 24, sample):
            statuses = Counter(at_a_rate(40, seconds, lambda n: _mixed(served, ids, n)))
        report = ecwid.report()
    early, late = samples[len(samples) // 4], samples[-1]
    pairs = list(zip(early, late, strict=True))
    figures: Figures = {
        "requests": sum(statuses.values()),
        "statuses": dict(statuses),
        "calls": report["calls"],
        "faults": report["faults"],
        "workers after a quarter": early,
        "workers at the end": late,
    }
    return why(
        (statuses["none"], "requests without a response"),
        (not report["faults"], "no call failed"),
        (any(b["rss_mb"] > a["rss_mb"] * 1.1 + 5 for a, b in pairs), "memory grows"),
        # gunicorn starts threads when requests need them.
        (any(b["threads"] > THREADS + 4 for _, b in pairs), "threads grow"),
        # A thread has a connection to Ecwid, and two descriptors of the state file.
        (
            any(b["descriptors"] > a["descriptors"] + THREADS for a, b in pairs),
            "descriptors grow",
        ),
    ), figures


def _mixed(served: Plugin, ids: list[int], number: int) -> str:
    """Send a request for one of the five operations."""
    customer = random.choice(ids)
    method, path, body = random.choice(
        [
            ("GET", "customers?limit=20", None),
            ("GET", f"customer/{customer}", None),
            ("POST", "add_customer", {"email": f"steady-{number}@example.com"}),
            ("POST", f"update_customer/{customer}", {"lang": "en"}),
            ("POST", f"delete_customer/{1 + number}", None),
        ]
    )
    return status_of(ask(method, f"{served.url}/{path}", json=body))


def _held(worker: int) -> dict[str, float]:
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{worker}/status").read_text().splitlines()
        if ":\t" in line
    )
    return {
        "rss_mb": round(int(status["VmRSS"].split()[0]) / 1024, 1),
        "threads": int(status["Threads"]),
        "descriptors": len(os.listdir(f"/proc/{worker}/fd")),
    }
