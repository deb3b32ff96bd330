"""Items of different tasks that belong together."""

import numpy as np

from jobs.scores.read import linked, sign_blocks
from jobs.scores.score_set import ScoreSet, TaskInfo, TaskTable


def tasks(*documents, clusters=None):
    """A score set with a task per list of document hashes."""
    names = clusters or [None] * len(documents)
    return ScoreSet(
        ("base",),
        tuple(
            TaskTable(
                TaskInfo(str(i), "acc"),
                np.arange(len(hashes)),
                None,
                {},
                documents=np.array(hashes, dtype=object),
                cluster_names=None if labels is None else np.array(labels, dtype=object),
            )
            for i, (hashes, labels) in enumerate(zip(documents, names, strict=True))
        ),
    )


def groups(found):
    """The links of all items as sets of (task, item)."""
    held = {}
    for task, table in enumerate(found.tasks):
        for item, link in enumerate(table.links.tolist()):
            held.setdefault(link, set()).add((task, item))
    return sorted(map(sorted, held.values()))


def test_nothing_shared_is_no_link():
    """Tasks with documents of their own, or documents without a hash, are not linked."""
    assert all(table.links is None for table in linked(tasks(["a", "b"], ["c", None], [None, "d"])).tasks)


def test_equal_documents_have_one_number():
    """The document that two tasks share is one group, every other item its own."""
    found = linked(tasks(["a", "b"], ["b", None]))
    assert groups(found) == [[(0, 0)], [(0, 1), (1, 0)], [(1, 1)]]


def test_equal_documents_of_one_task_are_one_too():
    """Whether other tasks have them or not; a task without any has no links."""
    found = linked(tasks(["a", "b", "a", None], ["c", "d"]))
    links = found.tasks[0].links
    assert (links[0] == links[2], np.unique(links).size) == (True, 3)
    assert found.tasks[1].links is None
    assert np.unique(linked(tasks(["a", "a"])).tasks[0].links).size == 1


def test_runs_of_older_versions_keep_the_signs_of_their_looks():
    """Equal documents of one task had a sign each; those of a cluster, or in two tasks, had one."""
    tables = tasks(["a", "a"], ["b", "c"]).tasks
    assert sign_blocks(tables, {"cluster_names"}) == [None, None]
    first, second = sign_blocks(tables, {"cluster_names", "documents"})
    assert (first.tolist(), second) == ([0, 0], None)


def test_documents_and_clusters_join_through_each_other():
    """Items that share a document, and items that share a cluster, are one group if any item does both."""
    found = linked(tasks(["a", "b"], ["a", "c"], clusters=[["x", None], [None, "x"]]))
    assert groups(found) == [[(0, 0), (1, 0), (1, 1)], [(0, 1)]]


def test_the_names_are_let_go():
    """Only numbers remain, whether anything is shared or not."""
    for book in (tasks(["a"], ["a"]), tasks(["a"], ["b"]), tasks(["a"])):
        assert all(table.documents is None for table in linked(book).tasks)
