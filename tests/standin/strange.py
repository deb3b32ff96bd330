"""Inputs that nobody means: strategies for trees, texts and bytes, and what has to become of them.

100 inputs of each kind in an ordinary run; LLDEG_FUZZ=2000 in the nightly one.
"""

import json
import os
from contextlib import suppress

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from orchestrator.errors import UserError

often = settings(
    max_examples=int(os.environ.get("LLDEG_FUZZ", "100")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NASTY = st.sampled_from(
    [
        "~nosuchuser/x",
        "$X",
        "a" * 5000,
        "语" * 90,
        "..",
        "/",
        "\x00",
        "\x1b[2J",
        "=1+1",
        "2024-01-01",
        "1e999",
    ]
)
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**30),
    st.floats(),
    st.text(max_size=20),
    NASTY,
)


def trees(scalars, keys):
    """Values of any depth."""
    return st.recursive(
        scalars,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=5)),
    )


JSON = trees(st.one_of(PLAIN, st.sampled_from([10**400, "\ud800", -1, 2**31, 1e308])), st.text(max_size=5))
"""Whatever JSON can say, and Python's `json` reads."""


def planted(content, where, value):
    """A copy of a JSON value in which the part that the keys lead to, as far as they do, is another."""
    changed = json.loads(json.dumps(content))
    section = changed
    for key in where[:-1]:
        section = section[key] if isinstance(section.get(key), dict) else section
    section[where[-1]] = value
    return changed


def or_a_sentence(action):
    """Do something, which may end in a user's error, and in no other."""
    with suppress(UserError):
        action()
