"""A snapshot made ready for training: token ids, labels and teacher cosines as memory-mapped arrays on disk.

Read as a stream and written as a stream, so memory is bounded by a batch and not by the data set.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from restill.errors import TrainingFailed
from restill.files import write_whole
from restill.logits import LogitsStore, PlattCalibration, fit_platt
from restill.serving import tokenize
from restill.snapshots import Snapshot
from restill.vocabulary import prune_tokenizer

MIN_PAIRS = 10  # of each of training and validation: fewer teach and choose nothing


@dataclass(frozen=True)
class Split:
    """One split as arrays of one length; a row is a pair."""

    ids_a: NDArray[np.int32]  # [pairs, max_tokens]
    ids_b: NDArray[np.int32]
    labels: NDArray[np.float32]  # [pairs], NaN: unlabelled
    teacher_cosines: NDArray[np.float32]  # [pairs]
    pair_ids: NDArray[np.bytes_]  # [pairs]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.labels)


@dataclass(frozen=True)
class Corpus:
    """Everything a student is trained from."""

    train: Split
    validation: Split
    tokenizer: Tokenizer
    teacher: PlattCalibration  # fitted on the training labels


def prepare(
    snapshot: Snapshot, logits: LogitsStore, teacher_tokenizer: Tokenizer, folder: Path, *, max_tokens: int
) -> Corpus:
    """Write the training and validation splits of a snapshot under `folder`, or reuse them if they are complete.

    Args:
        snapshot: the data version; its sentences must all be in `logits`.
        logits: teacher embeddings.
        teacher_tokenizer: what the student's vocabulary is pruned from.
        folder: where the arrays are kept; named by everything they depend on.
        max_tokens: longest input; longer sentences are cut.
    Raises: TrainingFailed if a split has fewer than 10 pairs.
    """
    done = folder / "done.json"
    if not done.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        tokenizer = prune_tokenizer(teacher_tokenizer, _sentences(snapshot, "train"))
        tokenizer.save(str(folder / "tokenizer.json"))
        for name in ("train", "validation"):
            _write_split(snapshot, logits, tokenizer, folder / name, name, max_tokens)
        train = _open_split(folder / "train")
        labelled = ~np.isnan(train.labels)
        platt = fit_platt(train.teacher_cosines[labelled], train.labels[labelled])
        write_whole(done, json.dumps({"scale": platt.scale, "bias": platt.bias}).encode())
    platt_values = json.loads(done.read_text("utf-8"))
    return Corpus(
        train=_open_split(folder / "train"),
        validation=_open_split(folder / "validation"),
        tokenizer=Tokenizer.from_file(str(folder / "tokenizer.json")),
        teacher=PlattCalibration(**platt_values),
    )


def _sentences(snapshot: Snapshot, split: str) -> Iterator[str]:
    for batch in snapshot.read(("text_a", "text_b"), split=split):
        for column in batch.columns:
            yield from column.to_pylist()


def _write_split(
    snapshot: Snapshot, logits: LogitsStore, tokenizer: Tokenizer, folder: Path, name: str, max_tokens: int
) -> None:
    pairs = snapshot.rows.get(name, 0)
    if pairs < MIN_PAIRS:
        raise TrainingFailed(
            f"The {name} split of data version {snapshot.short} has {pairs} pairs; at least {MIN_PAIRS} are needed.",
            hint="Ingest more pairs; a split gets its share of the groups of connected sentences, not of the rows.",
        )
    folder.mkdir()
    shapes: dict[str, tuple[tuple[int, ...], str]] = {
        "ids_a": ((pairs, max_tokens), "<i4"),
        "ids_b": ((pairs, max_tokens), "<i4"),
        "labels": ((pairs,), "<f4"),
        "teacher_cosines": ((pairs,), "<f4"),
        "pair_ids": ((pairs,), "S32"),
    }
    arrays = {
        key: np.lib.format.open_memmap(folder / f"{key}.npy", mode="w+", dtype=kind, shape=shape)
        for key, (shape, kind) in shapes.items()
    }
    start = 0
    for batch in snapshot.read(("pair_id", "text_a", "text_b", "label"), split=name):
        text_a, text_b = batch["text_a"].to_pylist(), batch["text_b"].to_pylist()
        rows = slice(start, start + len(text_a))
        arrays["ids_a"][rows] = tokenize(tokenizer, text_a, max_tokens)
        arrays["ids_b"][rows] = tokenize(tokenizer, text_b, max_tokens)
        arrays["labels"][rows] = batch["label"].to_numpy(zero_copy_only=False)
        arrays["teacher_cosines"][rows] = logits.cosines(text_a, text_b)
        arrays["pair_ids"][rows] = [identity.encode() for identity in batch["pair_id"].to_pylist()]
        start = rows.stop
    for array in arrays.values():
        array.flush()


def _open_split(folder: Path) -> Split:
    def load(name: str) -> NDArray[np.generic]:
        array: NDArray[np.generic] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return array

    return Split(**{name: load(name) for name in Split.__dataclass_fields__})  # type: ignore[arg-type]
