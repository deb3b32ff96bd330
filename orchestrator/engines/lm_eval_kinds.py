"""lm-eval's model classes before one is loaded: those that run in the replica, and those behind a server."""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from inspect import signature
from typing import Any
from urllib.parse import urlsplit

from orchestrator.engines.base import (
    EXTRA_BODY,
    LORA,
    MOST_TOKENS,
    OMIT,
    OWN_OPTIONS,
    ROLLING,
    SHARE,
    STREAM,
    Engine,
)
from orchestrator.engines.kind import TOKENIZER, EngineKind, Repository
from orchestrator.errors import suggestion
from orchestrator.hardware import Hardware

PREFIX = "lm-eval:"
OTHER_FORM = "sglang-generate"
"""The class whose servers do not reply in a form by which lldeg tells answers from failures."""
FIXED_FIELDS = frozenset({"messages", "model", "n", "prompt", "stream"})
SAMPLING_FIELDS = frozenset({"seed", "temperature"})
"""Fields of a request that extra_body cannot set; those of the second kind it can leave out."""
API_LENGTH = 2048
"""The default of lm-eval for the context of a served model."""
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5
ALIKE = 0.8  # of a misspelled option and what was meant; `max_model_len` is no `max_length`
OF_PROMPTS = {"enable_thinking", "chat_template_args", "think_end_token"}
"""Options of lm-eval's classes that a sweep has for all engines in its section `prompt`."""
SENDING = {"num_concurrent": 10_000, "timeout": 86_400, "patience": 604_800, "max_reply_mib": 1_024}
"""Options of a served model that do not change answers, each with its largest allowed value: concurrent
requests, seconds to wait for an answer and for a server that is down, and the size of a reply."""


class LmEvalClass(EngineKind):
    """Any model class that lm-eval knows, in the replica's process."""

    name = f"{PREFIX}<model class>"
    packages = ("lm-eval", "transformers")

    @classmethod
    def recognises(cls, options: Mapping[str, Any]) -> bool:
        """By the prefix."""
        return str(options.get("kind", "")).startswith(PREFIX)

    @property
    def class_name(self) -> str:
        """Lm-eval's name of the class."""
        return str(self.options["kind"]).removeprefix(PREFIX)

    @property
    def is_hf(self) -> bool:
        """Whether it is one of lm-eval's classes for transformers' models."""
        return self.class_name.startswith(("hf", "huggingface"))

    def load(self, gpus: float) -> Engine:
        """Make an instance of the class; one that talks to a server is fed continuously."""
        from lm_eval.models.api_models import TemplateAPI  # noqa: PLC0415 - seconds to import, in the replica only

        from orchestrator.engines import lm_eval_engine, served_engine  # noqa: PLC0415

        spec, secrets = served_engine.with_environment(self.spec)
        lm = lm_eval_engine.load_lm(spec, self.class_name, on_cpu=gpus == 0)
        if isinstance(lm, TemplateAPI):
            return served_engine.ServedEngine(lm, spec, secrets, chat=self.takes_messages)
        return lm_eval_engine.LmEvalEngine(lm)

    @property
    def takes_messages(self) -> bool:
        """Classes that talk to chat servers do."""
        return "chat" in self.class_name

    def repositories(self) -> Iterator[Repository]:
        """Also the adapters of the hf classes."""
        yield from super().repositories()
        for option in ("peft", "delta"):
            if self.options.get(option):
                yield Repository(option, str(self.options[option]), None)

    def choices(self, machine: Hardware, *, on_cpu: bool) -> dict[str, Any]:
        """float32 for transformers' models on a CPU that emulates the format of the checkpoint."""
        emulated = on_cpu and not machine.native_bfloat16
        return {"dtype": "float32"} if emulated and self.chooses_format and self.is_hf else {}

    def longest_prompt(self, request: str, answer: int, context: int | None) -> int | None:
        """For the hf classes; they need not read the last token of a log-likelihood."""
        length = self.options.get("max_length") or context
        if not self.is_hf or not isinstance(length, int):
            return None
        return MOST_TOKENS if request == ROLLING else length - (answer or -1)

    def problems(self) -> Iterator[str]:
        """Also an unknown class, and what only other kinds take."""
        import lm_eval.models  # noqa: F401, PLC0415 - fills the registry; seconds, for sweeps with it only
        from lm_eval.api.registry import MODEL_REGISTRY  # noqa: PLC0415

        if ":" not in self.class_name and self.class_name not in MODEL_REGISTRY:
            known = suggestion(self.class_name, sorted(MODEL_REGISTRY))
            yield f"lm-eval has no model class '{self.class_name}'{known}"
        for option in {LORA, SHARE} & self.options.keys():
            yield f"only the kind vllm supports {option}"
        for option in {EXTRA_BODY, STREAM} & self.options.keys():
            if not self.served:
                yield f"only served models take {option}"
        yield from super().problems()
        for option in OF_PROMPTS & self.options.keys():
            yield f"{option} has no effect on prompts here: set prompt.{option} instead"
        length = self.options.get("max_length")
        if length is not None and (not isinstance(length, int) or isinstance(length, bool) or length < 1):
            yield f"max_length must be a whole number of tokens from 1, not {length!r}"


