"""Prompts that do not fit into the context of a model."""

import pytest
from standin.server import StandInServer, open_engine
from standin.words import word_tokenizer

from orchestrator.engines.base import GENERATE, LOGLIKELIHOOD, ROLLING, Answer, EngineSpec, Query
from orchestrator.engines.tokenization import Encoding
from orchestrator.errors import PromptTooLongError
from orchestrator.rundir.identity import Item, Rerun
from orchestrator.rundir.schema import sample_schema
from orchestrator.sweep.blocks import Block
from orchestrator.sweep.tasks import Scored
from orchestrator.workers.answer_block import Sample, samples_table

CONTEXT = 12


@pytest.fixture(scope="module")
def encoding():
    """A context of twelve words."""
    return Encoding(word_tokenizer(), CONTEXT)


@pytest.mark.parametrize(("words", "answer"), [(3, 9), (8, 4), (9, 4), (30, 4), (10, 11), (5, 20)])
def test_what_is_cut_of_a_prompt_is_counted(encoding, words, answer):
    """Tokens kept and cut are all of them, and what is kept is the end."""
    (tokens, cut), *_ = encoding.generation(
        "one two " * (words // 2) + "one" * (words % 2), {"max_gen_toks": answer}
    )
    assert len(tokens) + cut == words
    assert cut == min(words, max(0, words + answer - CONTEXT))


@pytest.mark.parametrize("words", [1, 9, 10, 11, 40])
def test_what_is_cut_of_a_log_likelihood_is_counted(encoding, words):
    """Context and continuation share the room that is left beside the one token that is always written."""
    (tokens, cut), start = encoding.pair("one " * words, "two")
    assert len(tokens) + cut == words + 1
    assert cut == max(0, words + 1 - (CONTEXT - 1))
    assert tokens[start:] == encoding.tok_encode("two")


def test_texts_that_are_encoded_together_have_the_same_tokens(encoding):
    """As each by itself, also after spaces or without a context; the batch before is forgotten."""
    pairs = [("one two", " three"), ("one two  ", "three"), ("", "one"), ("two " * 20, "one")]
    queries = [Query(LOGLIKELIHOOD, pair) for pair in pairs]
    queries += [Query(GENERATE, ("one two three", {})), Query(ROLLING, ("two " * 30,))]
    ahead = Encoding(word_tokenizer(), CONTEXT)
    ahead.encode_ahead([Query(GENERATE, ("four", {})), Query(GENERATE, (None, {}))])
    ahead.encode_ahead(queries)
    assert [ahead.pair(*pair) for pair in pairs] == [encoding.pair(*pair) for pair in pairs]
    assert ahead.generation("one two three", {}) == encoding.generation("one two three", {})
    assert ahead.windows("two " * 30) == encoding.windows("two " * 30)
    assert ahead._encode.cache_info().misses == 1  # the text without a context
    assert "four" not in ahead._ahead


@pytest.mark.parametrize("kind", [GENERATE, LOGLIKELIHOOD])
def test_a_prompt_that_must_stay_whole_is_an_error_if_it_does_not_fit(kind):
    """By its own class; one that fits is none, nor is any that may be cut."""
    Query(kind, ("a", "b"), whole=True).check_cut(0)
    Query(kind, ("a", "b")).check_cut(7)
    with pytest.raises(PromptTooLongError, match="7 tokens"):
        Query(kind, ("a", "b"), whole=True).check_cut(7)


@pytest.mark.parametrize(("cuts", "stored"), [((0, 0), 0), ((3, 4), 7), ((None, None), None)])
def test_a_sample_counts_the_tokens_cut_of_all_its_requests(cuts, stored):
    """As its tokens are counted; unknown stays unknown."""
    answers = [Answer("a", prompt_cut=cut) for cut in cuts]
    item, rerun = Item(0, "d", "p"), Rerun(0.0)
    sample = Sample(item, rerun, answers, "a", Scored({}, {}))
    table = samples_table(Block("v", "t", "c", (item,), (rerun,)), [sample], sample_schema())
    assert table["prompt_cut"].to_pylist() == [stored]


@pytest.fixture
def serve(tmp_path):
    """Opens an engine on a server that completes text, with a tokenizer of words; gives both."""
    word_tokenizer().save_pretrained(tmp_path)
    server, engines = StandInServer(), []

    def start(**options):
        options = {"kind": "lm-eval:local-completions", "base_url": server.url, **options}
        engines.append(open_engine(EngineSpec("small", options=options), gpus=0))
        return server, engines[-1]

    yield lambda **options: start(tokenizer=str(tmp_path), **options)
    for engine in engines:
        engine.close()
    server.end()


def asked(kind, words, *, whole=False):
    """A query for at most four tokens, or for the likelihood of one."""
    text = "one two " * (words // 2)
    settings = {"max_gen_toks": 4, "temperature": 0.0, "do_sample": False}
    return Query(kind, (text, settings if kind == GENERATE else "three"), whole=whole)


@pytest.mark.ray
@pytest.mark.parametrize(("kind", "room"), [(GENERATE, 11), (LOGLIKELIHOOD, 15)])
def test_a_server_gets_the_end_of_a_prompt_or_nothing_if_it_must_stay_whole(serve, kind, room):
    """Where the prompt is sent as tokens; what is cut is counted."""
    server, engine = serve(max_length=16)
    cut, whole = engine.answer([asked(kind, 40), asked(kind, 40, whole=True)])
    assert (cut.error, cut.prompt_cut) == (None, 40 + (kind == LOGLIKELIHOOD) - room)
    assert whole.error.startswith("PromptTooLongError: ")
    assert [len(body["prompt"][0]) for body in server.bodies] == [room]


@pytest.mark.ray
def test_what_a_server_cuts_of_a_text_is_unknown(serve):
    """Only the server knows."""
    _, engine = serve(tokenized_requests=False)
    assert engine.answer([asked(GENERATE, 4)])[0].prompt_cut is None
