"""What is sent of a folder of tasks: what tasks are made of, and nothing that merely lies there."""

import os
import threading

import pytest
from standin.files import write_small_sweep

from orchestrator.cluster import code_shipping as shipping
from orchestrator.cluster.code_shipping import copy_tasks
from orchestrator.errors import UserError
from orchestrator.sweep.prepare import prepare

TASK_FILES = ["a.yaml", "b.yml", "c.py", "d.json", "e.jsonl", "f.csv", "g.parquet", "h.txt", "deep/er/i.yaml"]
HIDDEN = [".env", ".git/config.json", "deep/.hidden.txt", "__pycache__/c.py"]
FOREIGN = ["id_rsa", "server.pem", "model.safetensors", "notes.docx"]
KEYS = ["credentials.json", "hf_token.txt", "deep/api_keys.yaml", "SECRETS.yml", "service-account.json"]


@pytest.fixture
def folder(tmp_path):
    """A folder of tasks with a file of each kind."""
    for name in [*TASK_FILES, *HIDDEN, *FOREIGN, *KEYS]:
        path = tmp_path / "pack" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "pack"


@pytest.fixture
def sent(tmp_path):
    """Copies folders as they are sent; returns the files of the first and their texts."""

    def copy(*folders):
        copied = copy_tasks([str(folder) for folder in folders], tmp_path / "copy")[0]
        files = [path for path in copied.rglob("*") if not path.is_dir()]
        assert not [path for path in files if path.is_symlink()]
        return {str(path.relative_to(copied)): path.read_text() for path in files}

    return copy


def test_only_task_files_are_sent(folder, sent):
    """Files of nine kinds are; hidden ones, keys and anything else are not."""
    assert sent(folder) == {name: name for name in TASK_FILES}


def test_a_private_key_is_not_sent_by_any_name(folder, sent):
    """The key of a cloud account may be in any JSON file."""
    (folder / "d.json").write_text('{"private_key": "-----BEGIN PRIVATE KEY-----\\n..."}')
    assert "d.json" not in sent(folder)


@pytest.mark.parametrize(
    "include", ["include: base", 'include: "base"', "include: [base]", "include:\n  - base"]
)
def test_a_template_without_a_suffix_is_sent_if_a_task_includes_it(folder, sent, include):
    """Many templates of lm-eval have none."""
    (folder / "base").write_text("doc_to_text: ''")
    (folder / "a.yaml").write_text(f"task: a\n{include}\n")
    assert "base" in sent(folder)


def test_links_lead_nowhere_outside_of_the_folder(folder, sent, tmp_path):
    """Files and folders outside, by whatever way, stay there."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x.txt").write_text("mine")
    (folder / "file.txt").symlink_to(outside / "x.txt")
    (folder / "again.txt").symlink_to("file.txt")
    (folder / "up").symlink_to("..")
    (folder / "links").symlink_to(outside)
    assert sent(folder) == {name: name for name in TASK_FILES}


def test_links_within_the_folder_are_followed_once(folder, sent):
    """To a file and to a folder they are; to what is hidden or a folder above they are not."""
    (folder / "file.txt").symlink_to("h.txt")
    (folder / "also").symlink_to("deep")
    (folder / "deep" / "loop").symlink_to("..")
    (folder / "hidden.txt").symlink_to(".env")
    (folder / "key.yaml").symlink_to("a.yaml")
    assert sent(folder) == {
        **{name: name for name in TASK_FILES},
        "file.txt": "h.txt",
        "also/er/i.yaml": "deep/er/i.yaml",
    }


def test_pipes_and_dangling_links_are_left_out(folder, sent):
    """Neither is waited for."""
    os.mkfifo(folder / "pipe.txt")
    (folder / "gone.txt").symlink_to("nowhere")
    (folder / "round.txt").symlink_to("round.txt")
    assert ends(lambda: sent(folder)) == {name: name for name in TASK_FILES}


def test_too_much_is_refused_before_anything_is_copied(folder, tmp_path, monkeypatch):
    """The sentence names the folder; what is not sent does not count."""
    monkeypatch.setattr(shipping, "LARGEST", 1 << 20)
    (folder / "weights.bin").write_bytes(bytes(2 << 20))
    copy_tasks([str(folder)], tmp_path / "first")
    (folder / "data.jsonl").write_bytes(bytes(2 << 20))
    with pytest.raises(UserError, match="at most 1 MiB") as refused:
        copy_tasks([str(folder)], tmp_path / "second")
    assert str(folder) in str(refused.value)
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("here", [True, False])
def test_the_size_is_checked_with_the_rest_of_a_sweep(tmp_path, monkeypatch, here):
    """Only if it is to run elsewhere: nothing is sent on this machine."""
    path = write_small_sweep(tmp_path)
    monkeypatch.setattr(shipping, "LARGEST", 10)
    monkeypatch.chdir(tmp_path)
    if here:
        prepare(path)
        return
    with pytest.raises(UserError, match="MiB of task files can be sent"):
        prepare(path, here=False)


def test_a_task_that_is_a_pipe_is_refused(lldeg, tmp_path):
    """lm-eval would wait for its content for ever."""
    path = write_small_sweep(tmp_path)
    os.mkfifo(tmp_path / "pack" / "pipe.yaml")
    result = ends(lambda: lldeg("submit", path, "--dry-run"))
    assert result.status == 2
    assert "pipe.yaml is not a regular file" in result.err


def ends(action):
    """What an action returns; fails if it has not ended after a minute."""
    results = []
    thread = threading.Thread(target=lambda: results.append(action()), daemon=True)
    thread.start()
    thread.join(60)
    assert results, "it failed or waits for ever"
    return results[0]
