"""The models of a sweep, and the Python environments in which their engines run.

A folder on disk is known by its content, a hub name by its commit. That is looked up in the local Hugging
Face cache first, so that a machine without a network can run what it has, and then on the hub.

The engine of a variant may have a Python of its own: two versions of an engine, side by side. Such an
environment has lldeg's dependencies, too; lldeg's own code is sent there. What decides prompts and scores
must have the driver's versions, so that the engine, with what it needs, is all that differs.
"""

import json
import platform
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from orchestrator.config.load import Variant
from orchestrator.engines.base import COMMITS, LORA
from orchestrator.rundir.identity import folder_digest
from orchestrator.rundir.manifest import PACKAGES, package_versions

LookUp = Callable[[str, str | None], str]
SECONDS_TO_ANSWER = 60
THE_SAME = ("ray", "lm-eval")
"""Packages that must have the driver's versions: the one talks to it, the other scores."""
ASK = """
import json, platform, sys
from importlib.metadata import PackageNotFoundError, version
found = {"python": platform.python_version()}
for package in sys.argv[1:]:
    try:
        found[package] = version(package)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""


class ModelNotFoundError(Exception):
    """No model of this name was found; the message says where it was searched."""


def find_models(variants: Mapping[str, Variant], problems: list[str]) -> dict[str, Variant]:
    """The variants with the identities and commits of their models; what was not found is a problem.

    Models and tokenizers of the hub are then named by their commits: a branch that moves from now on moves
    for no replica and no chat template.
    """
    found = dict(variants)
    identity_of, commit_at = cache(model_identity), cache(commit_of)  # as most variants have the same model
    for name, variant in variants.items():
        try:
            if variant.model:  # else that has been reported
                found[name] = _found(variant, identity_of, commit_at)
        except ModelNotFoundError as error:
            problems.append(f"variants.{name}: {error}")
    return found


def _found(variant: Variant, identity_of: LookUp, commit_at: LookUp) -> Variant:
    model, asked, commits = variant.model, variant.revision, {}
    for option, name, at in variant.kind.repositories():
        own = name == model
        try:
            if not Path(name).is_dir():
                commits[option] = (identity_of if own else commit_at)(name, at or (asked if own else None))
        except ModelNotFoundError as error:
            if not variant.kind.served:  # else the name may be the server's alone
                raise ModelNotFoundError(f"engine.{option}: {error}") from None
    options = {**variant.options, **({COMMITS: commits} if commits else {})}
    if variant.kind.served:
        return replace(variant, identity=model, options=options)
    identity = identity_of(model, asked)
    commit = None if Path(model).is_dir() else identity
    adapter = variant.options.get(LORA)
    if adapter is not None and Path(adapter).is_dir():  # reported where engine options are checked
        identity += f" with adapter {folder_digest(Path(adapter))}"
    return replace(variant, identity=identity, revision=commit, options=options)


def model_identity(model: str, revision: str | None = None) -> str:
    """What identifies a model's weights and tokenizer: a digest of the folder's files, or the hub's commit.

    The revision is a branch, tag or commit on the hub, and ignored for a folder. A ModelNotFoundError if the
    folder does not exist, or the model cannot be reached.
    """
    folder = Path(model)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelNotFoundError(f"the folder {model} is not a model: it has no config.json")
        return folder_digest(folder)
    if folder.is_absolute() or model.startswith(".") or model.count("/") != 1:
        raise ModelNotFoundError(f"the model folder {model} does not exist")
    return commit_of(model, revision)


def commit_of(repository: str, revision: str | None) -> str:
    """The commit of a repository on the hub; a ModelNotFoundError if it cannot be reached."""
    from huggingface_hub import HfApi, try_to_load_from_cache  # noqa: PLC0415 - a second to import, for hub names only

    for file in ("config.json", "tokenizer_config.json", "adapter_config.json"):
        try:
            cached = try_to_load_from_cache(repository, file, revision=revision)
        except ValueError as error:
            raise ModelNotFoundError(
                f"'{repository}' is not a folder and cannot be a name on the hub ({error})"
            ) from None
        if isinstance(cached, str):
            return Path(cached).parent.name
    try:
        return str(HfApi().model_info(repository, revision=revision, timeout=10).sha)
    except Exception as error:  # noqa: BLE001 - the hub client raises the errors of whichever HTTP library it uses
        reason = str(error).strip().split("\n")[0][:200]
        raise ModelNotFoundError(
            f"'{repository}' is not a folder, not in the Hugging Face cache, and not on the hub ({reason})"
        ) from None


def find_versions(variants: Mapping[str, Variant], problems: list[str]) -> dict[str, Variant]:
    """The variants, those with a Python of its own with the versions of what is there.

    Objects are sent between interpreters of the same minor version only.
    """
    found, here = dict(variants), package_versions()
    ours = {"python": _minor(platform.python_version()), **{name: here.get(name) for name in THE_SAME}}
    for name, variant in variants.items():
        if variant.python is None:
            continue
        place, versions = f"variants.{name}: python: {variant.python}", versions_of(variant.python)
        if isinstance(versions, str):
            problems.append(f"{place} {versions}")
            continue
        found[name] = replace(variant, versions=versions)
        theirs = {**versions, "python": _minor(versions["python"])}
        for package, our in ours.items():
            if package not in theirs and our is not None:
                problems.append(f"{place} has no package {package}: install lldeg's dependencies there")
            elif theirs.get(package) != our:
                problems.append(f"{place} has {package} {theirs[package]}, but it must be {our} as here")
    return found


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])


def versions_of(python: str) -> dict[str, str] | str:
    """Versions of an interpreter and of the packages that a manifest records, or why it cannot say."""
    if not Path(python).is_absolute():
        return "must be an absolute path"
    command = [python, "-I", "-c", ASK, *PACKAGES]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER, check=True)  # noqa: S603 - the user's interpreter and fixed words
        versions = json.loads(ran.stdout)
    except FileNotFoundError:
        return "does not exist"
    except (OSError, subprocess.SubprocessError, ValueError):
        versions = None
    return versions if isinstance(versions, dict) and "python" in versions else "is not a Python interpreter"


def engine_versions(variant: Variant) -> dict[str, str]:
    """The versions that are part of a variant's identity: those of its engine, in a Python of its own."""
    versions = variant.versions or {}
    return {name: versions[name] for name in variant.kind.packages if name in versions}
