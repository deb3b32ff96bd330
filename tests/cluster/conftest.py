"""One Ray cluster for all tests here, started from an environment that does not have lldeg."""

import shutil
import tempfile
from pathlib import Path

import pytest
from standin.cluster import Cluster
from standin.command import Command


@pytest.fixture(scope="package")
def cluster():
    """A head with two CPUs; modules add nodes."""
    folder = Path(tempfile.mkdtemp(prefix="lldeg-"))
    cluster = Cluster(folder)
    yield cluster
    cluster.end()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def command(cluster):
    """Runs `lldeg ...` beside the cluster, with its token."""
    folder = Path(tempfile.mkdtemp(prefix="lldeg-"))
    command = Command(folder, dict(cluster.environment))
    yield command
    command.end_all()
    shutil.rmtree(folder, ignore_errors=True)
