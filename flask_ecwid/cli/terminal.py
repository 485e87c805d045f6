"""The standard streams, the messages, the progress bar and the signals of a command.

Messages go to the standard error. Messages of success and the bar appear only on a terminal, so
that a cron job without a failure prints nothing. Each of the three streams may be closed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from types import FrameType
from typing import BinaryIO, cast

import click

from .. import clock
from ..errors import EcwidError
from ..private_files import UnsafeFile

USAGE_ERROR = 2  # the exit status of a command that is refused before its first call
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A signal stopped the command. `status` is the exit status that shells use for the signal."""

    def __init__(self, signum: int) -> None:
        self.status = 128 + signum
        super().__init__(signum)


def fill_closed_streams() -> None:
    """Give the descriptors 0, 1 and 2 to the null device where they are closed.

    Otherwise the next file that the process opens would get such a descriptor. Error messages of a
    library would then go into the file, and errors of click to the standard output.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def is_interactive() -> bool:
    """Return whether the standard error is a terminal."""
    return sys.stderr.isatty()


def say(text: str, *, success: bool = False) -> None:
    """Print a message. Print a message of success only on a terminal.

    A message that cannot be written is dropped, because the exit status says the same.
    """
    if is_interactive() or not success:
        with suppress(OSError):
            click.echo(text, err=True)


def open_input(path: str) -> AbstractContextManager[BinaryIO]:
    """Open a file, or the standard input for the path `-`.

    Raises:
        click.UsageError: the standard input is closed.
        OSError: the file cannot be opened.
    """
    if path == "-" and sys.stdin is None:
        raise click.UsageError("the standard input is closed")
    return cast(AbstractContextManager[BinaryIO], click.open_file(path, "rb"))


@contextmanager
def output() -> Iterator[BinaryIO]:
    """Lend the standard output for bytes. Write with `write_whole`.

    Raises:
        click.ClickException: the standard output is closed, or cannot be written any more.
        BrokenPipeError: the reader has closed the pipe. click then exits without a message.
    """
    if sys.stdout is None:
        raise click.ClickException("the standard output is closed")
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as exc:
        # Python writes the rest of the buffer at its exit. Without the null device, the rest would
        # fail once more, with a message and the status 120.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
        raise click.ClickException(f"the standard output: {exc.strerror}") from None


def write_whole(stream: BinaryIO, data: bytes) -> None:
    """Write all the data, because a stream without a buffer may write a part of the data.

    Python gives the standard streams no buffer under PYTHONUNBUFFERED.
    """
    view = memoryview(data)
    while view:
        view = view[stream.write(view) :]


def show(text: str) -> None:
    """Print a result to the standard output, in UTF-8 whatever the locale is.

    Raises:
        click.ClickException: the standard output is closed, or cannot be written any more.
    """
    with output() as stream:
        write_whole(stream, f"{text}\n".encode())


def describe(error: EcwidError) -> str:
    """Return the text of an error, with the places that violate the contract but no values."""
    return f"{error} ({describe_places(error)})" if error.errors else str(error)


def describe_places(error: EcwidError) -> str:
    """Return the places that violate the contract, with what the contract expects there."""
    return " ".join(
        f"{violation.pointer}: {violation.keyword}. {violation.expected or ''}".rstrip(". ") + "."
        for violation in error.errors
    )


def describe_file(path: str, error: OSError) -> str:
    """Return the text of an error of a file, with the file that must not be used or else the path.

    Args:
        path: the path in the words of the caller.
        error: the error of this file, or of a file beside it.
    """
    return str(error) if isinstance(error, UnsafeFile) else f"{path}: {error.strerror}"


@contextmanager
def progress(about: str, length: Callable[[], int]) -> Iterator[Callable[[int], None]]:
    """Show a bar with count, rate and time left. Yield the function that advances the bar.

    The function `length` returns the number of steps. An export calls Ecwid for that number, so the
    bar calls `length` only on a terminal.
    """
    if not is_interactive():
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
def stop_at_once() -> Iterator[Callable[[], None]]:
    """Let SIGINT and SIGTERM raise Stopped at once, wherever the command is.

    Python drops an exception in a destructor. So yield a function that raises Stopped again, which
    a command without an end calls from time to time.
    """
    signals: list[int] = []

    def stop(signum: int, frame: FrameType | None) -> None:
        signals.append(signum)
        raise Stopped(signum)

    def raise_again() -> None:
        if signals:
            raise Stopped(signals[0])

    with _handled(stop):
        yield raise_again


@contextmanager
def stop_gracefully() -> Iterator[Callable[[], int]]:
    """Let the first SIGINT or SIGTERM end all waits, so that the current work can finish.

    A second signal ends the process at once. Yield a function that returns the exit status after a
    signal, and 0 without a signal.
    """
    status = 0

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal status
        status = 128 + signum
        clock.interrupt_sleeps()
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
