"""Any model class lm-eval knows that runs in this process (hf, …) as an engine.

lm-eval's classes take a list of requests of one kind and return when all are answered, so queries are grouped
by kind and sampling parameters. Their seed never reaches the sampler, so it is set here: for the generators
of this process, and for classes that keep a seed of their own in that field.
"""

from __future__ import annotations

import sys
import threading
from collections import defaultdict
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any

from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.models.utils import normalize_gen_kwargs

from orchestrator.engines.base import (
    GENERATE,
    LOGLIKELIHOOD,
    MOST_TOKENS,
    REFUSALS,
    ROLLING,
    Answer,
    load_failure,
)
from orchestrator.engines.kind import TOKENIZER
from orchestrator.errors import PromptTooLongError, error_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.engines.base import EngineSpec, Query

BATCH = 64
WEIGHTS = ["*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf", "*.h5", "*.msgpack", "*.onnx"]
LOCAL = ("hf", "huggingface", "vllm", "sglang")
"""Beginnings of the names of classes that load a model by its repository and revision themselves."""
OF_CLASSES = {"AssertionError", "AttributeError", "ImportError", "KeyError"}
"""What model classes raise, beside the usual, for inputs that they cannot run."""


def _model_class(name: str) -> Any:
    module, colon, attribute = name.partition(":")
    return getattr(import_module(module), attribute) if colon else get_model(name)


def load_lm(spec: EngineSpec, name: str, *, on_cpu: bool) -> Any:
    """An instance of one of lm-eval's model classes.

    Args:
        spec: the model; options go to the class as they are (`model` becomes its `pretrained` or `model`).
        name: lm-eval's name of the class, or "package.module:Class" for one that lm-eval does not have.
        on_cpu: whether the hf classes run on the CPU.

    Raises:
        EngineOptionError: no such class, or it refuses its options or the model.
        EngineDiedError: it could not be loaded now.
    """
    local = name.startswith(LOCAL)
    device = {"device": "cpu"} if local and on_cpu else {}
    try:
        model_class = _model_class(name)
        model = _model(spec, name, model_class)
        return model_class.create_from_arg_obj({**device, **model, **spec.arguments, **_copies(spec)})
    except Exception as error:  # a model class of someone else's may raise anything
        raise load_failure(error, REFUSALS | OF_CLASSES) from error


def _model(spec: EngineSpec, name: str, model_class: Any) -> dict[str, Any]:
    """The arguments that name a model and its commit; a class that knows no commits gets a folder."""
    key = "pretrained" if name.startswith(LOCAL) else "model"
    if spec.revision is None:
        return {key: spec.model}
    if not name.startswith(LOCAL) and not _takes_revision(model_class):
        return {key: _local_copy(spec.model, spec.revision)}
    tokenizer = {"tokenizer_revision": spec.revision} if name.startswith("vllm") else {}
    return {key: spec.model, "revision": spec.revision, **tokenizer}


def _takes_revision(model_class: Any) -> bool:
    return any("revision" in signature(one.__init__).parameters for one in model_class.__mro__)


def _copies(spec: EngineSpec) -> dict[str, str]:
    """Folders for the other repositories that options name: the classes have one revision for all."""
    return {
        option: _local_copy(spec.arguments.get(option, spec.model), commit, weights=option != TOKENIZER)
        for option, commit in spec.commits.items()
    }


