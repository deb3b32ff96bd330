"""The cluster templates are what the programs that read them take, and name only what lldeg has."""

import json
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
import yaml

import jobs
from jobs.cli import COMMANDS, load_command

FOLDER = Path(jobs.__file__).parent / "templates"
NAMES = ["kuberay-rayjob.yaml", "ray-cluster.yaml", "slurm.sh"]

RAY_JOB = {
    *("activeDeadlineSeconds", "backoffLimit", "clusterSelector", "entrypoint", "entrypointNumCpus"),
    *("entrypointNumGpus", "entrypointResources", "jobId", "metadata", "rayClusterSpec", "runtimeEnvYAML"),
    *("shutdownAfterJobFinishes", "submissionMode", "submitterConfig", "submitterPodTemplate", "suspend"),
    *("ttlSecondsAfterFinished",),
}
RAY_CLUSTER = {
    *("autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions", "headGroupSpec"),
    *("headServiceAnnotations", "rayVersion", "suspend", "workerGroupSpecs"),
}
HEAD = {"enableIngress", "headService", "rayStartParams", "serviceType", "template"}
WORKERS = {
    *("groupName", "maxReplicas", "minReplicas", "numOfHosts", "rayStartParams", "replicas"),
    *("scaleStrategy", "template"),
}


def read(name):
    """A template's text."""
    return (FOLDER / name).read_text(encoding="utf-8")


def ray_start_lines(text):
    """Arguments of every `ray start`, continued lines joined."""
    return re.findall(r"ray start(.*)", re.sub(r"\\\n|(?<=0)\n {4}(?=ray start)", " ", text))


def test_the_templates_are_all_there():
    """And nothing else is in the folder that is shipped."""
    assert sorted(path.name for path in FOLDER.iterdir()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_they_show_exist(name):
    """Every `lldeg` line is a command with options that it has."""
    used = re.findall(r"\blldeg (submit|status|stop|logs|[a-z]+ )((?:.*\\\n)*.*)", read(name))
    shown = [(verb.strip(), line) for verb, line in used if verb.strip() in COMMANDS]
    assert "submit" in {verb for verb, _ in shown}
    for verb, line in shown:
        options = {option for parameter in load_command(verb).params for option in parameter.opts}
        assert set(re.findall(r"(?<=\s)--[a-z-]+", line)) <= options, line


@pytest.mark.parametrize("name", NAMES)
def test_ray_reports_nothing_home(name):
    """Usage reporting is off on every node."""
    assert re.search(r'RAY_USAGE_STATS_ENABLED(=0|, value: "0")', read(name))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_secret_stands_in_them(name):
    """Tokens come from the environment, a secret of Kubernetes, or are made up when the cluster starts."""
    assert not re.search(r"(hf_|sk-|AKIA)[A-Za-z0-9]{8}", read(name))


def test_the_launcher_file_is_valid():
    """Against the schema that Ray's own launcher checks."""
    config = yaml.safe_load(read("ray-cluster.yaml"))
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(config, schema)
    assert config["head_node_type"] in config["available_node_types"]
    assert (
        sum(kind.get("max_workers", 0) for kind in config["available_node_types"].values())
        <= (config["max_workers"])
    )


def test_the_dashboard_of_the_launched_cluster_is_private():
    """Whoever reaches it can run code; it is reached through SSH."""
    (head,) = [line for line in ray_start_lines(read("ray-cluster.yaml")) if "--head" in line]
    assert "--dashboard-host=127.0.0.1" in head
    assert "0.0.0.0" not in read("ray-cluster.yaml")


def test_the_versions_are_those_that_are_tested():
    """Ray must be the same on all machines."""
    pinned = re.search(r"^ray==(\S+)", (FOLDER.parents[1] / "constraints.txt").read_text(), re.M)[1]
    assert f"'ray[default]=={pinned}'" in read("ray-cluster.yaml")
    assert yaml.safe_load(read("kuberay-rayjob.yaml"))["spec"]["rayClusterSpec"]["rayVersion"] == pinned


def without_ray(requirements):
    """Ray's version is a matter of its own."""
    return {line for line in requirements if not line.startswith("ray[")}


def test_the_launcher_installs_every_dependency():
    """The code is shipped, what it imports is not; in the versions that lldeg works with."""
    import tomllib

    project = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = {*project["dependencies"], *extras["run"], *extras["gpu"]} - {"lldeg[run]"}
    (install,) = [
        line for line in yaml.safe_load(read("ray-cluster.yaml"))["setup_commands"] if "pip" in line
    ]
    installed = set(re.findall(r"'([^']+)'", install))
    assert without_ray(installed) == without_ray(needed)


def test_the_rayjob_has_the_structure_of_its_kind():
    """Known fields only, on every level KubeRay defines."""
    job = yaml.safe_load(read("kuberay-rayjob.yaml"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert set(job["spec"]) <= RAY_JOB
    assert set(cluster) <= RAY_CLUSTER
    assert set(cluster["headGroupSpec"]) <= HEAD
    for group in cluster["workerGroupSpecs"]:
        assert set(group) <= WORKERS
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_pods_of_the_rayjob_hang_together():
    """Every mounted volume is defined, all pods run one image, and start parameters are strings."""
    cluster = yaml.safe_load(read("kuberay-rayjob.yaml"))["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    pods = [group["template"]["spec"] for group in groups]
    for pod in pods:
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
    assert len({container["image"] for pod in pods for container in pod["containers"]}) == 1
    assert all(isinstance(value, str) for group in groups for value in group["rayStartParams"].values())


def test_the_slurm_script_is_a_script():
    """Bash can read it; it stops at errors, and its settings come before the first command."""
    text = read("slurm.sh")
    subprocess.run(["bash", "-n", FOLDER / "slurm.sh"], check=True)
    first_command = next(n for n, line in enumerate(text.splitlines()) if line and not line.startswith("#"))
    settings = [n for n, line in enumerate(text.splitlines()) if line.startswith("#SBATCH ")]
    assert text.startswith("#!/bin/bash\n")
    assert settings
    assert max(settings) < first_command
    assert text.splitlines()[first_command] == "set -euo pipefail"
