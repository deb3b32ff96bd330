"""Whether a driver brings a token to the cluster it joins."""

import os
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from orchestrator.config.environment import HARMLESS_CALL, prepare_for_ray

MODE, TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"


class Head(grpc.GenericRpcHandler):
    """Answers the one call, to everybody or to nobody without a token."""

    def __init__(self, is_open):
        self._is_open = is_open

    def service(self, details):
        """The call's handler."""
        assert details.method == HARMLESS_CALL
        return grpc.unary_unary_rpc_method_handler(self._answer)

    def _answer(self, _, context):
        if not self._is_open:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "Authentication token is missing")
        return b""


@pytest.fixture
def head(monkeypatch):
    """Starts a head and returns its address; the environment has a token and says nothing of its use."""
    monkeypatch.setenv(TOKEN, "0123456789abcdef0123456789abcdef")
    monkeypatch.setenv(MODE, "")  # so that what is set is taken back
    monkeypatch.delenv(MODE)
    servers = []

    def start(*, is_open):
        server = grpc.server(ThreadPoolExecutor(1), handlers=[Head(is_open)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(0)


def test_a_head_that_wants_a_token_gets_it(head):
    """Ray by itself sends none to such an address."""
    prepare_for_ray(head(is_open=False))
    assert os.environ[MODE] == "token"


def test_a_head_that_wants_none_is_not_asked_for_one(head):
    """A driver with a token would wait for ever for replicas that have none."""
    prepare_for_ray(head(is_open=True))
    assert MODE not in os.environ


@pytest.mark.parametrize("address", ["auto", "ray://127.0.0.1:1", "http://127.0.0.1:1"])
def test_other_addresses_get_the_token_there_is(head, address):
    """Ray's client and job server take it from whoever has one."""
    prepare_for_ray(address)
    assert os.environ[MODE] == "token"


def test_the_users_own_setting_stays(head, monkeypatch):
    """Whatever the head would say."""
    monkeypatch.setenv(MODE, "disabled")
    prepare_for_ray(head(is_open=False))
    assert os.environ[MODE] == "disabled"
