"""The group `flask ecwid`, which imports flask_ecwid only when somebody uses the group."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

_INTERRUPTED = 130  # the exit status that shells use for SIGINT
_NO_LOG = logging.NullHandler()


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        with _import_errors_as_a_sentence():
            from flask_ecwid import cli

            return list(cli.COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        with _import_errors_as_a_sentence():
            from flask_ecwid import cli

            return cli.load_command(cmd_name)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _shown_errors():
            with _import_errors_as_a_sentence():
                from flask_ecwid.cli import terminal

                terminal.fill_closed_streams()
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _shown_errors():
            return super().invoke(ctx)


@contextmanager
def _shown_errors() -> Iterator[None]:
    """Show an error of click, and exit with its status although the error cannot be written.

    Without this, a full standard error would turn the status 2 into 1, and Ctrl-C would end with 1,
    as a failure does.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise click.exceptions.Exit(_INTERRUPTED) from None
    except click.ClickException as exc:
        with suppress(OSError):
            exc.show()
        raise click.exceptions.Exit(exc.exit_code) from None


@contextmanager
def _import_errors_as_a_sentence() -> Iterator[None]:
    try:
        yield
    except Exception as exc:  # importing a broken dependency may raise any exception
        raise click.ClickException(
            "flask ecwid does not work, because flask_ecwid cannot be imported"
            f" ({type(exc).__name__}: {exc})."
        ) from None


# The help stands here, because `python -OO` drops the docstring.
@click.group(cls=_LazyGroup, help="Work with the customers of an Ecwid store.")
def ecwid() -> None:
    """Work with the customers of an Ecwid store."""
    # Each command reports its own failures. Without this handler, Python would also print the
    # plugin's log lines. A host that has set up logging still gets them.
    logging.getLogger("flask_ecwid").addHandler(_NO_LOG)
