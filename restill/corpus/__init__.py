"""A snapshot made ready for training: what students read and what the teacher said, as arrays mapped from disk.

Every distinct sentence is tokenised and kept once; a pair is two rows of that table. The snapshot is read as a stream,
so that memory is bounded by a batch and by a few bytes a sentence, not by the texts.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from restill.corpus.arrays import Pairs, Sentences, create_array, open_array
from restill.corpus.mining import mine
from restill.errors import ConfigurationError, TrainingFailed
from restill.files import write_whole
from restill.logits import LogitsStore, PlattCalibration, fit_platt, sentence_digest
from restill.logits.items import as_array
from restill.serving import tokenize
from restill.snapshots import Snapshot

__all__ = ["Corpus", "Pairs", "Sentences", "SplitSentences", "prepare"]

MIN_PAIRS = 10  # of each of training and validation: fewer teach and choose nothing
SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Corpus:
    """Everything a student is trained from."""

    sentences: Sentences
    train: Pairs
    validation: Pairs
    tokenizer: Tokenizer
    teacher: PlattCalibration  # fitted on the training labels
    mined_pairs: int = 0  # the last ones of `train`


@dataclass(frozen=True)
class SplitSentences:
    """Both sentences of every pair of a split, repeats included; can be read any number of times."""

    snapshot: Snapshot
    split: str

    def __iter__(self) -> Iterator[str]:
        """Read the split from the beginning."""
        for rows in self.snapshot.read(("text_a", "text_b"), split=self.split):
            for column in rows.columns:
                yield from column.to_pylist()


def prepare(
    snapshot: Snapshot,
    logits: LogitsStore,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    max_tokens: int,
    mined_pairs: int = 0,
    seed: int = 0,
) -> Corpus:
    """Write the training and validation splits of a snapshot under `folder`, or reuse them if they are complete.

    Args:
        snapshot: the data version; its sentences (or pairs, for a cross-encoder) must all be in `logits`.
        logits: the teacher's scores.
        tokenizer: the student's.
        folder: where the arrays are kept; named by everything they depend on.
        max_tokens: longest input; longer sentences are cut.
        mined_pairs: unlabelled pairs made for each training sentence (`mining`); needs a bi-encoder's embeddings.
        seed: of the mining.
    Raises: TrainingFailed if a split has fewer than 10 pairs, or no pair with a label; ConfigurationError if pairs are
        to be mined and the teacher gives no vectors.
    """
    if mined_pairs and logits.kind != "bi-encoder":
        raise ConfigurationError(
            "distillation.mined_pairs needs a bi-encoder: a cross-encoder gives no vectors to find like sentences by.",
            hint="Set it to 0 with this teacher.",
        )
    for split in SPLITS:
        if snapshot.rows.get(split, 0) < MIN_PAIRS:
            raise TrainingFailed(
                f"The {split} split of data version {snapshot.short} has {snapshot.rows.get(split, 0)} pairs; "
                f"at least {MIN_PAIRS} are needed.",
                hint="Ingest more pairs; a split gets its share of the groups of connected sentences, not of the rows.",
            )
    done = folder / "done.json"
    if not done.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        digests = _distinct_digests(snapshot)
        np.save(folder / "digests.npy", digests, allow_pickle=False)
        ids = create_array(folder / "ids.npy", "<i4", (len(digests), max_tokens))
        written = np.zeros(len(digests), np.bool_)
        in_training = np.zeros(len(digests), np.bool_)
        for split in SPLITS:
            for text_a, text_b, _, _ in _read(snapshot, split):
                for texts in (text_a, text_b):
                    rows = _rows(digests, texts)
                    in_training[rows] |= split == "train"
                    new, first = np.unique(rows[~written[rows]], return_index=True)
                    kept = np.flatnonzero(~written[rows])[first]
                    ids[new] = tokenize(tokenizer, [texts[place] for place in kept], max_tokens)
                    written[new] = True
        ids.flush()
        mined = _mine(logits, digests, np.flatnonzero(in_training), folder / "mined.bin", mined_pairs, seed)
        extra = len(mined)
        for split in SPLITS:
            _write_pairs(snapshot, logits, digests, folder / split, split, extra=extra if split == "train" else 0)
        if np.isnan(Pairs.open(folder / "validation").labels).all():
            raise TrainingFailed(
                f"No pair of the validation split of data version {snapshot.short} has a label.",
                hint="Ingest labelled pairs too: without them no threshold can be chosen.",
            )
        train = Pairs.open(folder / "train", writable=True)
        if extra:
            train.a[-extra:], train.b[-extra:], train.scores[-extra:] = mined["a"], mined["b"], mined["score"]
            train.labels[-extra:], train.pair_ids[-extra:] = np.nan, b"mined"
            train.flush()
        labelled = ~np.isnan(train.labels)
        platt = fit_platt(train.scores[labelled], train.labels[labelled])
        write_whole(done, json.dumps({"scale": platt.scale, "bias": platt.bias, "mined": extra}).encode())
    facts = json.loads(done.read_text("utf-8"))
    return Corpus(
        sentences=_open_sentences(folder, logits),
        train=Pairs.open(folder / "train"),
        validation=Pairs.open(folder / "validation"),
        tokenizer=tokenizer,
        teacher=PlattCalibration(facts["scale"], facts["bias"]),
        mined_pairs=facts["mined"],
    )


def _mine(
    logits: LogitsStore,
    digests: NDArray[np.bytes_],
    sentences: NDArray[np.int64],
    file: Path,
    neighbours: int,
    seed: int,
) -> NDArray[np.void]:
    """Return the mined pairs, mapped from a file: there may be 16 times as many as sentences."""
    kind = np.dtype([("a", "<i4"), ("b", "<i4"), ("score", "<f4")])
    if neighbours:
        embeddings, rows = logits.locate(digests)
        with file.open("wb") as out:
            for found in mine(embeddings, rows, sentences, neighbours=neighbours, seed=seed):
                records = np.empty(len(found.scores), kind)
                records["a"], records["b"], records["score"] = found.a, found.b, found.scores
                out.write(records.data)  # tofile would not say why it could not
        if file.stat().st_size:
            return np.memmap(file, kind, "r")
    return np.empty(0, kind)


def _read(
    snapshot: Snapshot, split: str
) -> Iterator[tuple[list[str], list[str], NDArray[np.float32], NDArray[np.bytes_]]]:
    for batch in snapshot.read(("pair_id", "text_a", "text_b", "label"), split=split):
        names = np.array([identity.encode() for identity in batch["pair_id"].to_pylist()], "S32")
        labels = batch["label"].to_numpy(zero_copy_only=False).astype(np.float32)
        yield batch["text_a"].to_pylist(), batch["text_b"].to_pylist(), labels, names


def _distinct_digests(snapshot: Snapshot) -> NDArray[np.bytes_]:
    """Return the digest of every distinct sentence of both splits, sorted: 16 bytes a sentence is what it costs."""
    found, waiting = as_array([]), list[NDArray[np.bytes_]]()
    for split in SPLITS:
        for text_a, text_b, _, _ in _read(snapshot, split):
            waiting.append(as_array([sentence_digest(text) for text in {*text_a, *text_b}]))
            # Merged when as many wait as there are: each digest is then sorted a few times, however many there are.
            if sum(map(len, waiting)) > len(found):
                found, waiting = np.unique(np.concatenate([found, *waiting])), []
    return np.unique(np.concatenate([found, *waiting]))


def _rows(digests: NDArray[np.bytes_], texts: list[str]) -> NDArray[np.int64]:
    return np.searchsorted(digests, as_array([sentence_digest(text) for text in texts]))


def _write_pairs(
    snapshot: Snapshot, logits: LogitsStore, digests: NDArray[np.bytes_], folder: Path, split: str, *, extra: int
) -> None:
    pairs = Pairs.create(folder, snapshot.rows[split] + extra)
    start = 0
    for text_a, text_b, labels, names in _read(snapshot, split):
        rows = slice(start, start + len(text_a))
        pairs.a[rows], pairs.b[rows] = _rows(digests, text_a), _rows(digests, text_b)
        pairs.labels[rows], pairs.pair_ids[rows] = labels, names
        pairs.scores[rows] = logits.scores(text_a, text_b)
        start = rows.stop
    pairs.flush()


def _open_sentences(folder: Path, logits: LogitsStore) -> Sentences:
    ids = open_array(folder / "ids.npy")
    if logits.kind == "cross-encoder":
        return Sentences(ids, None, np.empty(0, np.int64))
    embeddings, rows = logits.locate(np.load(folder / "digests.npy", allow_pickle=False))
    return Sentences(ids, embeddings, rows)
