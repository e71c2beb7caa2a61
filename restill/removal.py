"""Pairs removed on request, for example of the person who wrote them: a new version without them, for good.

Batches that held them are replaced by the rest of them, and `forgotten` keeps the pairs from coming back. Old
versions are immutable and still hold them: `Removal.old_versions` names the ones to be deleted when the law says so.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from restill import forgotten, history, partitions, snapshots
from restill import keys as hashing
from restill.errors import ConfigurationError, DataMissing, PointerMoved, RestillError
from restill.figures import PairFigures
from restill.forgotten import Forgotten
from restill.keys import Keys
from restill.logits import cleaning
from restill.manifests import Manifest
from restill.measurements.latency import orders
from restill.pairs import PAIR_SCHEMA, SPLITS
from restill.registry import Registry
from restill.settings import Settings
from restill.snapshots import Snapshot
from restill.staging import digest_of_content
from restill.storage.objects import ObjectStore

EMPTY = ".empty"


@dataclass(frozen=True)
class Removal:
    """What a request removed, and what still rests on it."""

    pairs: dict[str, int]  # removed, by split
    batches: tuple[str, ...]  # that held them
    version: str | None  # the new data version; None: the present one did not hold them, or this was a dry run
    models: tuple[Manifest, ...]  # versions of the model made from data versions that hold them, newest first
    champion: str | None  # the model version that is live, if it is one of them
    old_versions: tuple[str, ...]  # data versions that still hold them
    unread: tuple[str, ...]  # data versions that could not be had, so nobody knows whether they hold them
    in_training: bool  # some were in the training or the validation split

    @property
    def total(self) -> int:
        """Return the number of pairs removed."""
        return sum(self.pairs.values())


def forget(
    settings: Settings,
    store: ObjectStore,
    *,
    pair_ids: Sequence[str] = (),
    texts: Sequence[str] = (),
    sources: Sequence[str] = (),
    reason: str,
    dry_run: bool = False,
) -> Removal:
    """Make a data version without these pairs, and keep them from coming back.

    Args:
        settings: the project.
        store: where data set and registry are.
        pair_ids: ids of pairs, 32 hex digits.
        texts: sentences: every pair with one of them goes, in any spelling that differs only in case and spaces.
        sources: every pair of these sources goes.
        reason: why; kept with the version. Do not name the person in it.
        dry_run: only say what would be removed.
    Raises: ConfigurationError if nothing is named, or an id is none; DataMissing if there is no data set;
        StorageUnreachable, IntegrityError.
    """
    if wrong := [name for name in pair_ids if len(name) != 32 or set(name) - set("0123456789abcdef")]:
        raise ConfigurationError(f"{wrong[0]!r} is no pair id: those have 32 hex digits.")
    if not (pair_ids or texts or sources) or any(not value.strip() for value in (*texts, *sources)):
        raise ConfigurationError(
            "Name what is to be forgotten: pair ids, texts or sources.", hint="See restill data forget --help."
        )
    asked = Forgotten.named(pair_ids=pair_ids, texts=texts, sources=sources)
    with snapshots.locked(settings.root):
        for _ in range(settings.data.git.attempts):
            base = snapshots.named_version(settings.root)
            try:
                return _forget(settings, store, asked, reason, dry_run)
            except PointerMoved as moved:
                snapshots.go_on_top(settings.root, store, moved, settings.data.git, base=base)
    raise RestillError(
        f"Others changed {snapshots.POINTER} {settings.data.git.attempts} times meanwhile; nothing was removed.",
        hint="Run again, or raise data.git.attempts.",
    )


def _forget(settings: Settings, store: ObjectStore, asked: Forgotten, reason: str, dry_run: bool) -> Removal:
    with snapshots.changing(settings.root, store) as snapshot:
        if snapshot is None:
            raise DataMissing("There is no data set yet, so there is nothing to forget.")
        holding, unread = _holding(settings, store, asked)
        work = settings.state_dir / "work"
        shutil.rmtree(work, ignore_errors=True)
        made = None
        try:
            replaced = [
                found for found in (_rest_of(snapshot, batch, asked, work) for batch in snapshot.batches) if found
            ]
            if not dry_run:
                forgotten.add(store, asked, reason)  # first: from here on nothing of it can come in
                cleaning.forget_texts(store)  # a scoring run that was planned before would need them: it stops
                orders.forget(store)  # and so does a latency run that another machine was asked for
                _forget_inputs(settings)
                count = sum(sum(rest.removed.values()) for rest in replaced)
                forgot = f"forgot {count:,} pair{'' if count == 1 else 's'}"
                if replaced:
                    for rest in replaced:
                        shutil.rmtree(settings.root / snapshots.PAIRS / f"batch={rest.old}")
                        if rest.new is not None:
                            shutil.move(work / rest.new, settings.root / snapshots.PAIRS / f"batch={rest.new}")
                    if all(rest.new is None for rest in replaced) and len(replaced) == len(snapshot.batches):
                        (settings.root / snapshots.PAIRS / EMPTY).touch()  # DVC keeps no folder without a file
                    made = snapshots.publish(settings.root, store, reason=f"{forgot}: {reason}")
                    history.forget_file(settings.state_dir / "cache" / "history")
                # Also when there was nothing left to remove: the run that did it may have died before.
                snapshots.share(settings.root, store, f"Data: {forgot}", settings.data.git)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return _described(settings, store, replaced, holding, unread, made.version if made else None)


def _holding(settings: Settings, store: ObjectStore, asked: Forgotten) -> tuple[dict[str, bool], list[str]]:
    """Return the recorded versions that hold what is asked for, and whether in training or validation; and the unread.

    Every batch of every version is looked through once: a pair may be in an old version alone.
    """
    unread: list[str] = []
    seen: dict[tuple[str, str | None], frozenset[str]] = {}
    holding: dict[str, bool] = {}
    for record in reversed(snapshots.versions(store)):  # the newest has most of the batches
        batches = [(batch.batch, batch.parquet_sha256) for batch in record.batches]
        if any(batch not in seen for batch in batches):
            try:
                snapshot = snapshots.open_version(settings.root, store, record.version)
            except DataMissing:  # its objects were deleted, as a request may demand
                unread.append(record.version)
                continue
            for batch in batches:
                if batch not in seen:
                    seen[batch] = _splits_with(snapshot, batch[0], asked)
        found = frozenset[str]().union(*(seen[batch] for batch in batches))
        if found:
            holding[record.version] = bool(found - {"test"})
    return holding, unread


def _splits_with(snapshot: Snapshot, batch: str, asked: Forgotten) -> frozenset[str]:
    found: set[str] = set()
    for rows in snapshot.read(("pair_id", "text_a", "text_b", "source", "split"), batch=batch):
        frame = pl.DataFrame(pl.from_arrow(rows))
        found.update(frame.filter(pl.Series(_matches(frame, asked)))["split"].unique())
    return frozenset(found)


@dataclass(frozen=True)
class _Rest:
    """A batch without the pairs that are forgotten."""

    old: str
    new: str | None  # None: nothing is left
    removed: dict[str, int]  # by split


def _rest_of(snapshot: Snapshot, batch: str, asked: Forgotten, work: Path) -> _Rest | None:
    """Write what is left of a batch into `work`; None if it has nothing that is forgotten."""
    removed = dict.fromkeys(SPLITS, 0)
    parts: dict[str, list[NDArray[np.generic]]] = {}
    folder = work / f"rest-of-{batch}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    figures = PairFigures()
    with partitions.stored_rows(folder / snapshots.PARQUET_FILE) as stored:
        for rows in snapshot.read(PAIR_SCHEMA.names, batch=batch):
            frame = pl.DataFrame(pl.from_arrow(rows))
            gone = pl.Series(_matches(frame, asked))
            for split, count in frame.filter(gone)["split"].value_counts().iter_rows():
                removed[split] += count
            kept = frame.filter(~gone)
            figures += history.pair_figures(kept)
            stored.write(kept.to_arrow().cast(PAIR_SCHEMA))
            for name, values in _content(kept).items():
                parts.setdefault(name, []).append(values)
    if not any(removed.values()):
        shutil.rmtree(folder)
        return None
    if not figures.rows:
        shutil.rmtree(folder)
        return _Rest(batch, None, removed)
    arrays = {name: np.concatenate(found) for name, found in parts.items()}
    splits = arrays["splits"].astype(np.int8)
    new = digest_of_content(**arrays)[:16]
    counts = np.bincount(splits, minlength=len(SPLITS))
    partitions.write_facts(
        folder,
        new,
        figures,
        {name: int(count) for name, count in zip(SPLITS, counts, strict=True)},
        partitions.digest_of_test(arrays["pair"].astype(np.uint64), arrays["labels"].astype(np.float32), splits),
        replaces=sorted({batch, *snapshot.replaces(batch)}),
    )
    folder.rename(work / new)
    return _Rest(batch, new, removed)


def _matches(frame: pl.DataFrame, asked: Forgotten) -> NDArray[np.bool_]:
    return asked.matches(
        hashing.from_hexadecimal(frame["pair_id"]),
        hashing.sentence_keys(frame["text_a"]),
        hashing.sentence_keys(frame["text_b"]),
        frame["source"],
    )


def _content(frame: pl.DataFrame) -> dict[str, NDArray[np.generic]]:
    made = frame["created_at"].cast(pl.Int64).cast(pl.String)
    pair: Keys = hashing.from_hexadecimal(frame["pair_id"])
    return {
        "pair": pair,
        "swapped": (frame["text_a"] > frame["text_b"]).to_numpy(),
        "labels": frame["label"].fill_null(float("nan")).to_numpy(),
        "rest": hashing.text_keys(frame["source"], frame["language"], made),
        "splits": frame["split"].replace_strict(SPLITS, range(len(SPLITS)), return_dtype=pl.Int8).to_numpy(),
    }


def _described(
    settings: Settings,
    store: ObjectStore,
    replaced: Sequence[_Rest],
    holding: dict[str, bool],
    unread: Sequence[str],
    version: str | None,
) -> Removal:
    registry = Registry(store, settings.registry.model)
    models = sorted(
        (manifest for manifest in registry.versions() if manifest.lineage.data_version in holding),
        key=lambda manifest: manifest.created_at,
        reverse=True,
    )
    live = registry.champion(settings.registry.alias)
    return Removal(
        pairs={split: sum(rest.removed[split] for rest in replaced) for split in SPLITS},
        batches=tuple(sorted(rest.old for rest in replaced)),
        version=version,
        models=tuple(models),
        champion=live.version if live and live.version in {manifest.version for manifest in models} else None,
        old_versions=tuple(holding),
        unread=tuple(unread),
        in_training=any(holding.values()),
    )


def _forget_inputs(settings: Settings) -> None:
    """Delete what unfinished trainings and searches read: sentences as ids, beside the tokenizer that spells them."""
    for folder in (*settings.state_dir.glob("training/*/inputs"), *settings.state_dir.glob("tuning/*/inputs-*")):
        shutil.rmtree(folder, ignore_errors=True)
