"""The fast lane stays without Ray and servers: a test that has no mark cannot start either."""

import socket

import pytest
import ray


def test_a_test_without_a_mark_cannot_start_ray():
    """Ray finds no folder for its sockets, here or in a process that the test starts."""
    with pytest.raises(NotADirectoryError):
        ray.init("local", include_dashboard=False)


def test_a_test_without_a_mark_cannot_start_a_server():
    """The failure names the mark."""
    with pytest.raises(pytest.fail.Exception, match=r"pytest\.mark\.ray"):
        socket.create_server(("127.0.0.1", 0))
