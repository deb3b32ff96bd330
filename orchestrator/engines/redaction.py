"""Striking out secrets that a server says back.

A server may repeat the key it was sent: in an error, in a text, in any encoding. What it says ends up in
files of the run, so the key is replaced there, as it is and as URLs, JSON, HTML, base64 and hexadecimal would
write it.
"""

import base64
import re
from collections.abc import Iterable, Iterator
from html.entities import codepoint2name

MARK = "…"
SHORTEST_SECRET = 8  # characters; a shorter word may be any word
SECRET_NAME = re.compile(
    r"auth(?!ors?$)|cookie|credential|passw|passphrase|secret|signature|token(?!iz|s)|api[_-]?key|access[_-]?key"
    r"|private[_-]?key|(^|[_-])(key|pwd|sig)$",
    re.IGNORECASE,
)
"""Names whose values are secrets: of headers, options and parameters of a query string."""


def long_words(values: Iterable[str]) -> list[str]:
    """Some values and their words, as far as they are long enough to be secrets."""
    words = (word for value in values for word in (value.strip(), *value.split()))
    return [word for word in words if len(word) >= SHORTEST_SECRET]


def striker(secrets: Iterable[str]) -> re.Pattern[str] | None:
    """A pattern of all forms of some secrets; None without any.

    Any of their characters may be escaped as in URLs, JSON (at any depth) or HTML. Of a run of backslashes
    only the first may begin a character, so that a long one takes no quadratic time.
    """
    known = sorted(set(secrets), key=len, reverse=True)
    forms = [r"\\*".join(f"(?:{'|'.join(_forms_of(character))})" for character in secret) for secret in known]
    forms += sorted({re.escape(form) for secret in known for form in _encoded(secret)}, key=len, reverse=True)
    return re.compile("|".join(forms), re.IGNORECASE) if forms else None


def strike(text: str, pattern: re.Pattern[str] | None) -> str:
    """A text without secrets."""
    return text if pattern is None else pattern.sub(MARK, text)


def _forms_of(character: str) -> Iterator[str]:
    yield re.escape(character)
    yield "".join(f"%{byte:02x}" for byte in character.encode())
    units = character.encode("utf-16-be").hex()
    yield "".join(rf"(?:(?<!\\)\\+|\\)u{units[place : place + 4]}" for place in range(0, len(units), 4))
    yield f"&#0*{ord(character)};|&#x0*{ord(character):x};"
    if name := codepoint2name.get(ord(character)):
        yield f"&{name};"
    if character == " ":
        yield r"\+"


def _encoded(secret: str) -> Iterator[str]:
    yield secret.encode().hex()
    for offset in range(3):  # base64 writes three bytes at a time, and the secret may begin at any of them
        encoded = base64.b64encode(b"\0" * offset + secret.encode()).decode()
        inner = encoded[(0, 2, 3)[offset] :].rstrip("=")
        if (offset + len(secret.encode())) % 3:
            inner = inner[:-1]  # shares its last character with what follows
        yield inner
        yield inner.translate(str.maketrans("+/", "-_"))
