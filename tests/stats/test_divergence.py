"""The divergence from the likeliest tokens of two models, against that of their full distributions."""

import numpy as np
import pytest
from scipy.special import log_softmax, rel_entr

from stats.fidelity import NAMES, choice_fidelity, coarse_divergence, text_fidelity

WORDS, PLACES, TOP = 500, 40, 20


def likeliest(logs, own):
    """What an engine tells of full distributions, shape (places, words): tokens and log-probabilities."""
    tokens = np.column_stack([own, np.argsort(-logs, axis=1)[:, :TOP]])
    return tokens, np.take_along_axis(logs, tokens, axis=1)


@pytest.fixture(params=[0.1, 1.0, 3.0])
def pair(request):
    """Full distributions of two models that are so far apart, and a text."""
    draw = np.random.default_rng(7)
    base = draw.normal(0, 2.5, (PLACES, WORDS))
    logs = [log_softmax(one, axis=1) for one in (base, base + draw.normal(0, request.param, base.shape))]
    own = [draw.choice(WORDS, p=np.exp(row)) for row in logs[0]]
    return logs, own


def test_the_estimate_lacks_the_divergence_within_the_rest(pair):
    """So it is never above the whole, at any distance and whatever the lists have in common."""
    logs, own = pair
    tokens, values = zip(*(likeliest(one, own) for one in logs), strict=True)
    found = coarse_divergence(tokens, values)
    for place, (p, q) in enumerate(zip(*map(np.exp, logs), strict=True)):
        rest = np.setdiff1d(np.arange(WORDS), np.intersect1d(tokens[0][place], tokens[1][place]))
        within = p[rest].sum() * rel_entr(p[rest] / p[rest].sum(), q[rest] / q[rest].sum()).sum()
        whole = rel_entr(p, q).sum()
        assert found[place] == pytest.approx(whole - within, abs=1e-9)
        assert found[place] <= whole


def test_a_model_is_as_far_from_itself_as_rounding(pair):
    """In numbers of 32 bits that another engine has rounded otherwise, too."""
    logs, own = pair
    tokens, values = likeliest(logs[0], own)
    single = values.astype(np.float32).astype(float)
    assert np.abs(coarse_divergence((tokens, tokens), (values, single))).max() < 1e-6
    assert text_fidelity((tokens, tokens), (values, values)).tolist() == [0.0, 0.0, 1.0, 0.0, PLACES]


def test_the_other_numbers_are_those_of_the_text(pair):
    """Counted place by place."""
    logs, own = pair
    tokens, values = zip(*(likeliest(one, own) for one in logs), strict=True)
    _, ratio, times, other, first = text_fidelity(tokens, values)
    ratios = [p[token] - q[token] for p, q, token in zip(*logs, own, strict=True)]
    differs = [int(p.argmax() != q.argmax()) for p, q in zip(*logs, strict=True)]
    assert (ratio, times) == pytest.approx((np.mean(ratios), np.exp(np.mean(ratios))))
    assert (other, first) == (np.mean(differs), differs.index(1) if 1 in differs else PLACES)


def test_other_tokens_leave_the_perplexity(pair):
    """A variant that splits the text otherwise is compared by the probability of all of it."""
    logs, own = pair
    tokens, values = likeliest(logs[0], own)
    numbers = dict(zip(NAMES, text_fidelity((tokens, tokens[1:]), (values, values[1:])), strict=True))
    assert numbers["log_ratio"] == pytest.approx(values[0, 0] / PLACES)
    assert [name for name in NAMES if np.isnan(numbers[name])] == ["kl", "other_top", "first_divergence"]


def test_what_a_server_does_not_tell_is_part_of_the_rest(pair):
    """Entries of −1 are no token that both have."""
    logs, own = pair
    tokens, values = zip(*(likeliest(one, own) for one in logs), strict=True)
    fewer = tuple(np.where(np.arange(TOP + 1) > 5, -1, one) for one in tokens)
    unknown = tuple(np.where(one < 0, np.nan, value) for one, value in zip(fewer, values, strict=True))
    found, cut = (
        coarse_divergence(fewer, unknown),
        (tuple(one[:, :6] for one in side) for side in (tokens, values)),
    )
    assert found == pytest.approx(coarse_divergence(*cut))
    assert not np.isnan(text_fidelity(fewer, unknown)).any()


def test_nothing_is_known_of_an_empty_text():
    """It has no token."""
    nothing = np.empty((0, TOP + 1))
    assert np.isnan(text_fidelity((nothing, nothing), (nothing, nothing))).all()


def test_choices_are_a_distribution_of_their_own():
    """Of three choices, by hand."""
    base, variant = np.log([0.2, 0.1, 0.1]), np.log([0.05, 0.1, 0.05])
    kl, ratio, times, other, first = choice_fidelity(base, variant)
    p, q = np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.5, 0.25])
    assert kl == pytest.approx(rel_entr(p, q).sum())
    assert (ratio, times, other) == pytest.approx((np.log(2.0), 2.0, 1.0))
    assert np.isnan(first)


def test_what_a_model_rules_out_leaves_all_numbers_finite():
    """Infinitely far is very far, in 32 bits, too; of choices and of texts."""
    tokens = np.array([[7, 7, 8]]), np.array([[7, 8, 9]])
    values = np.array([[-0.5, -0.5, -1.0]]), np.array([[-np.inf, -0.1, -3.0]])
    for base, variant in ([-1.0, -3.0], [-np.inf, -2.0]), ([-80.0, -300.0], [-400.0, -200.0]):
        found = choice_fidelity(np.array(base), np.array(variant)).astype(np.float32)[:4]
        assert np.isfinite(found).all()
        assert found[0] > 60.0
    assert np.isfinite(text_fidelity(tokens, values).astype(np.float32)).all()
