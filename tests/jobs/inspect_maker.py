"""Writes logs as inspect_ai does: .json, and .eval archives compressed by deflate or by Zstandard."""

import json
import struct
import zipfile
import zlib

import pyarrow as pa

ZSTANDARD = 93


def log(samples, *, task="arc", model="openai/m", status="success", epochs=1, temperature=None, **of_eval):
    """The content of a log."""
    config = {} if temperature is None else {"temperature": temperature}
    ids = list(dict.fromkeys(sample["id"] for sample in samples))
    dataset = {"samples": len(ids), "sample_ids": ids}
    of_eval = {"task": task, "model": model, "config": {"epochs": epochs}, "dataset": dataset, **of_eval}
    return {"version": 2, "status": status, "eval": of_eval, "plan": {"config": config}, "samples": samples}


def sample(identifier, value, *, epoch=1, scorer="match", answer="4", **more):
    """A sample with one score."""
    return {
        "id": identifier,
        "epoch": epoch,
        "input": f"question {identifier}",
        "target": "4",
        "output": {"completion": answer, "choices": [{"stop_reason": "stop"}], "usage": {"output_tokens": 3}},
        "scores": {scorer: {"value": value, "answer": answer}},
        "metadata": {"subject": "physics"},
        **more,
    }


def write_json(path, content):
    """A log as one JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_eval(path, content, method=zipfile.ZIP_DEFLATED):
    """A log as an archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {name: value for name, value in content.items() if name != "samples"}
    entries = {f"samples/{one['id']}_epoch_{one['epoch']}.json": one for one in content["samples"]} | {
        "header.json": header
    }
    texts = {name: json.dumps(value).encode() for name, value in entries.items()}
    if method == ZSTANDARD:
        path.write_bytes(_zstandard(texts))
        return path
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
    return path


def _zstandard(texts):
    """An archive by hand (APPNOTE 4.3): zipfile of this Python may not know the method."""
    body, directory = b"", b""
    for name, text in texts.items():
        packed = pa.Codec("zstd").compress(text, asbytes=True)
        sizes = struct.pack("<IIIHH", zlib.crc32(text), len(packed), len(text), len(name), 0)
        common = struct.pack("<HHHHH", 20, 0, ZSTANDARD, 0, 0x21) + sizes
        tail = struct.pack("<HHHII", 0, 0, 0, 0, len(body))
        directory += b"PK\x01\x02" + struct.pack("<H", 20) + common + tail + name.encode()
        body += b"PK\x03\x04" + common + name.encode() + packed
    end = struct.pack("<HHHHIIH", 0, 0, len(texts), len(texts), len(directory), len(body), 0)
    return body + directory + b"PK\x05\x06" + end
