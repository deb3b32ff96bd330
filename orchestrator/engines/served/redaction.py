"""Striking out secrets that a server says back.

A server may repeat the key it was sent: in an error, in a text, in any encoding. What it says ends up in
files of the run, so the key is replaced there, as it is and as URLs, base64 and hexadecimal would write it.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MARK = "…"
SHORTEST_SECRET = 8  # characters; a shorter word may be any word
SECRET_NAME = re.compile(
    r"auth(?!ors?$)|cookie|credential|passw|passphrase|secret|signature|token(?!iz|s)|api[_-]?key|access[_-]?key"
    r"|private[_-]?key|(^|[_-])(key|pwd|sig)$",
    re.IGNORECASE,
)
"""Names whose values are secrets: of headers, options and parameters of a query string."""


def secrets_in(headers: Mapping[str, str]) -> list[str]:
    """The secrets among headers: the words of those whose names say that they hold one."""
    values = [value for name, value in headers.items() if SECRET_NAME.search(name)]
    return long_words(values)


def long_words(values: Iterable[str]) -> list[str]:
    """Some values and their words, as far as they are long enough to be secrets."""
    words = (word for value in values for word in (value.strip(), *value.split()))
    return [word for word in words if len(word) >= SHORTEST_SECRET]


def striker(secrets: Iterable[str]) -> re.Pattern[str] | None:
    """A pattern of all forms of some secrets; None without any."""
    forms = sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, forms)), re.IGNORECASE) if forms else None


def strike(text: str, pattern: re.Pattern[str] | None) -> str:
    """A text without secrets."""
    return text if pattern is None else pattern.sub(MARK, text)


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield "".join(f"%{byte:02x}" for byte in secret.encode())
    yield secret.encode().hex()
    for offset in range(3):  # base64 writes three bytes at a time, and the secret may begin at any of them
        encoded = base64.b64encode(b"\0" * offset + secret.encode()).decode()
        inner = encoded[(0, 2, 3)[offset] :].rstrip("=")
        if (offset + len(secret.encode())) % 3:
            inner = inner[:-1]  # shares its last character with what follows
        yield inner
        yield inner.translate(str.maketrans("+/", "-_"))
