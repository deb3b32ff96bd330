"""Writes the files of `lm_eval --log_samples`, so that tests need no evaluation."""

import json

FIRST, SECOND = "2025-01-01T10-00-00.000001", "2025-01-01T11-00-00.000001"


def write_samples(
    folder, scores, *, date=FIRST, task="gsm", filters=("none",), old=False, end="\n", **changes
):
    """Write a samples file: a row per document and filter."""
    rows = []
    for doc_id, score in enumerate(scores):
        for name in filters:
            row = {"doc_id": doc_id, "doc": {"q": f"line\u2028{doc_id}"}, "target": "4", "arguments": {},
                   "resps": [["4"]], "filtered_resps": ["4"], "doc_hash": f"d{doc_id}",
                   "prompt_hash": f"p{doc_id}", "exact_match": score}  # fmt: skip
            row |= {} if old else {"filter": name, "metrics": ["exact_match"]}
            rows.append(row | changes)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"samples_{task}_{date}.{'json' if old else 'jsonl'}"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + end, encoding="utf-8")
    return path


def write_results(folder, *, date=FIRST, task="gsm", model="m", temperature=None, evaluated=None, **config):
    """Write a results file beside the samples; `evaluated` is the number of documents it claims."""
    generation = {"do_sample": temperature is not None, "temperature": temperature or 0.0}
    content = {
        "configs": {task: {"output_type": "generate_until", "generation_kwargs": generation}},
        "config": {"model": "vllm", "model_args": f"pretrained={model}", **config},
        "higher_is_better": {task: {"exact_match": True}},
        "n-shot": {task: 5},
        "model_name": model,
    }
    if evaluated is not None:
        content["n-samples"] = {task: {"original": evaluated, "effective": evaluated}}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"results_{date}.json"
    path.write_text(json.dumps(content))
    return path
