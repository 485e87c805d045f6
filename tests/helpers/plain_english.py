"""Find sentences in docstrings, comments and pages that break the rules of plain English.

The rules are mechanical. A sentence has 24 words or fewer, no semicolon, no colon between two
clauses, and a noun as its subject. The docstring of a function begins with a verb.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from typing import NamedTuple

MOST_WORDS = 24

# A sentence that begins with a word of the first pattern has no noun as its subject. The words of
# the second pattern may stand before a noun, so only a verb or a preposition after them counts.
_NO_NOUN = re.compile(r"(What|Who|Whoever|Whom|Whose|Whether|It|That one)\b(?!.*\?$)")
_AFTER_PRONOUN = (
    r"(is|are|was|were|has|have|had|may|might|must|can|cannot|could|will|would|should|do|does|did"
    r"|of|that|which|who|whose|in|on|at|with|from|to|for|by|and|or|not|only|then|also)\b"
)
_PRONOUN = re.compile(rf"(One|These|Those) {_AFTER_PRONOUN}|One [a-z]+[^suia\W]s\b")
_VERB = re.compile(r"\b(is|are|was|were|has|have|had|may|must|can|cannot|will|would|does|do)\b")
_HEADER = re.compile(r"\b(Authorization|Origin|[A-Z]\w*(-\w+)+): ")
# A function's docstring may not begin with one of these words, nor with a verb such as "Returns".
_NOT_A_VERB = re.compile(
    r"(The|A|An|All|Any|As|Each|Every|For|How|If|In|Its?|No|None|Not|Of|On|One|Only|Such|That|These"
    r"|This|Those|Two|What|When|Where|Whether|Which|Who|Whose|Why|With|Without|True|False|\W"
    r"|[A-Z][a-z]*[^suia\W]s|[A-Z][a-z]+ing)\b"
)
_SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):")
_ENTRY = re.compile(r" {4}[*\w.]+: ")
_ITEM = re.compile(r"- (\w+: )?")
_TABLE = re.compile(r"\S {2,}\S|[│├└]")
_NOT_PROSE = re.compile(r"\s*([|#>]|!\[|---|<!--|:::|options:|\w+: \w+$|members:|- \w+$)")
_PAGE_ITEM = re.compile(r"\s*([-*]|\d+\.) ")
_LINK = re.compile(r"\]\([^)]*\)")
_FOR_TOOLS = re.compile(r"#\s*(noqa|type:|pragma|!)")


class Text(NamedTuple):
    """A paragraph of a docstring, or a comment."""

    line: int
    text: str
    begins_function: bool = False  # True for the first paragraph of a function's docstring


class Fault(NamedTuple):
    """A sentence that breaks a rule."""

    line: int
    rule: str
    sentence: str


def faults_of_source(source: str) -> list[Fault]:
    """Return the faults of all docstrings and comments of a module."""
    texts = sorted([*_docstrings(source), *_comments(source)])
    return [
        Fault(text.line, rule, sentence)
        for text in texts
        for rule, sentence in _faults_of_text(text)
    ]


def faults_of_page(page: str) -> list[Fault]:
    """Return the faults of the prose of a page, without code, tables and headings."""
    return [
        Fault(text.line, rule, sentence)
        for text in prose(page)
        for rule, sentence in _faults_of_text(text)
    ]


def prose(page: str) -> Iterator[Text]:
    """Yield the paragraphs and the list items of a page of Markdown, without its links."""
    start, paragraph, is_code = 0, "", False
    for number, line in enumerate([*page.split("\n"), ""], 1):
        is_fence = line.lstrip().startswith("```")
        is_code ^= is_fence
        ends = is_code or is_fence or not line.strip() or _NOT_PROSE.match(line)
        item = _PAGE_ITEM.match(line)
        if (ends or item) and paragraph:
            yield Text(start, _LINK.sub("]", paragraph).replace("**", ""))
            paragraph = ""
        if not ends:
            start = start if paragraph else number
            paragraph += f" {line[item.end() :] if item else line.strip()}"


def faults(sentence: str) -> list[str]:
    """Return the names of the rules that a sentence breaks."""
    broken = []
    if len(sentence.split()) > MOST_WORDS:
        broken.append(f"more than {MOST_WORDS} words")
    if ";" in sentence:
        broken.append("semicolon")
    if _has_colon(sentence):
        broken.append("colon")
    if _NO_NOUN.match(sentence) or _PRONOUN.match(sentence):
        broken.append("subject")
    return broken


def _faults_of_text(text: Text) -> Iterator[tuple[str, str]]:
    sentences = _sentences(text.text)
    for sentence in sentences:
        for rule in faults(sentence):
            yield rule, sentence
    if text.begins_function and sentences and _NOT_A_VERB.match(sentences[0]):
        yield "no verb first", sentences[0]


def _sentences(text: str) -> list[str]:
    """Split a text, with CODE in the place of code and URL in the place of an address."""
    text = re.sub(r"`[^`]*`", "CODE", " ".join(text.split()))
    text = re.sub(r"\bhttps?://\S+", "URL", text)
    return [each for each in re.split(r"(?<=[.!?])\s+(?=[A-Z(\"])", text) if each]


def _has_colon(sentence: str) -> bool:
    """Return True if a colon stands before a clause, and not before a list, code or a URL."""
    _, colon, rest = _HEADER.sub("", sentence).partition(": ")
    if not colon or rest.startswith(("CODE", "URL", '"')):
        return False
    is_list = re.search(r",| and | or ", rest) and not _VERB.search(rest)
    return not is_list


def _docstrings(source: str) -> Iterator[Text]:
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        docstring = ast.get_docstring(node)
        if docstring is None:
            continue
        function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not any(
            "property" in ast.unparse(each) for each in node.decorator_list
        )
        for number, (line, text) in enumerate(_paragraphs(docstring)):
            yield Text(node.body[0].lineno + line, text, function and number == 0)


def _paragraphs(docstring: str) -> Iterator[tuple[int, str]]:
    """Yield the paragraphs, list items and entries of sections, without code, tables and drawings.

    An indented block is code, unless the block belongs to a section such as `Args`. A block after
    the character of backspace is code too, because click prints the block as it is.
    """
    start, paragraph, in_section = 0, "", False
    docstring = re.sub(r"\x08\n(?:.+\n?)*", lambda code: "\n" * code[0].count("\n"), docstring)
    for number, line in enumerate([*docstring.split("\n"), ""]):
        heading = _SECTION.fullmatch(line)
        if line and not line.startswith(" "):
            in_section = heading is not None
        is_code = line.startswith("    ") and not in_section
        head = (_ENTRY if in_section else _ITEM).match(line)
        if not line or heading or is_code or head or _TABLE.search(line):
            if paragraph:
                yield start, paragraph
            start, paragraph = number, line[head.end() :] if head else ""
        elif paragraph:
            paragraph += f" {line.strip()}"
        else:
            start, paragraph = number, line.strip()


def _comments(source: str) -> Iterator[Text]:
    """Yield each comment. Comments on lines of their own that follow each other are one text."""
    above: tuple[int, int] | None = None
    start, block = 0, ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT or _FOR_TOOLS.match(token.string):
            continue
        text = re.split(r"\s+# ", token.string.lstrip("# "))[0]
        line, column = token.start
        alone = not token.line[:column].strip()
        if alone and block and above == (line - 1, column):
            block += f" {text}"
        else:
            if block:
                yield Text(start, block)
            start, block = line, text
        above = (line, column) if alone else None
    if block:
        yield Text(start, block)
