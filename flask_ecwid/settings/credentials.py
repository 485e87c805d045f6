"""Tokens and API keys that cannot be right, such as the examples of a page. Pure, without I/O."""

from __future__ import annotations

import hashlib
import re
from functools import cache

_QUOTES = "'\"`\u2018\u2019\u201c\u201d«»"
# Ecwid's tokens are a prefix, an underscore and 32 random letters and digits. So dots in a row,
# brackets and signs for variables show an example, or a variable that no shell has replaced. A word
# may stand in a real token by chance, so a word counts only in fewer than 20 signs.
# Other signs that are repeated pass, because a developer invents `secret_0000` for the sandbox.
_WORD = "token|your|xxx|change[_-]?me|example|placeholder|replace|insert|todo"
_PLACEHOLDER = re.compile(
    rf"secret_?|(secret_)?([x*_-]{{3,}}|your[_-].*|(?!.{{20}}).*({_WORD}).*)"
    r"|.*(\.\.\.|…|[<>{}$%]).*",
    re.IGNORECASE | re.DOTALL,
)
_BEARER = re.compile(r"bearer\s", re.IGNORECASE)
_VISIBLE = re.compile(r"[!-~]{1,512}")
# Common passwords and the examples of many pages. Each word counts in lower case, in capitals, and
# with one capital letter in front.
_COMMON = """
    0 000000 00000000 1 111111 11111111 112233 121212 123 123123 123321 1234 12345 123456 1234567
    12345678 123456789 1234567890 1q2w3e 1q2w3e4r 1qaz2wsx 654321 666666 987654321 abc abc123 abcd
    abcd1234 abcdef admin admin123 administrator api-key api_key apikey asdfgh changeit changeme
    change-me change_me demo dragon example foo foobar football hello hunter2 iloveyou key letmein
    login master monkey my-key mykey my-secret-key mysecret mysecretkey null none opensesame
    p@ssw0rd p@ssword pass pass123 passw0rd password password! password1 password12 password123
    princess qazwsx qwerty qwerty1 qwerty123 qwertyuiop root s3cr3t s3cret secret secret123
    secret-key secret_key secretkey shadow string sunshine superman supersecret test test-key
    test_key test1 test123 testing testkey token trustno1 undefined welcome welcome1 xxx xxxx
    xxxxxxxx your-api-key your_api_key your-key your_key zxcvbn zxcvbnm
"""


def quotes_fault(text: str) -> str:
    """Return the fault of a text in quotes, or an empty text.

    A shell removes quotes, but files such as those of `docker run --env-file` keep them.
    """
    stripped = text.strip()
    if stripped and (stripped[0] in _QUOTES or stripped[-1] in _QUOTES):
        return "has quotes around the value, so remove the quotes"
    return ""


def without_quotes(text: str) -> str:
    """Return a text without the quotes around it."""
    return text.strip().strip(_QUOTES)


def token_fault(token: str) -> str:
    """Return the fault of a token of Ecwid and how to mend the fault, or an empty text."""
    take = "the secret token of your app in Ecwid"
    if not token:
        return f"is missing, so set {take}"
    if fault := quotes_fault(token):
        return fault
    if token.lower().startswith("public_"):
        return f"is a public token, which cannot read customers, so set {take}"
    if _BEARER.match(token):
        return "begins with the word Bearer, so remove the word"
    if _PLACEHOLDER.fullmatch(token):
        return f"is a placeholder, so set {take}"
    if not _VISIBLE.fullmatch(token):
        return f"is not visible ASCII characters, 512 at most, so copy {take} again"
    return ""


def client_id_fault(client_id: str) -> str:
    """Return the fault of the client_id of an app in Ecwid, or an empty text."""
    return _client_fault(client_id, "client_id")


def client_secret_fault(client_secret: str) -> str:
    """Return the fault of the client_secret of an app in Ecwid, or an empty text."""
    return _client_fault(client_secret, "client_secret")


def _client_fault(text: str, name: str) -> str:
    take = f"the {name} of your app in Ecwid"
    if not text:
        return ""  # because only OAuth needs the text
    if fault := quotes_fault(text):
        return fault
    if _PLACEHOLDER.fullmatch(text):
        return f"is a placeholder, so set {take}"
    return "" if _VISIBLE.fullmatch(text) else f"is not visible ASCII characters, so copy {take}"


def is_guessable(digest: str) -> bool:
    """Return whether anybody could guess the API key with this SHA-256, in hexadecimal digits."""
    return digest in _common_digests()


@cache
def _common_digests() -> frozenset[str]:
    return frozenset(digest for word in ("", *_COMMON.split()) for digest in _digests(word))


def _digests(word: str) -> set[str]:
    forms = (word, word.lower(), word.upper(), word.capitalize())
    # `echo test | sha256sum` hashes the line end as well.
    texts = (f"{form}{end}" for form in forms for end in ("", "\n", "\r\n"))
    return {hashlib.sha256(text.encode()).hexdigest() for text in texts}
