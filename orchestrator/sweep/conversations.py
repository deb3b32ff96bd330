"""A file of recorded conversations as a task: in the form of lm-eval's own, as far as `SweepTask` uses it."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean

from orchestrator import tool_calls
from orchestrator.engines.base import GENERATE
from orchestrator.errors import UserError
from orchestrator.input_files import open_input, parse_json
from orchestrator.sweep.prompts import ChatMessages

LONGEST_ANSWER = 1024  # tokens, unless the sweep says otherwise


class ConversationTask:
    """Recorded conversations with tools, one a line of a file; it is read where requests are built.

    A server that takes messages gets the tools beside them and replies with calls; for other engines the chat
    template writes both into the prompt, and the calls are in the text of the answer.
    """

    OUTPUT_TYPE = GENERATE
    name = "none"  # of the only filter, which the task itself is: it reads the calls of an answer

    def __init__(self, file: Path, cluster: str | None) -> None:
        self._file, self._labels = file, ("id", *([cluster] if cluster else []))
        self._filters, self.instances = [self], list[Instance]()
        self._config: dict[str, Any] = {
            "task": file.stem,
            "output_type": GENERATE,
            "num_fewshot": 0,
            "metric_list": list(tool_calls.METRICS),
            "generation_kwargs": {"until": [], "max_gen_toks": LONGEST_ANSWER},
        }

    def get_config(self, key: str) -> Any:
        """A key of the configuration; None for one that is not there."""
        return self._config.get(key)

    def set_config(self, key: str, value: Any) -> None:
        """Set a key of the configuration."""
        self._config[key] = value

    def dump_config(self) -> dict[str, Any]:
        """The whole configuration."""
        return dict(self._config)

    def set_fewshot_seed(self, seed: int) -> None:
        """There are no examples to draw."""

    def higher_is_better(self) -> dict[str, bool | None]:
        """The direction of each metric."""
        return dict(tool_calls.METRICS)

    def aggregation(self) -> dict[str, Callable[[Sequence[Any]], float]]:
        """How each metric is aggregated."""
        return dict.fromkeys(tool_calls.METRICS, mean)

    def doc_to_target(self, doc: Mapping[str, Any]) -> str:
        """The reference."""
        return json.dumps(doc.get("reference"), ensure_ascii=False)

    def build_all_requests(
        self, *, chat_template: Callable[..., str] | None, tokenizer_name: str, **_: Any
    ) -> None:
        """Make a request of every conversation, which is sent as it was recorded.

        Raises:
            UserError: a line is no conversation, or there is no chat template.
        """
        if chat_template is None:
            raise UserError(f"task '{self._config['task']}' needs prompt.apply_chat_template: true.")
        for number, doc in self._conversations():
            settings, messages, tools = dict(self._config["generation_kwargs"]), doc["messages"], doc["tools"]
            if tokenizer_name == ChatMessages.name:
                settings |= {name: doc[name] for name in ("tools", "tool_choice") if doc.get(name)}
            else:
                messages = tool_calls.for_template(messages)
            arguments = (chat_template(messages, tools=tools), settings)
            place = (self._config["task"], number, 1)
            self.instances.append(Instance(GENERATE, doc, arguments, 0, metadata=place))

    def _conversations(self) -> Iterator[tuple[int, dict[str, Any]]]:
        with open_input(self._file) as lines:
            for number, line in enumerate(lines):
                if not line.strip():
                    continue
                where = f"line {number + 1} of {self._file}"
                row = parse_json(line, where)
                try:
                    doc = tool_calls.conversation(row)
                    json.dumps(row, ensure_ascii=False).encode()  # half of a character is no text
                except ValueError as error:
                    raise UserError(f"{where} is no conversation: {error}.") from None
                if doc is not None:
                    yield number, doc | {name: row[name] for name in self._labels if name in row}

    def apply(self, instances: Sequence[Instance]) -> None:
        """Read the calls in answers, as a filter of lm-eval does its part."""
        for one in instances:
            replied = tool_calls.calls_in_reply if "tools" in one.args[1] else tool_calls.calls_in_text
            one.filtered_resps[self.name] = replied(one.resps[0]) if one.doc["tools"] else []

    def process_results(self, doc: Mapping[str, Any], results: Sequence[list[Any]]) -> dict[str, float]:
        """The scores of an answer."""
        return tool_calls.scores(doc, results[0])