def _local_copy(repository: str, commit: str, *, weights: bool = True) -> str:
    """A folder with the files of a repository at a commit, from the cache or the hub."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - a second to import, for hub names only

    return str(snapshot_download(repository, revision=commit, ignore_patterns=None if weights else WEIGHTS))


class LmEvalEngine:
    """A model in this process, behind one of lm-eval's model classes.

    Args:
        lm: the instance.
    """

    def __init__(self, lm: Any) -> None:
        self._lm = lm
        self._lock = threading.Lock()

    @property
    def target_in_flight(self) -> int:
        """Requests to keep in flight."""
        return BATCH

    @property
    def dtype(self) -> str | None:
        """As the class's model states it, if it has one that does."""
        stated = getattr(getattr(self._lm, "model", None), "dtype", None)
        return None if stated is None else str(stated).removeprefix("torch.")

    @property
    def problem(self) -> str | None:
        """None; it is in this process."""
        return None

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer queries in order; see `Engine.answer`."""
        groups: dict[tuple[str, int, str], list[int]] = defaultdict(list)
        answers: dict[int, Answer] = {}
        for index, query in enumerate(queries):
            if query.whole and (error := self._too_long(query)) is not None:
                answers[index] = Answer(None, error=error)
                continue
            settings = repr(query.arguments[1]) if query.kind == GENERATE else ""
            groups[query.kind, query.seed, settings].append(index)
        with self._lock:
            for (kind, seed, _), indices in groups.items():
                answers.update(
                    zip(indices, self._answer_alike(kind, seed, [queries[i] for i in indices]), strict=True)
                )
        return [answers[index] for index in range(len(queries))]

    def close(self) -> None:
        """Free the model."""
        self._lm = None

    def _answer_alike(self, kind: str, seed: int, queries: list[Query]) -> list[Answer]:
        """Answer queries of one kind and one sampling; if they fail together, each by itself."""
        self._set_seed(seed)
        requests = [
            Instance(request_type=kind, doc={}, arguments=query.arguments, idx=index, metadata=("", index, 1))
            for index, query in enumerate(queries)
        ]
        try:
            responses = getattr(self._lm, kind)(requests, disable_tqdm=True)
        except Exception as error:  # noqa: BLE001 - a model class of someone else's; one bad prompt may not sink the rest
            if len(queries) == 1:
                return [Answer(None, error=error_text(error))]
            return [answer for query in queries for answer in self._answer_alike(kind, seed, [query])]
        return [self._read(kind, query, response) for query, response in zip(queries, responses, strict=True)]

    def _set_seed(self, seed: int) -> None:
        from transformers import set_seed  # noqa: PLC0415 - after the model class has imported it

        set_seed(seed)
        if hasattr(self._lm, "_seed"):
            self._lm._seed = seed

    def _too_long(self, query: Query) -> str | None:
        with self._lock:
            _, cut = self._prompt(query)
        try:
            query.check_cut(cut or 0)
        except PromptTooLongError as error:
            return error_text(error)
        return None

    def _prompt(self, query: Query) -> tuple[int | None, int | None]:
        """How many tokens of the prompt the hf classes read, and how many they cut; None where unknown."""
        text = "".join(query.arguments) if query.kind == LOGLIKELIHOOD else query.arguments[0]
        tokens, longest = self._count(text), self._longest_prompt(query)
        if tokens is None or longest is None:
            return tokens, None
        return min(tokens, longest), max(0, tokens - longest)

    def _longest_prompt(self, query: Query) -> int | None:
        """Tokens that a prompt may have, the continuation of a log-likelihood included; None if unknown."""
        hf = sys.modules.get("lm_eval.models.huggingface")
        if hf is None or not isinstance(self._lm, hf.HFLM) or self._lm.backend != "causal":
            return None
        if query.kind == ROLLING:  # is read in windows
            return MOST_TOKENS
        if query.kind == LOGLIKELIHOOD:  # the last token is not read
            return int(self._lm.max_length) + 1
        settings = normalize_gen_kwargs(query.arguments[1], self._lm.max_gen_toks)
        return int(self._lm.max_length) - int(settings["max_gen_toks"])

    def _read(self, kind: str, query: Query, response: Any) -> Answer:
        if response is None:
            return Answer(None, error="NoAnswer: the model class returned nothing")
        written = self._count(response) if kind == GENERATE else 0
        tokens, cut = self._prompt(query)
        return Answer(response, None, tokens, written, prompt_cut=cut)

    def _count(self, text: str) -> int | None:
        try:
            return len(self._lm.tok_encode(text))
        except (AttributeError, NotImplementedError):
            return None
