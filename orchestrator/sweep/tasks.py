"""lm-eval's tasks: finding them, building their requests, scoring their answers.

Everything that decides a prompt or a score is lm-eval's own code (`build_all_requests`, the filters,
`process_results`), called the way `lm_eval.simple_evaluate` calls it; so prompts and scores agree with
`lm_eval --log_samples` sample by sample.
"""

import json
import logging
import os
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, lru_cache
from inspect import getsource
from pathlib import Path
from typing import Any

import lm_eval.tasks
import lm_eval.utils
import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager
from lm_eval.tasks._factory import TaskFactory
from lm_eval.utils import handle_non_serializable, hash_string

from orchestrator.config.schema import PromptConfig, SamplingConfig, TaskConfig
from orchestrator.errors import error_text, suggestion
from orchestrator.rundir.identity import Item
from orchestrator.sweep.conversations import ConversationTask
from orchestrator.sweep.scores import TaskMetrics, values_text
from stats.sequential.plan import item_order

Requests = dict[int, list[Instance]]  # the requests of a task, by item
PYTHON_SEED, NUMPY_SEED = 0, 1234  # the defaults of lm_eval.simple_evaluate
ALLOW_CODE = "HF_ALLOW_CODE_EVAL"
"""What Hugging Face's code_eval asks for, which HumanEval and MBPP try out while they are loaded."""
RUNS_CODE = "task '{}' executes code that the model writes; to allow that, set confirm_run_unsafe_code: true"
FEWSHOT_SEED = 1234  # lm-eval's own default, so that few-shot prompts agree with the lm_eval command
LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""What tasks call the limit of tokens of an answer, in the order in which lm-eval looks for it."""
CHOICE_SEED = 1234  # of the order by which `limit` chooses items: that of BLAKE2b of "1234 NUMBER"

_NAME = re.compile(rb"^(?:task|group|tag): *['\"]?([^\s'\"\[\]]+)", re.MULTILINE)
_LISTED = re.compile(  # the same, and whatever is in a list: all names, and some words that are none
    rb"(?:^[ \t]*-[ \t]+|^[\"' \t]*(?:-[ \t]+)?(?:task|group|tag|task_list)s?[\"']?:[ \t]*|[\[,][ \t]*)"
    rb"['\"]?([^'\"\n\[\],#]+?)['\"]?[ \t\r]*(?=$|[\],#])",
    re.MULTILINE,
)
_NO_TASKS = (".py", ".pyc", ".md")
_THREADS, _FILES_AT_ONCE = 16, 200  # a disk that has not read them yet answers many requests at once


@cache
def set_up_lm_eval() -> None:
    """Make lm-eval keep compiled templates, and log errors only; for the whole process.

    lm-eval recompiles a task's templates for every document, which is most of the time of a score.
    """
    lm_eval.utils.env.from_string = lru_cache(maxsize=4096)(lm_eval.utils.env.from_string)
    for logger in ("lm_eval", "datasets"):
        logging.getLogger(logger).setLevel(logging.ERROR)


@cache
def listed_names() -> frozenset[bytes]:
    """Names in the files of lm-eval's collection; any other one is no task, group or tag of it.

    Parsing its 14,000 files takes six seconds.
    """
    return frozenset(_LISTED.findall(_task_texts()))


@cache
def _task_texts() -> bytes:
    """The texts of all task files and templates, some seven megabytes."""
    paths = [
        Path(folder, name)
        for folder, _, names in os.walk(Path(lm_eval.tasks.__file__).parent)
        for name in names
        if not name.endswith(_NO_TASKS)
    ]
    batches = [paths[start : start + _FILES_AT_ONCE] for start in range(0, len(paths), _FILES_AT_ONCE)]
    with ThreadPoolExecutor(_THREADS) as pool:
        texts = pool.map(lambda batch: b"\n".join(path.read_bytes() for path in batch), batches)
        return b"\n".join(texts)


class GlobalRandom:
    """A state of the global generators, in place within `with` and kept up to date from one to the next.

    Some tasks draw from them: GPQA shuffles its choices with `random.shuffle` while it is loaded.
    `lm_eval.simple_evaluate` seeds that state first, then loads its tasks and builds their requests. Each
    configured task or group gets a state of its own, as in a call of `lm_eval` for it alone, so that its
    prompts depend neither on the other tasks of a sweep nor on what else has drawn. (`datasets` caches how it
    shuffled data on disk, for lm-eval as for lldeg.)
    """

    def __init__(self, state: tuple[Any, Any] | None = None) -> None:
        self._state = state or (
            random.Random(PYTHON_SEED).getstate(),  # noqa: S311 - the same as lm-eval's, not a secret
            np.random.RandomState(NUMPY_SEED).get_state(),
        )

    def copy(self) -> "GlobalRandom":
        """The same state, to continue from independently."""
        return GlobalRandom(self._state)

    def __enter__(self, *_: object) -> None:
        others = random.getstate(), np.random.get_state()
        random.setstate(self._state[0])
        np.random.set_state(self._state[1])
        self._state = others

    __exit__ = __enter__  # both exchange the two states


class TaskSpec(TaskConfig):
    """A leaf task as a sweep asks for it: what a replica needs to load the same task again."""

    group: str | None = None
    include_path: tuple[str, ...] = ()
    unsafe_code: bool = False
    items: tuple[int, ...] | None = None
    tokenizer: str | None = None


class TaskLibrary:
    """Finds tasks by name in the user's folders and in lm-eval's own collection.

    Scanning lm-eval's 14,000 task files takes six seconds, so that is put off until a name asks for it.
    """

    def __init__(
        self, include_path: tuple[str, ...] = (), unsafe_code: bool = False, tokenizer: str | None = None
    ) -> None:
        self.include_path = include_path
        self._shared: dict[str, Any] = {"unsafe_code": unsafe_code, "tokenizer": tokenizer}
        self._loaded: dict[str, tuple[Any, GlobalRandom]] = {}

    @cached_property
    def _own(self) -> TaskManager:
        return TaskManager(include_path=list(self.include_path), include_defaults=False)

    @cached_property
    def _all(self) -> TaskManager:
        return TaskManager(include_path=list(self.include_path) or None)

    def leaves(self, config: TaskConfig) -> list[TaskSpec]:
        """The leaf tasks of a configured task, group or tag; a TaskError if lm-eval cannot load one."""
        name, own = config.task, self._own.all_tasks if self.include_path else []
        is_listed = name in own or self._recorded(name) or name.encode(errors="replace") in listed_names()
        if not is_listed or not (name in own or self._recorded(name) or name in self._all.task_index):
            likely = {known.decode(errors="replace") for known in _NAME.findall(_task_texts())}
            recorded = [file.stem for folder in self.include_path for file in Path(folder).glob("*.jsonl")]
            raise TaskError(f"unknown task '{name}'{suggestion(name, [*own, *recorded, *sorted(likely)])}")
        asked = TaskSpec(**dict(config), include_path=self.include_path, **self._shared)
        loaded = self._load(asked)
        parents = [group for group in loaded.get("groups", {}) if group != config.task] or [config.task]
        children = loaded.get("group_map", {})
        group_of = {child: parent for parent in parents for child in children.get(parent, ())}
        single = list(loaded["tasks"]) == [config.task]
        return [
            asked.model_copy(
                update={
                    "task": name,
                    "group": None if single else group_of.get(name, config.task),
                    "unsafe_code": asked.unsafe_code and bool(getattr(task, "UNSAFE_CODE", False)),
                }
            )
            for name, task in loaded["tasks"].items()
        ]

    def open(self, spec: TaskSpec) -> "SweepTask":
        """Load a leaf task, ready to build requests and to score; a TaskError if it cannot run as asked."""
        if spec.task not in self._loaded:
            self._load(spec)
        return SweepTask(spec, *self._loaded.pop(spec.task))

    def _recorded(self, name: str) -> Path | None:
        """The file of conversations with this name in one of the user's folders, if no task has it there."""
        files = (Path(folder) / f"{name}.jsonl" for folder in self.include_path)
        found = next((file for file in files if file.stem == name and os.path.isfile(file)), None)  # noqa: PTH113 - Path raises for a name that no disk can hold
        return None if found is None or name in self._own.all_tasks else found

    def _load(self, spec: TaskSpec) -> dict[str, Any]:
        """Load a task or group; its metadata is what `lm_eval --metadata` gives to its tasks."""
        if (recorded := self._recorded(spec.task)) is not None:
            conversations = ConversationTask(recorded, spec.cluster)
            self._loaded[spec.task] = (conversations, GlobalRandom())
            return {"tasks": {spec.task: conversations}}
        allowed = self._shared["unsafe_code"]
        if allowed:
            os.environ[ALLOW_CODE] = "1"
        manager = self._own if self.include_path and spec.task in self._own.task_index else self._all
        given = {"tokenizer": spec.tokenizer, **spec.metadata}
        given = {key: value for key, value in given.items() if value is not None}
        manager._factory = TaskFactory(meta=given)  # a manager of its own would parse all files again
        draws = GlobalRandom()
        try:
            with draws:
                loaded = dict(manager.load([spec.task]))
        except (Exception, SystemExit) as error:  # some task's code ends Python where a program is missing
            if ALLOW_CODE in str(error) and not allowed:
                raise TaskError(RUNS_CODE.format(spec.task)) from error
            reason = str(error).strip().split("\n")[0][:300]
            why = f"{type(error).__name__}: {reason}"
            raise TaskError(f"task '{spec.task}' cannot be loaded: {why}") from error
        self._loaded |= {name: (task, draws) for name, task in loaded["tasks"].items()}
        return loaded


