"""Small tasks of our own whose scores have the shapes of lm-eval's most used tasks, one for each kind."""

from standin.files import CHOOSE, GENERATE, ROLLING, choices, questions, write_task

LENGTHS = [24, 48, 64]
"""Of the look-alike of RULER; the task declares a metric for the first two and for one more."""

PASS_AT_K = """
def pass_at_k(references, predictions, k):
    right = float(references[0].strip() in predictions[0][0])
    return {f"pass@{n}": right for n in k}

def build_predictions(resps, docs):
    return [[doc["question"] + said for said in given] for given, doc in zip(resps, docs)]
"""
PER_WORD = """
import re

def process_results(doc, results):
    (likelihood,) = results
    words, size = len(re.split(r"\\s+", doc["text"])), len(doc["text"].encode())
    return {
        "word_perplexity": (likelihood, words),
        "byte_perplexity": (likelihood, size),
        "bits_per_byte": (likelihood, size),
    }
"""
HAYSTACK = """
import datasets
from transformers import AutoTokenizer

def documents(max_seq_lengths=(24,), tokenizer=None, **_):
    encode = AutoTokenizer.from_pretrained(tokenizer).encode
    docs = []
    for length in max_seq_lengths:
        for number in range(4):
            text = f"The key is {number}."
            while len(encode(text)) < length:
                text = "Grass is green. " + text
            docs.append({"input": text + " The key is", "outputs": [str(number)], "max_length": length})
    return {"test": datasets.Dataset.from_list(docs)}
"""
BY_LENGTH = """
def process_results(doc, results):
    right = sum(wanted in results[0] for wanted in doc["outputs"]) / len(doc["outputs"])
    return {"24": -1.0, str(doc["max_length"]): right}

def corpus(values):
    own = [value for value in values if value != -1]
    return sum(own) / len(own) if own else -1
"""
SPAN_F1 = """
def process_results(doc, results):
    return {"span_f1": (doc["answer"], results[0])}

def corpus(items):
    gold, said = zip(*items)
    return sum(g in s for g, s in zip(gold, said)) / len(gold)
"""
FAILING = """
def process_results(doc, results):
    if int(doc["answer"]) % 2:
        raise ZeroDivisionError("this document has no score")
    return {"exact_match": float(doc["answer"] in results[0])}
"""
TEXTS = [
    {"text": "The quick brown fox jumps over the lazy dog."},
    {"text": "It was the best of times, it was the worst of times, it was the age of wisdom."},
    {"text": "One two three four five six."},
]
FUNCTION = "FUNCTION"


def metrics(*names, up=True, **aggregation):
    """A metric_list of metrics that lm-eval knows."""
    return [{"metric": name, "higher_is_better": up, **aggregation} for name in names]


def write_lookalikes(folder):
    """Write them all; returns their names by kind."""
    own = f"aggregation: {FUNCTION}.corpus\n    higher_is_better: true"
    made = {
        "several scores of one function": _write(
            folder,
            "like_humaneval",
            questions(4),
            PASS_AT_K,
            unsafe_code=True,
            metric_list=f"\n  - metric: {FUNCTION}.pass_at_k\n    aggregation: mean\n"
            "    higher_is_better: true\n    k: [1, 10]",
            filter_list="\n  - name: create_test\n    filter:\n      - function: custom\n"
            f"        filter_fn: {FUNCTION}.build_predictions",
        ),
        "log-likelihoods per word": _write(
            folder,
            "like_wikitext",
            TEXTS,
            PER_WORD,
            process_results=f" {FUNCTION}.process_results",
            **{
                **ROLLING,
                "metric_list": metrics("word_perplexity", "byte_perplexity", "bits_per_byte", up=False),
            },
        ),
        "a metric for each length": _write(
            folder,
            "like_ruler",
            [],
            HAYSTACK + BY_LENGTH,
            doc_to_text="{{input}}",
            doc_to_target="{{outputs}}",
            custom_dataset=f" {FUNCTION}.documents",
            process_results=f" {FUNCTION}.process_results",
            metric_list="".join(f'\n  - metric: "{length}"\n    {own}' for length in (24, 48, 4096)),
        ),
        "a score of the corpus alone": _write(
            folder,
            "like_spans",
            questions(4),
            SPAN_F1,
            process_results=f" {FUNCTION}.process_results",
            metric_list=f"\n  - metric: span_f1\n    {own}",
        ),
        "documents without a score": _write(
            folder,
            "like_failing",
            questions(4),
            FAILING,
            process_results=f" {FUNCTION}.process_results",
            metric_list=metrics("exact_match", aggregation="mean"),
        ),
        "translations": _write(
            folder,
            "like_flores",
            questions(5),
            metric_list=[*metrics("bleu", "chrf", "chrf++"), *metrics("ter", up=False)],
        ),
    }
    classes = [*metrics("mcc", "f1"), *metrics("brier_score", up=False)]
    chosen = {**CHOOSE, "metric_list": classes}
    lambada = {
        "output_type": "loglikelihood",
        "doc_to_text": "{{question}}",
        "doc_to_target": " {{answer}}",
        "metric_list": [*metrics("perplexity", up=False), *metrics("acc")],
    }
    return {
        **made,
        "classes": write_task(folder, "like_cola", choices(6), **chosen),
        "last words": write_task(folder, "like_lambada", questions(4), **lambada),
        "choices": write_task(folder, "like_arc", choices(6), **CHOOSE),
        "answers": write_task(folder, "like_gsm8k", questions(6), **GENERATE),
    }


def _write(folder, name, docs, code="", **keys):
    """Write a task with code of its own; keys whose text has a FUNCTION replace lines of its file."""
    given = {key: value for key, value in keys.items() if not (isinstance(value, str) and FUNCTION in value)}
    texts = {
        key: value.replace(FUNCTION, f"!function {name}_code")
        for key, value in keys.items()
        if key not in given
    }
    settings = {key: value for key, value in GENERATE.items() if key not in {"filter_list", "metric_list"}}
    write_task(folder, name, docs, **{**settings, **given})
    (folder / f"{name}_code.py").write_text(code)
    path = folder / f"{name}.yaml"
    lines = [line for line in path.read_text().splitlines() if line.partition(":")[0] not in texts]
    path.write_text("\n".join([*lines, *(f"{key}:{text}" for key, text in texts.items())]) + "\n")
    return name
