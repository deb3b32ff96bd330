"""Secrets in a configuration: refused by name and by value in every place, without being repeated."""

import pytest

from orchestrator.config.load import secrets_in

KEY = "0123456789abcdef0123"
NAMES = [
    "token", "hf_token", "api-key", "apikey", "API_KEY", "secret", "client_secret", "password", "db_passwd",
    "authorization", "Proxy-Authorization", "Cookie", "credentials", "aws_secret_access_key", "x-key",
    "signature",
]  # fmt: skip
VALUES = [
    f"sk-{KEY}", f"hf_{KEY}{KEY}", f"ghp_{KEY}", "AKIA0123456789ABCDEF", f"Bearer {KEY}", f"see xoxb-{KEY}",
    f"https://me:{KEY}@host/v1", f"s3://{KEY}@bucket/run", f"https://host/v1?api_key={KEY}&b=c",
    f"https://host/v1?a=b&access_token={KEY}", "-----BEGIN RSA PRIVATE KEY-----",
]  # fmt: skip
FINE = {
    "tokenizer": "org/model", "max_tokens": 5, "tokens": "many", "trust_remote_code": True,
    "eos_token": "</s>", "pad_token_id": 0, "token": "$HF_TOKEN", "key": "${KEY}",
    "header": {"Authorization": "Bearer $MINE"},
    "author": "somebody",
    "base_url": "https://host/v1?a=b@c", "model": "sk-learn/small",
    "metric": "acc,none",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", ["{}", "engine.{}", "variants.a.engine.header.{}", "tasks.0.{}"])
def test_a_secret_is_found_by_name(name, place):
    """Whatever its value, at any depth."""
    *parents, _ = place.split(".")
    nested = {name: "anything"}
    for parent in reversed(parents):
        nested = [nested] if parent == "0" else {parent: nested}
    assert list(secrets_in(nested)) == [place.format(name)]


@pytest.mark.parametrize("value", VALUES)
def test_a_secret_is_found_by_value(value):
    """Under a name that says nothing, in mappings and in lists."""
    assert list(secrets_in({"prompt": {"system_instruction": value}})) == ["prompt.system_instruction"]
    assert list(secrets_in({"model": [value]})) == ["model.0"]


def test_part_of_a_variable_is_no_variable():
    """Only a whole $NAME is: what stands beside it could be the secret."""
    assert list(secrets_in({"token": f"{KEY}$X", "key": f"$X {KEY}"})) == ["token", "key"]


@pytest.mark.parametrize("name", FINE)
def test_what_only_sounds_like_a_secret_is_fine(name):
    """Options of engines and names of variables."""
    assert list(secrets_in({name: FINE[name]})) == []
