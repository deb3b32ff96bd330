"""The items of a task as the samples describe them: hashes, cluster labels, and texts where asked for."""

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.formats.samples import Query, SampleBatch, Texts

ITEM_TEXTS = ("prompts", "targets", "prompt_hashes")


class Documents:
    """What is known about each item; the number of an item is its place in every list.

    Attributes:
        hashes: of the documents, None where unknown.
        clusters: labels, None where there is none.
        texts: prompts, targets and prompt hashes of the first sample that has them, where documents were
            asked for.
        docs: the documents, likewise. Where they have no hash, only what all samples agree on is kept.
        changed: number of an item that is not the same document everywhere, or None.
        torn: number of an item that is in two clusters, and both labels, or None.
    """

    def __init__(self) -> None:
        self.hashes: list[str | None] = []
        self.clusters: list[object] = []
        self.texts: dict[str, list[str | None]] = {name: [] for name in ITEM_TEXTS}
        self.docs: list[object] = []
        self.changed: int | None = None
        self.torn: tuple[int, object, object] | None = None

    def note(self, items: Sequence[int], batch: SampleBatch, query: Query) -> None:
        """Take in what a batch says about its items.

        Args:
            items: number of the item of every sample; new numbers continue the old ones.
            batch: the samples.
            query: whether documents are kept.
        """
        size = max(items) + 1
        _lengthen(self.hashes, size)
        _lengthen(self.clusters, size)
        if batch.doc_hashes is not None:
            self._note_hashes(items, batch.doc_hashes)
        if batch.clusters is not None:
            self._note_clusters(items, batch.clusters)
        if query.documents:
            self._note_texts(items, batch, size)

    def _note_hashes(self, items: Sequence[int], hashes: Texts) -> None:
        for item, found in zip(items, hashes, strict=True):
            known = self.hashes[item]
            if known is None:
                self.hashes[item] = found
            elif found is not None and found != known and self.changed is None:
                self.changed = item

    def _note_clusters(self, items: Sequence[int], labels: Sequence[object]) -> None:
        for item, label in zip(items, labels, strict=True):
            known = self.clusters[item]
            if known is None:
                self.clusters[item] = label
            elif label is not None and label != known and self.torn is None:
                self.torn = (item, known, label)

    def _note_texts(self, items: Sequence[int], batch: SampleBatch, size: int) -> None:
        for name, held in self.texts.items():
            _lengthen(held, size)
            for item, text in zip(items, getattr(batch, name) or (), strict=False):
                if held[item] is None:
                    held[item] = text
        _lengthen(self.docs, size)
        for item, doc in zip(items, batch.docs or (), strict=False):
            self._note_doc(item, doc)

    def _note_doc(self, item: int, doc: object) -> None:
        known = self.docs[item]
        if known is None:
            self.docs[item] = dict(doc) if isinstance(doc, Mapping) else doc
        elif self.hashes[item] is None and isinstance(known, dict) and isinstance(doc, Mapping):
            for name, value in doc.items():
                known[name] = value if known.get(name, value) == value else None


def _lengthen(held: list[Any], size: int) -> None:
    held.extend([None] * (size - len(held)))
