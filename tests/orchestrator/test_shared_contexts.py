"""Log-likelihoods of continuations that share a context, on a stand-in for vLLM with a prefix cache."""

import threading
from collections import deque
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standin.words import WORDS, word_tokenizer

from orchestrator.engines import vllm_engine, vllm_requests
from orchestrator.engines.base import LOGLIKELIHOOD, ROLLING, TOKENS, Query
from orchestrator.engines.tokenization import Encoding
from orchestrator.engines.vllm_engine import VllmEngine
from orchestrator.engines.vllm_requests import prepare, questions

LONGEST = 40


@pytest.fixture(autouse=True)
def parameters(monkeypatch):
    """Sampling parameters without vLLM, which takes ten seconds to import."""
    monkeypatch.setattr(vllm_requests, "parameters", SimpleNamespace)
    vllm_requests.scoring.cache_clear()
    yield
    vllm_requests.scoring.cache_clear()


def likelihoods(prefix):
    """The log-likelihoods of all tokens after some others, by token; two of them are equal."""
    return [-1.0 - (31 * sum(prefix) + 17 * len(prefix) + 7 * token) % 9 for token in range(len(WORDS))]


def flat(rows):
    """VLLM's flat container of places with so many tokens each: (token, log-likelihood, rank)."""
    columns = zip(*rows, strict=True) if rows else ((), (), ())
    found = dict(zip(("token_ids", "logprobs", "ranks"), map(list, columns), strict=True))
    return SimpleNamespace(**found, start_indices=list(range(len(rows))))


class StandIn:
    """Answers requests as vLLM does, with a cache of whole blocks; counts the tokens that it computes.

    What it has no log-likelihoods of, it leaves out, or fills with what happens to be in memory.
    """

    def __init__(self, block, *, leaves_out):
        self.block, self.leaves_out = block, leaves_out
        self.cached, self.computed = set(), 0
        self.waiting, self.most_waiting = {}, 0

    def add_request(self, name, prompt, params, **_):
        """As an engine: waits for a step."""
        self.waiting[name] = prompt["prompt_token_ids"], params
        self.most_waiting = max(self.most_waiting, len(self.waiting))

    def step(self):
        """As an engine: the first answer."""
        name = next(iter(self.waiting))
        output = self.output(*self.waiting.pop(name))
        return [SimpleNamespace(**vars(output), request_id=name, finished=True)]

    def output(self, tokens, params):
        """What comes back for a request."""
        held = 0
        skips = getattr(params, "skip_reading_prefix_cache", hasattr(params, "prompt_logprobs"))
        if not skips:
            while held + self.block < len(tokens) and tuple(tokens[: held + self.block]) in self.cached:
                held += self.block
        self.cached |= {tuple(tokens[:end]) for end in range(self.block, len(tokens) + 1, self.block)}
        self.computed += len(tokens) - held
        output = {"prompt_token_ids": tokens, "num_cached_tokens": held}
        if "logprob_token_ids" in vars(params):
            values = likelihoods(tokens)
            written = values.index(max(values))
            rows = [(written, max(values), values.count(max(values)))]
            rows += [(token, values[token], place) for place, token in enumerate(params.logprob_token_ids, 1)]
            return SimpleNamespace(**output, outputs=[SimpleNamespace(logprobs=flat(rows))])
        rows = [] if self.leaves_out else [(tokens[place], -9.0, 1) for place in range(1, held + 1)]
        for place in range(held + 1, len(tokens)):
            values = likelihoods(tokens[:place])
            value = values[tokens[place]]
            rows.append((tokens[place], value, sum(one >= value for one in values)))
        return SimpleNamespace(**output, prompt_logprobs=flat(rows))

    def answers(self, queries, *, shared):
        """Answers of all queries; None for one to be asked alone."""
        encoding, found = Encoding(word_tokenizer(), LONGEST), []
        for question in questions(queries, shared=shared):
            own, requests, read = prepare(question, encoding, shared=shared)
            assert own == question
            found += read([reduce(self.output(tokens, params)) for tokens, params, reduce in requests])
        return found


def texts(longest):
    """Texts of up to so many words."""
    return st.lists(st.sampled_from(WORDS[:4]), min_size=1, max_size=longest).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(
    asked=st.lists(st.tuples(texts(60), st.lists(texts(9), min_size=1, max_size=6)), min_size=1, max_size=4),
    block=st.sampled_from([1, 2, 4, 16]),
    leaves_out=st.booleans(),
    kind=st.sampled_from([LOGLIKELIHOOD, TOKENS]),
)
def test_a_shared_context_changes_no_answer(asked, block, leaves_out, kind):
    """Whatever the cache holds: an answer is that of the continuation alone, or there is none."""
    likeliest = (0,) * (kind == TOKENS)
    queries = [
        Query(kind, (context, f" {choice}", *likeliest)) for context, choices in asked for choice in choices
    ]
    sharing = StandIn(block, leaves_out=leaves_out)
    shared = sharing.answers([*queries, *queries], shared=True)
    alone = StandIn(block, leaves_out=leaves_out).answers(queries, shared=False)
    assert all(one in (None, other) for one, other in zip(shared, [*alone, *alone], strict=True))


