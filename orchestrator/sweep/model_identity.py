"""The identity of a model: a folder on disk by its content, a hub name by its commit.

The commit is looked up in the local Hugging Face cache first, so that a machine without a network can run
what it has, and then on the hub.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.rundir.identity import folder_digest


@dataclass(frozen=True)
class FoundModel:
    """A variant's model as it was found, once, for all that will load it.

    Attributes:
        identity: of weights and tokenizer, a LoRA adapter included.
        commit: what replicas load; None for a folder, and for a served model without a known tokenizer.
        commits: of other repositories on the hub, by the engine option that names them.
    """

    identity: str
    commit: str | None = None
    commits: dict[str, str] = field(default_factory=dict)


class ModelNotFoundError(Exception):
    """No model of this name was found; the message says where it was searched."""


def model_revision(model: str, revision: str | None = None) -> str:
    """What identifies a model's weights and tokenizer.

    Args:
        model: a folder or a Hugging Face hub name ("organization/model").
        revision: branch, tag or commit on the hub; ignored for a folder.

    Returns:
        a digest of the folder's files, or the hub's commit hash.

    Raises:
        ModelNotFoundError: the folder does not exist, or the model cannot be reached.
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
    """The commit of a repository on the hub.

    Raises:
        ModelNotFoundError: it cannot be reached.
    """
    return _cached_commit(repository, revision) or _hub_commit(repository, revision)


def with_adapter(revision: str, adapter: str | None) -> str:
    """What identifies a model together with a LoRA adapter, a folder; without one, the model alone."""
    if adapter is None or not Path(adapter).is_dir():  # reported where engine options are checked
        return revision
    return f"{revision} with adapter {folder_digest(Path(adapter))}"


def _cached_commit(model: str, revision: str | None) -> str | None:
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - a second to import, for hub names only

    for file in ("config.json", "tokenizer_config.json", "adapter_config.json"):
        try:
            found = try_to_load_from_cache(model, file, revision=revision)
        except ValueError as error:
            raise ModelNotFoundError(
                f"'{model}' is no folder and cannot be a name on the hub ({error})"
            ) from None
        if isinstance(found, str):
            return Path(found).parent.name
    return None


def _hub_commit(model: str, revision: str | None) -> str:
    from huggingface_hub import HfApi  # noqa: PLC0415

    try:
        return str(HfApi().model_info(model, revision=revision, timeout=10).sha)
    except Exception as error:  # noqa: BLE001 - the hub client raises the errors of whichever HTTP library it uses
        reason = str(error).strip().split("\n")[0][:200]
        raise ModelNotFoundError(
            f"'{model}' is not a folder, not in the Hugging Face cache, and not on the hub ({reason})"
        ) from None
