"""Tokens and API keys that cannot be right, such as the examples of a page. Pure, without I/O."""

from __future__ import annotations

import hashlib
import re
from functools import cache

_QUOTES = "'\"`\u2018\u2019\u201c\u201d«»"
# Ecwid's tokens are letters, digits and an underscore. So dots in a row, brackets and signs for
# variables show an example, or a variable that no shell has replaced.
_PLACEHOLDER = re.compile(
    r"secret_|(secret_)?([x*]{4,}|your[_-].*|change[_-]?me)|.*(\.\.\.|…|[<>{}$%]).*",
    re.IGNORECASE | re.DOTALL,
)
_VISIBLE = re.compile(r"[!-~]{1,512}")
# Common passwords, and the words of this field and of the pages. Each word counts in lower case, in
# capitals, and with one capital letter in front.
_COMMON = """
    0 00 000 0000 000000 00000000 1 111111 11111111 112233 12 121212 123 123123 123321 1234
    12345 123456 1234567 12345678 123456789 1234567890 1q2w3e 1q2w3e4r 1qaz2wsx 654321 666666
    987654321 a aa aaa abc abc123 abcd abcd1234 abcdef access admin admin123 administrator api
    api-key api_key apikey asdf asdfgh auth authorization b bar baseball baz bearer caller
    change-me change_me changeit changeme client customer customers default delete demo dev
    development dragon ecwid ecwid_ example false flask flask_ecwid foo foobar football guest
    hello hunter2 iloveyou key letmein login master monkey my-key my-secret-key mykey mysecret
    mysecretkey name newsletter none null opensesame outlet p@ssw0rd p@ssword pass pass123
    passw0rd password password! password1 password12 password123 princess prod production public
    qazwsx qwerty qwerty1 qwerty123 qwertyuiop read root s3cr3t s3cret sandbox secret secret-key
    secret123 secret_ secret_... secret_key secretkey service sha256hex shadow shop shop123
    staging store string sunshine superman supersecret test test-key test1 test123 test_key
    testing testkey token true trustno1 undefined user warehouse welcome welcome1 write x xxx
    xxxx xxxxxxxx xyz y your-api-key your-key your_api_key your_key zaq12wsx zxcvbn zxcvbnm
"""


def quotes_fault(text: str) -> str:
    """Return the fault of a text in quotes, or an empty text.

    A shell removes quotes, but files such as those of `docker run --env-file` keep them.
    """
    stripped = text.strip()
    if stripped and (stripped[0] in _QUOTES or stripped[-1] in _QUOTES):
        return "has quotes around the value, so remove the quotes"
    return ""


def token_fault(token: str) -> str:
    """Return the fault of a token of Ecwid and how to mend the fault, or an empty text."""
    take = "the secret token of your app in Ecwid"
    if not token:
        return f"is missing, so set {take}"
    if fault := quotes_fault(token):
        return fault
    if token.lower().startswith("public_"):
        return f"is a public token, which cannot read customers, so set {take}"
    if re.match(r"bearer\s", token, re.IGNORECASE):
        return "begins with the word Bearer, so remove the word"
    if _PLACEHOLDER.fullmatch(token):
        return f"is a placeholder, so set {take}"
    if not _VISIBLE.fullmatch(token):
        return f"is not visible ASCII characters, 512 at most, so copy {take} again"
    return ""


def is_guessable(digest: str, caller: str) -> bool:
    """Return whether anybody could guess the API key with this digest.

    Args:
        digest: The SHA-256 of the API key, in hexadecimal digits.
        caller: The name of the caller, which must not be the API key as well.
    """
    return digest in _common_digests() or digest in _digests(caller)


@cache
def _common_digests() -> frozenset[str]:
    return frozenset(digest for word in ("", *_COMMON.split()) for digest in _digests(word))


def _digests(word: str) -> set[str]:
    forms = (word, word.lower(), word.upper(), word.capitalize())
    # `echo test | sha256sum` hashes the line end as well.
    texts = (f"{form}{end}" for form in forms for end in ("", "\n", "\r\n"))
    return {hashlib.sha256(text.encode()).hexdigest() for text in texts}
