"""What a command shows while it works, and how it is stopped.

Quiet where nobody looks: a bar and good news only on a terminal, bad news always; all of it on the
standard error.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import click

from .. import clock

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """The command was told to stop; `status` is how a shell calls that."""

    def __init__(self, signum: int) -> None:
        self.status = 128 + signum
        super().__init__(signum)


def is_watched() -> bool:
    return sys.stderr.isatty()


def tell(text: str, *, good: bool = False) -> None:
    if is_watched() or not good:
        click.echo(text, err=True)


@contextmanager
def progress(about: str, length: Callable[[], int]) -> Iterator[Callable[[int], None]]:
    """A bar with count, rate and time left; gives what moves it on. `length` is asked only where
    there is somebody to see it.
    """
    if not is_watched():
        yield lambda steps: None
        return
    begun = clock.now()
    done = 0
    with click.progressbar(
        length=length(),
        label=about,
        file=sys.stderr,
        show_pos=True,
        show_eta=True,
        item_show_func=lambda rate: rate,
    ) as bar:

        def advance(steps: int) -> None:
            nonlocal done
            done += steps
            bar.update(steps, f"{done / max(clock.now() - begun, 0.1):.1f}/s")

        yield advance


@contextmanager
def stopped_at_once() -> Iterator[None]:
    """A signal to stop raises Stopped, wherever the command is: for what may end anywhere."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise Stopped(signum)

    with _handled(stop):
        yield


@contextmanager
def stopped_softly() -> Iterator[Callable[[], int]]:
    """A first signal to stop ends all waits, and what is under way comes to its end; a second one
    is as ever. Gives what tells the status of the command then, 0 while there was no signal.
    """
    status = 0

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal status
        status = 128 + signum
        clock.stop_waiting()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    with _handled(stop):
        yield lambda: status


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {each: signal.signal(each, handler) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, former in before.items():
            signal.signal(each, former)