Answered = tuple[Sequence[Instance], Sequence[list[Any]]]
"""An item's requests and, for each of them, one response per repeat."""


@dataclass(frozen=True)
class Scored:
    """What a sample is worth, or why it could not be scored."""

    scores: dict[str, float] = field(default_factory=dict)  # by "metric,filter"
    filtered: dict[str, str | None] = field(default_factory=dict)  # texts by filter
    corpus_values: str | None = None  # as JSON by "metric,filter": what lm-eval aggregates over a corpus
    reason: str | None = None  # as "class: message"


class TaskError(Exception):
    """A task cannot be run as asked; the text is a sentence without its full stop."""


class SweepTask:
    """One leaf task (lm-eval's object), set up as `lm_eval.simple_evaluate` sets it up.

    `draws` is the random state after it was loaded, which the tasks of a group share. A TaskError if the task
    fixes its number of few-shot examples, runs generated code without permission, or needs more than text.
    """

    def __init__(self, spec: TaskSpec, task: Any, draws: GlobalRandom) -> None:
        self.spec = spec
        self.draws = draws
        self._task = task
        self.output_type = str(task.OUTPUT_TYPE)
        own_shots = task.get_config("num_fewshot")
        if spec.num_fewshot and own_shots == 0:
            raise TaskError(f"task '{spec.task}' is zero-shot by definition; remove num_fewshot")
        if spec.num_fewshot is not None or own_shots is None:
            task.set_config(key="num_fewshot", value=spec.num_fewshot or 0)
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
        if getattr(task, "MULTIMODAL", False):
            raise TaskError(f"task '{spec.task}' needs images or audio; only text models can be compared")
        self.scores = TaskMetrics(task, spec.metric)
        if spec.metric is not None and (why := self.scores.why_untestable(spec.metric)):
            raise TaskError(f"task '{spec.task}' has {why}")
        if getattr(task, "UNSAFE_CODE", False) and not spec.unsafe_code:
            raise TaskError(RUNS_CODE.format(spec.task))

    @property
    def sampled(self) -> bool:
        """Whether answers are generated, so that temperature and seed matter."""
        return self.output_type == "generate_until"

    def longest_answer(self, sampling: SamplingConfig, default: int | None = None) -> int:
        """Most tokens of an answer, if the task does not say the engine's default; 0 for log-likelihoods."""
        if not self.sampled:
            return 0
        kwargs = self._task.get_config("generation_kwargs") or {}
        own = next((kwargs[key] for key in LIMITS if kwargs.get(key) is not None), default or 256)
        return int(sampling.of_task(self.spec.sampling).max_gen_toks or own)

    @cached_property
    def definition(self) -> dict[str, Any]:
        """The task's whole configuration, as JSON values: what decides prompts and scores."""
        config = {key: value for key, value in self._task.dump_config().items() if key != "metadata"}
        if self.spec.metadata:
            config["metadata"] = self.spec.metadata
        return dict(json.loads(json.dumps(config, default=_definition_of, sort_keys=True)))

    def build(self, prompt: PromptConfig, chat_template: Callable[..., str] | None, name: str) -> Requests:
        """Build the requests of the items asked for, few-shot examples and chat template included.

        They are chosen after building, so that numbers and few-shot examples are those of the whole task:
        lm-eval's own `samples` would renumber them. A higher limit adds to the items of a lower one.

        Without a chat template, prompts are no conversations; its name is lm-eval's `tokenizer_name`.
        """
        limit = self.spec.limit
        self._task.build_all_requests(
            limit=limit.first if limit is not None and self.spec.items is None else None,
            system_instruction=prompt.system_instruction,
            apply_chat_template=chat_template is not None,
            fewshot_as_multiturn=bool(prompt.fewshot_as_multiturn),
            chat_template=chat_template,
            tokenizer_name=name,
        )
        requests: dict[int, list[Instance]] = defaultdict(list)
        for instance in sorted(self._task.instances, key=lambda instance: instance.idx):
            requests[instance.doc_id].append(instance)
        self._task._instances = None
        if not requests:
            raise TaskError(f"task '{self.spec.task}' has no items")
        listed = self.spec.items or tuple(sorted(requests))
        if unknown := [item for item in listed if item not in requests]:
            name = self.spec.task
            raise TaskError(f"`items` lists item {unknown[0]} of task '{name}', which does not exist")
        if limit is not None and limit.random is not None:
            listed = tuple(sorted(listed[place] for place in item_order(listed, CHOICE_SEED)[: limit.items]))
        return {item: requests[item] for item in listed[: limit.items if limit else None]}

    def target(self, doc: Any) -> str:
        """The right answer as text."""
        return str(self._task.doc_to_target(doc))

    def cluster_of(self, doc: Any) -> str | None:
        """Value of the field that clusters items; a TaskError if documents have no such field."""
        field = self.spec.cluster
        if field is not None and field not in doc:
            raise TaskError(f"task '{self.spec.task}' has no field '{field}' to cluster by: {', '.join(doc)}")
        return None if field is None else str(doc[field])

    def score_each(self, samples: Iterable[Answered]) -> Iterator[Scored]:
        """Score samples in order; one that the task's code cannot score does not stop the others."""
        for sample in samples:
            try:
                yield self.score(sample)
            except Exception as error:  # noqa: BLE001 - the task author's code on the model's text
                yield Scored(reason=error_text(error))

    def score(self, sample: Answered) -> Scored:
        """Filter and score one sample, as lm-eval's evaluator does; must run in the main thread of a process.

        A task's metrics may keep state, and some set alarms.

        Raises:
            MissingScoreError: the score that decides is not among them.
            Exception: of the task's code.
        """
        answered = [
            replace(request, resps=list(response), filtered_resps={})
            for request, response in zip(*sample, strict=True)
        ]
        for ensemble in getattr(self._task, "_filters", []):
            ensemble.apply(answered)
        kept = {name: [request.filtered_resps[name] for request in answered] for name in self.scores.filters}
        scores, values = self.scores.of_item(answered[0].doc, kept)
        texts: dict[str, str | None] = {}
        for name, given in kept.items() if self.sampled else ():
            texts[name] = given[0] if isinstance(given[0], str) else json.dumps(given[0], default=str)
        return Scored(scores, texts, values_text(values))


def _definition_of(value: Any) -> Any:
    """A value of a configuration as JSON: a function by its source, since addresses differ by process."""
    try:
        return getsource(value) if callable(value) else handle_non_serializable(value)
    except (TypeError, OSError):
        return getattr(value, "__qualname__", type(value).__qualname__)


def items_of(requests: Requests) -> Iterator[Item]:
    """Identity of each item, with lm-eval's own hashes of document and prompt, as in its sample logs."""
    for item, (first, *_) in requests.items():
        yield Item(item, str(hash_string(doc_text(first.doc))), str(hash_string(first.arguments[0])))


def doc_text(doc: Any) -> str:
    """A document as JSON, the way lm-eval writes it in its sample logs."""
    return json.dumps(doc, indent=2, default=handle_non_serializable, ensure_ascii=False)