class ServedClass(LmEvalClass):
    """A model behind a server: lm-eval's classes for completions and for chat completions."""

    served = True

    @classmethod
    def recognises(cls, options: Mapping[str, Any]) -> bool:
        """By an address, or by a class that talks to a server."""
        kind = str(options.get("kind", ""))
        talks = kind.endswith("completions") or "chat" in kind
        return super().recognises(options) and (bool(options.get("base_url")) or talks)

    @property
    def scores_tokens(self) -> bool:
        """Servers of completions echo a prompt with its log-probabilities."""
        return not self.takes_messages

    def longest_prompt(self, request: str, answer: int, context: int | None) -> int | None:
        """What its class of lm-eval sends, if it sends tokens: a server may cut text without a word."""
        length = self.options.get("max_length", API_LENGTH)
        sends_text = self.takes_messages or (answer and not self.options.get("tokenized_requests", True))
        if sends_text or not isinstance(length, int):
            return None
        return MOST_TOKENS if request == ROLLING else length - 1 - answer

    def repositories(self) -> Iterator[Repository]:
        """Also the tokenizer that is found by the model's name, if there is one."""
        named = list(super().repositories())
        yield from named
        own = self.options.get(f"{TOKENIZER}_backend", "huggingface") == "huggingface"
        if own and not self.takes_messages and not any(one.option == TOKENIZER for one in named):
            yield Repository(TOKENIZER, self.spec.model, None)

    def deciding(self) -> dict[str, Any]:
        """All options but those that say how requests are sent."""
        return {name: value for name, value in self.options.items() if name not in SENDING}

    def problems(self) -> Iterator[str]:
        """A misspelled option, a missing or wrong address, what is no header of HTTP, and wrong limits."""
        yield from super().problems()
        yield from _misspelled(self.options)
        if (name := self.class_name) == OTHER_FORM:
            yield f"replies to {name} are not in OpenAI's format: use local-chat-completions with base_url"
        yield from _problems_of_extra(self.options.get(EXTRA_BODY, {}))
        yield from _problems_of_stream(self.options.get(STREAM, False), name)
        url = str(self.options.get("base_url") or "")
        if not url and name.startswith("local-"):
            yield "a served model needs base_url, for example http://127.0.0.1:8000/v1/completions"
        if url and not _is_address(url):
            yield f"base_url must be an http:// or https:// address, not {url!r}"
        header = self.options.get("header", {})
        if not isinstance(header, dict):
            yield "header must be a mapping of names to values"
            header = {}
        for name, value in header.items():
            if not isinstance(name, str) or not HEADER_NAME.fullmatch(name):
                yield f"header: {name!r} cannot be the name of a header"
            elif not isinstance(value, (str, int, float)) or not str(value).strip().isprintable():
                yield f"header: the value of {name} must be text on one line, or a number"
        for name, most in SENDING.items():
            value = self.options.get(name, 1)
            whole = name == "num_concurrent"
            numeric = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
            least = 1 if name == "timeout" else 0  # lm-eval drops fractions, and 0 s would mean forever
            if not numeric or not least <= value <= most or not value:
                bounds = f"from 1 to {most:,}" if whole or least else f"above 0 and at most {most:,}"
                yield f"{name} must be a {'whole number' if whole else 'number'} {bounds}, not {value!r}"


def _misspelled(options: Mapping[str, Any]) -> Iterator[str]:
    """Options that are almost those of a served model, whose classes take any option without a word."""
    from lm_eval.models.api_models import TemplateAPI  # noqa: PLC0415 - only where a model is served

    known = {*OWN_OPTIONS, *SENDING, EXTRA_BODY, STREAM, *signature(TemplateAPI.__init__).parameters}
    for option in options.keys() - known:
        if close := get_close_matches(option, known, 1, ALIKE):
            yield f"a served model has no option '{option}' (did you mean '{close[0]}'?)"


def _problems_of_extra(extra: Any) -> Iterator[str]:
    """What no request can take from extra_body."""
    if not isinstance(extra, dict) or not all(isinstance(name, str) for name in extra):
        yield f"{EXTRA_BODY} must be a mapping of fields of a request to their values"
        return
    for name, value in extra.items():
        if name in FIXED_FIELDS or (name in SAMPLING_FIELDS and value != OMIT):
            place = f"the section sampling, and can only be left out here ({name}: {OMIT})"
            yield f"{EXTRA_BODY}: {name} comes from {place if name in SAMPLING_FIELDS else 'the sweep'}"


def _problems_of_stream(streams: Any, class_name: str) -> Iterator[str]:
    """What is wrong with an answer in parts."""
    if not isinstance(streams, bool):
        yield f"{STREAM} must be true or false, not {streams!r}"
    elif streams and class_name.startswith("anthropic"):
        yield f"{STREAM} is only for servers that reply in OpenAI's form"


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port  # raises beyond 65535
    except ValueError:
        return False
    plain = url.isprintable() and " " not in url
    return plain and parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0
