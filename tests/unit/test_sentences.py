"""The texts of the package follow the rules of plain English."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import flask_ecwid
from flask_ecwid import errors
from flask_ecwid.errors import EcwidError

from ..conftest import ROOT
from ..helpers import plain_english

SOURCES = [
    path.relative_to(ROOT).as_posix()
    for path in sorted(
        [
            *(ROOT / "flask_ecwid").rglob("*.py"),
            *(ROOT / "flask_ecwid_plugins").rglob("*.py"),
            ROOT / "wsgi.py",
            ROOT / "gunicorn.conf.py",
        ]
    )
]
# The beginnings of sentences that may break a rule, each with the reason.
ALLOWED: dict[str, str] = {}


@pytest.mark.parametrize("source", SOURCES)
def test_the_texts_of_a_module_are_plain(source: str) -> None:
    """Docstrings and comments are short sentences with a noun or a verb in front."""
    found = plain_english.faults_of_source((ROOT / source).read_text(encoding="utf-8"))
    faults = [each for each in found if not each.sentence.startswith(tuple(ALLOWED))]
    assert not faults, "\n".join(
        f"{source}:{each.line}: {each.rule}: {each.sentence}" for each in faults
    )


def test_every_exception_is_needed() -> None:
    """An exception is removed when no text begins with its words."""
    texts = "\n".join((ROOT / source).read_text(encoding="utf-8") for source in SOURCES)
    assert [start for start in ALLOWED if start not in texts] == []


def error_classes(base: type[EcwidError] = EcwidError) -> Iterator[type[EcwidError]]:
    """Return the error classes of the package."""
    for cls in base.__subclasses__():
        if cls.__module__ == errors.__name__:
            yield cls
        yield from error_classes(cls)


@pytest.mark.parametrize("cls", list(error_classes()), ids=lambda cls: cls.__name__)
def test_the_text_of_a_problem_is_plain(cls: type[EcwidError]) -> None:
    """Titles and details of problems follow the same rules as docstrings."""
    for text in (getattr(cls, "title", ""), getattr(cls, "detail", "")):
        assert plain_english.faults_of_source(f"# {text}") == []


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ('def f():\n    """The page of a list."""', "no verb first"),
        ('def f():\n    """Returns a page."""', "no verb first"),
        ('def f():\n    """Whether a page follows."""', "no verb first"),
        ('class A:\n    """What is known of a page."""', "subject"),
        ('class A:\n    """A page.\n\n    It is the last page.\n    """', "subject"),
        ("x = 1  # whole; the rest follows", "semicolon"),
        ("x = 1  # Those of the host stay.", "subject"),
        ("x = 1  # One looks, and the others wait.", "subject"),
        ("x = 1  # A store that fails: the caller is told.", "colon"),
        ("# " + "\n# ".join(["a word"] * 13), "more than 24 words"),
        ('def f():\n    """Wait.\n\n    Raises:\n        E: It is late.\n    """', "subject"),
    ],
)
def test_a_rule_that_is_broken_is_found(source: str, rule: str) -> None:
    """Each rule finds the sentence that breaks it."""
    assert rule in [fault.rule for fault in plain_english.faults_of_source(source)]


@pytest.mark.parametrize(
    "source",
    [
        'def f():\n    """Return the page, or raise."""',
        '@property\ndef f():\n    """The page."""',
        'class A:\n    """One outcome for each key."""',
        "x = 1  # These functions wait.",
        "# Send a header such as Content-Type: application/json.",
        "# The kinds are: reset, stall or drip.",
        "x = 1  # noqa: F401; whatever a tool reads",
        '"""A module.\n\n    what; code: is left alone\n\nIts end.\n"""',
        '"""A command.\n\n\b\nwhat; code: is left alone\n"""',
        '"""A table.\n\nwhat is   none; it is\n"""',
    ],
)
def test_a_good_sentence_is_left_alone(source: str) -> None:
    """The rules find nothing in plain sentences, code, tables and comments for tools."""
    assert plain_english.faults_of_source(source) == []


@pytest.mark.parametrize(
    ("page", "lines"),
    [
        ("# What is it; a title\n\n| what; a table |\n\n```\nwhat; code\n```\n", []),
        ("A good sentence.\n\nIt is bad.\n", [3]),
        ("- An item\n  of two lines; bad\n- Another item\n", [1]),
        ("A [link](what;not) and `code; code`.\n", []),
        ("1. One.\n2. " + "word " * 25 + "\n", [2]),
    ],
)
def test_the_prose_of_a_page_is_read(page: str, lines: list[int]) -> None:
    """The rules find sentences in paragraphs and list items, and in nothing else of a page."""
    assert [fault.line for fault in plain_english.faults_of_page(page)] == lines


def test_the_package_is_read() -> None:
    """The rules see the modules of the package, and not an empty folder."""
    assert f"{flask_ecwid.__name__}/web/handlers.py" in SOURCES
