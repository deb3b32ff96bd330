"""Random kills of sweeps whose chat server misbehaves, prompt by prompt and at times, and dies as well."""

import json
import os
import re
import threading
import time

import psutil
from standin.files import GENERATE, questions, write_sweep, write_task
from standin.hostile import ANSWERED, FAILED, KEY, MISBEHAVIOURS, WITHHELD
from standin.server import RESET, StandInServer, completion, reply
from standin.soak import FAULTS, Soak, is_replica

ITEMS = 2 * len(MISBEHAVIOURS)  # of each of two tasks; every other one of the first meets a misbehaviour
PACE = 0.1  # seconds an answer takes
WORSE = "worse"  # a model that is wrong about every fifth item
HEADER = {"Authorization": "Bearer $HOSTILE_KEY"}
PASSING = [reply({}, 503), reply({"error": "slow down"}, 429, Retry_After="0"), RESET, reply(b"<html>", 502)]
"""What an ordinary prompt gets the first time, now and then."""


class MisbehavingServer(StandInServer):
    """Answers half of the prompts as a hostile server would, and each the same way whenever it is asked."""

    def __init__(self):
        self._asked, self._return = set(), None
        super().__init__(self._misbehave)

    def _misbehave(self, number, body):
        time.sleep(PACE)
        prompt, request = body["messages"][-1]["content"], json.dumps(body, sort_keys=True)
        item = int(prompt.split()[-1])
        is_new = request not in self._asked
        self._asked.add(request)
        if "first" in prompt and item % 2:
            return list(MISBEHAVIOURS.values())[item // 2][0](body)
        if is_new and number % 6 == 0:
            return PASSING[number // 6 % len(PASSING)]
        return completion(body, f"{item + (body['model'] == WORSE and item % 5 == 0)}")

    def go_for(self, seconds):
        """Break all connections, and come back after a while; returns whether it was there."""
        if self._return is not None and self._return.is_alive():
            return False
        self.go()
        self._return = threading.Timer(seconds, self.come)
        self._return.daemon = True
        self._return.start()
        return True


class HostileSoak(Soak):
    """The same faults, and those of the server, in a sweep of two models behind it; see `Soak`."""

    faults, numbers, deadly = (*FAULTS, "server"), (4, 5, 6), 0.0

    def __enter__(self):
        os.environ["HOSTILE_KEY"] = KEY  # the nodes have it from here
        self._server = MisbehavingServer()
        return super().__enter__()

    def __exit__(self, *_):
        super().__exit__()
        self._server.end()

    def _write_sweep(self, *, deadly):
        folder = self.folder / ("second" if deadly else "first")
        for task in ("first", "second"):
            docs = [{**doc, "question": f"{task}: {doc['question']}"} for doc in questions(ITEMS)]
            write_task(folder / "pack", task, docs, **GENERATE)
        options = {"header": HEADER, "tokenizer_backend": "None", "num_concurrent": 4, "patience": 2}
        return write_sweep(
            folder,
            model="good",
            engine={
                "kind": "lm-eval:local-chat-completions",
                "base_url": self._server.url,
                "max_reply_mib": 2,
                **options,
            },
            variants={"base": {}, "worse": {"model": WORSE}},
            tasks=["first", "second"],
            prompt={"apply_chat_template": True},
            sampling={"temperatures": [0.0, 0.7], "seeds": 2},
            cluster={"replicas": 3, "cpus_per_replica": 1},
        )

    def _engines(self, trial):
        return filter(is_replica, psutil.pids())

    def _kill_server(self, trial, rng, run):
        return self._server.go_for(rng.uniform(0.2, 1.0))

    def misjudged(self, trial, rows):
        """Samples that are lost, scored falsely, or hold the key of the server."""
        return [
            (row["variant"], row["task"], row["item"], row["seed"], row["error"])
            for row in rows
            if _outcome(row) != _expected(row) or not _is_scored_rightly(row) or KEY in str(row)
        ]


def _outcome(row):
    if row["error"] is None:
        return ANSWERED
    return WITHHELD if row["error"].startswith("AnswerWithheldError: ") else FAILED


def _expected(row):
    return ANSWERED if _is_ordinary(row) else list(MISBEHAVIOURS.values())[row["item"] // 2][1]


def _is_ordinary(row):
    return row["task"] != "first" or row["item"] % 2 == 0


def _is_scored_rightly(row):
    """Whether the scores are those of the text, and the text of an ordinary prompt is the server's."""
    if row["error"] is not None:
        return row["scores"] is None and row["response"] is None
    target, number = str(row["item"]), re.search("[0-9]+", row["response"])
    right = {
        "exact_match,number": float(number is not None and number[0] == target),
        "exact_match,whole": float(row["response"] == target),
    }
    told = row["item"] + (row["variant"] == "worse" and row["item"] % 5 == 0)
    return row["scores"] == right and (row["response"] == str(told) or not _is_ordinary(row))
