"""Secrets in a configuration: refused by name and by value, wherever they are.

A configuration is copied into the run directory, which is shown and shared. Only names of environment
variables may be there in place of a secret.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from orchestrator.engines.redaction import SECRET_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARIABLE = re.compile(r"([A-Za-z]+ )?\$(\w+|\{\w+\})")
"""$NAME or ${NAME}, after a word such as Bearer."""
_SPECIAL_TOKEN = re.compile(
    r"(eos|bos|pad|unk|sep|cls|mask|prefix|image|audio|video|think_end)_token(_\w+)?$", re.IGNORECASE
)
_VALUES = re.compile(
    r"\bsk-[\w-]{16,}|\bhf_[A-Za-z0-9]{20,}|\bgh[opsu]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}"
    r"|\b(AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[\w-]{30,}|\bxox[abps]-[\w-]{10,}|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}"
    r"|\b(Bearer|Basic) (?!\$)[\w+/.=~-]{8,}|-----BEGIN [A-Z ]*PRIVATE KEY"
)
"""Forms that keys of well-known services have."""
_URL_PASSWORD = re.compile(r"://[^/?#\s]*@")
_QUERY = re.compile(r"[?&;]([^=&;\s]+)=([^&;\s]+)")


def secrets_in(value: Any, place: str = "") -> Iterator[str]:
    """Places of a nested configuration that hold what looks like a secret, as "a.b"."""
    if isinstance(value, dict):
        for name, inner in value.items():
            below = f"{place}.{name}" if place else str(name)
            if (
                isinstance(inner, str)
                and is_secret_name(str(name))
                and inner
                and not _VARIABLE.fullmatch(inner)
            ):
                yield below
            else:
                yield from secrets_in(inner, below)
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            yield from secrets_in(inner, f"{place}.{number}")
    elif isinstance(value, str) and is_secret(value):
        yield place


def is_secret_name(name: str) -> bool:
    """Whether a name says that its value is a secret."""
    return bool(SECRET_NAME.search(name)) and not _SPECIAL_TOKEN.search(name)


def is_secret(text: str) -> bool:
    """Whether a text has the form of a key, or holds one."""
    if _VALUES.search(text) or _URL_PASSWORD.search(text):
        return True
    parameters = _QUERY.findall(text) if "://" in text else []
    return any(is_secret_name(name) and not _VARIABLE.fullmatch(value) for name, value in parameters)
