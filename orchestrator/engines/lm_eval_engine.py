"""Any model class lm-eval knows that runs in this process (hf, …) as an engine.

lm-eval's classes take a list of requests of one kind and return when all are answered, so queries are grouped
by kind and sampling parameters. Their seed never reaches the sampler, so it is set here: for the generators
of this process, and for classes that keep a seed of their own in that field.
"""

import sys
import threading
from collections import defaultdict
from collections.abc import Sequence
from importlib import import_module
from inspect import signature
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.models.utils import normalize_gen_kwargs

from orchestrator.engines import base
from orchestrator.engines.base import GENERATE, LOGLIKELIHOOD, Answer, Engine, EngineSpec, Query
from orchestrator.engines.kind import TOKENIZER
from orchestrator.errors import PromptTooLongError, error_text

BATCH = 64
WEIGHTS = ["*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf", "*.h5", "*.msgpack", "*.onnx"]
LOCAL = ("hf", "huggingface", "vllm", "sglang")
"""Beginnings of the names of classes that load a model by its repository and revision themselves."""
OF_SERVER = {"patience", "max_reply_mib", base.EXTRA_BODY, base.STREAM}
"""Options that lldeg itself reads, if the class talks to a server."""
OF_CLASSES = {"AssertionError", "AttributeError", "ImportError", "KeyError"}
"""What model classes raise, beside the usual, for inputs that they cannot run."""


def load_lm(spec: EngineSpec, name: str, *, on_cpu: bool) -> Any:
    """An instance of one of lm-eval's model classes, by lm-eval's name or as "package.module:Class".

    Options go to the class as they are; on a CPU, those that load a model are told so.

    Raises:
        EngineOptionError: no such class, or it refuses its options or the model.
        EngineDiedError: it could not be loaded now.
    """
    local = name.startswith(LOCAL)
    options: dict[str, Any] = {"device": "cpu"} if local and on_cpu else {}
    if name == "local-completions":  # its own default asks the server, which may be away
        options["tokenizer_backend"] = "huggingface"
    try:
        module, colon, attribute = name.partition(":")
        model_class = getattr(import_module(module), attribute) if colon else get_model(name)
        key = "pretrained" if local else "model"
        knows_commits = any("revision" in signature(one.__init__).parameters for one in model_class.__mro__)
        if spec.revision is None:
            options[key] = spec.model
        elif local or knows_commits:
            options |= {key: spec.model, "revision": spec.revision}
            if name.startswith("vllm"):
                options["tokenizer_revision"] = spec.revision
        else:
            options[key] = _local_copy(spec.model, spec.revision)
        options |= {option: value for option, value in spec.arguments.items() if option not in OF_SERVER}
        for option, commit in spec.commits.items():  # the classes have one revision for all repositories
            repository = spec.arguments.get(option, spec.model)
            options[option] = _local_copy(repository, commit, weights=option != TOKENIZER)
        return model_class.create_from_arg_obj(options)
    except Exception as error:  # a model class of someone else's may raise anything
        raise base.load_failure(error, base.REFUSALS | OF_CLASSES) from error


def _local_copy(repository: str, commit: str, *, weights: bool = True) -> str:
    """A folder with the files of a repository at a commit, from the cache or the hub."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - a second to import, for hub names only

    return str(snapshot_download(repository, revision=commit, ignore_patterns=None if weights else WEIGHTS))


class LmEvalEngine(Engine):
    """A model in this process, behind an instance of one of lm-eval's model classes."""

    target_in_flight = BATCH

    def __init__(self, lm: Any) -> None:
        self._lm = lm
        self._lock = threading.Lock()
        stated = getattr(getattr(lm, "model", None), "dtype", None)
        self.dtype = None if stated is None else str(stated).removeprefix("torch.")

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer queries in order; see `Engine.answer`."""
        groups: dict[tuple[str, int, str], list[int]] = defaultdict(list)
        answers: dict[int, Answer] = {}
        with self._lock:
            for index, query in enumerate(queries):
                try:
                    if query.whole:
                        query.check_cut(self._prompt(query)[1] or 0)
                except PromptTooLongError as error:
                    answers[index] = Answer(None, error=error_text(error))
                    continue
                settings = repr(query.arguments[1]) if query.kind == GENERATE else ""
                groups[query.kind, query.seed, settings].append(index)
            for indices in groups.values():
                alike = [queries[index] for index in indices]
                answers.update(zip(indices, self._answer_alike(alike), strict=True))
        return [answers[index] for index in range(len(queries))]

    def close(self) -> None:
        """Free the model."""
        self._lm = None

    def _answer_alike(self, queries: list[Query]) -> list[Answer]:
        """Answer queries of one kind, seed and sampling; if they fail together, each by itself."""
        from transformers import set_seed  # noqa: PLC0415 - after the model class has imported it

        kind, seed = queries[0].kind, queries[0].seed
        set_seed(seed)
        if hasattr(self._lm, "_seed"):
            self._lm._seed = seed
        requests = [
            Instance(request_type=kind, doc={}, arguments=query.arguments, idx=index, metadata=("", index, 1))
            for index, query in enumerate(queries)
        ]
        try:
            responses = getattr(self._lm, kind)(requests, disable_tqdm=True)
        except Exception as error:  # noqa: BLE001 - a model class of someone else's; one bad prompt may not sink the rest
            if len(queries) == 1:
                return [Answer(None, error=error_text(error))]
            return [answer for query in queries for answer in self._answer_alike([query])]
        answers = []
        for query, response in zip(queries, responses, strict=True):
            if response is None:
                answers.append(Answer(None, error="NoAnswer: the model class returned nothing"))
                continue
            written = self._count(response) if kind == GENERATE else 0
            tokens, cut = self._prompt(query)
            answers.append(Answer(response, None, tokens, written, prompt_cut=cut))
        return answers

    def _prompt(self, query: Query) -> tuple[int | None, int | None]:
        """How many tokens of the prompt the hf classes read, and how many they cut; None where unknown."""
        tokens = self._count("".join(query.arguments) if query.kind == LOGLIKELIHOOD else query.arguments[0])
        hf = sys.modules.get("lm_eval.models.huggingface")
        if tokens is None or hf is None or not isinstance(self._lm, hf.HFLM) or self._lm.backend != "causal":
            return tokens, None
        longest = int(self._lm.max_length)
        if query.kind == base.ROLLING:  # is read in windows
            longest = base.MOST_TOKENS
        elif query.kind == LOGLIKELIHOOD:  # the last token is not read
            longest += 1
        else:
            longest -= int(normalize_gen_kwargs(query.arguments[1], self._lm.max_gen_toks)["max_gen_toks"])
        return min(tokens, longest), max(0, tokens - longest)

    def _count(self, text: str) -> int | None:
        try:
            return len(self._lm.tok_encode(text))
        except (AttributeError, NotImplementedError):
            return None