@pytest.mark.parametrize("leaves_out", [True, False])
@pytest.mark.parametrize("block", [2, 4])
def test_a_fresh_question_has_all_answers(block, leaves_out):
    """Also where continuations begin alike, so that one reads tokens of another from the cache."""
    choices = ["one", "two", "two one two one two", "two one two two two", "two two one", "one"]
    queries = [Query(LOGLIKELIHOOD, ("one two " * 5, choice)) for choice in choices]
    sharing, alone = (StandIn(block, leaves_out=leaves_out) for _ in range(2))
    assert sharing.answers(queries, shared=True) == alone.answers(queries, shared=False)
    assert sharing.computed < alone.computed / 2


def test_scores_of_given_answers_need_not_compute_their_context_again():
    """Of 15 tokens of it, the first request computes all, and the others what blocks of 4 leave over."""
    context, sharing = "one two " * 7 + "one", StandIn(4, leaves_out=True)
    queries = [Query(TOKENS, (context, answer, 0)) for answer in ("one", "two one", "four one one")]
    assert sharing.answers(queries, shared=True) == StandIn(4, leaves_out=True).answers(queries, shared=False)
    assert sharing.computed == 16 + (3 + 2) + (3 + 3)


def test_what_is_in_the_cache_already_is_asked_alone(monkeypatch):
    """The same question again: the cache has its tokens, and nobody their log-likelihoods."""
    queries = [Query(LOGLIKELIHOOD, ("one two " * 4, end)) for end in ("one", "two one two one two one")] * 2
    queries += [replace(query, seed=1) for query in queries]
    monkeypatch.setattr(vllm_engine, "refusals", lambda: (ValueError,))
    engine, sharing = VllmEngine.__new__(VllmEngine), StandIn(2, leaves_out=True)
    engine._feeding, engine._wake, engine._room = threading.Lock(), threading.Event(), threading.Semaphore(3)
    engine._arrivals, engine._death, engine._lora, engine._closing = deque(), None, None, False
    engine._failures, engine._asks, engine._shared = 0, False, True
    engine._encoding = Encoding(word_tokenizer(), LONGEST)
    driver = threading.Thread(target=engine._drive, args=(sharing,), daemon=True)
    driver.start()
    assert engine.answer(queries) == StandIn(2, leaves_out=True).answers(queries, shared=False)
    assert 1 < sharing.most_waiting <= 3
    engine._closing = True
    engine._wake.set()
    driver.join(20)


def test_single_tokens_after_one_context_are_one_request():
    """However many there are, up to what vLLM takes at once."""
    queries = [Query(LOGLIKELIHOOD, ("one two", f" {word}")) for word in WORDS]
    encoding = Encoding(word_tokenizer(), LONGEST)
    (question,) = questions(queries, shared=True)
    _, requests, _ = prepare(question, encoding, shared=True)
    assert [tokens for tokens, *_ in requests] == [encoding.tok_encode("one two")]
    assert set(requests[0][1].logprob_token_ids) == {*range(len(WORDS))}


def test_texts_that_differ_in_their_seeds_are_checked_once(monkeypatch):
    """And each is written with its own."""
    checked = []
    monkeypatch.setattr(
        vllm_requests, "parameters", lambda **own: checked.append(own) or SimpleNamespace(**own)
    )
    monkeypatch.setattr(vllm_requests, "_written", {})
    asked = [(seed, heat) for heat in (0.5, 0.7) for seed in (0, 1)]
    made = [vllm_requests.writing(seed, temperature=heat) for seed, heat in asked]
    assert [(one.seed, one.temperature) for one in made] == asked
    assert checked == [{"temperature": 0.5}, {"temperature": 0.7}]


def test_only_log_likelihoods_after_the_same_context_are_one_question():
    """In the order of the queries; reruns, other contexts and other kinds are others."""
    queries = [
        *[Query(LOGLIKELIHOOD, ("a", end)) for end in "xy"],
        Query(LOGLIKELIHOOD, ("a", "x"), seed=1),
        Query(LOGLIKELIHOOD, ("b", "x"), seed=1),
        *[Query(ROLLING, ("a",))] * 2,
    ]
    assert [len(one) for one in questions(queries, shared=True)] == [2, 1, 1, 1, 1]
    assert [len(one) for one in questions(queries, shared=False)] == [1] * 6
