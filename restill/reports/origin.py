"""The sections on where a version comes from: its training, its data, its lineage and its files."""

import math
from collections.abc import Sequence
from typing import Any

from restill.manifests import Manifest
from restill.reports import pictures
from restill.reports.blocks import Block, Picture, Table, Words, cut
from restill.reports.judged import Judged

_MOST_BATCHES = 50  # named in full


def training(judged: Judged) -> list[Block]:
    """Return the training curves, and the same as a table."""
    epochs: list[dict[str, Any]] = judged.training.get("epochs") or []
    if not epochs:
        return [Words("The training report holds no epochs.")]
    chosen = judged.training.get("best_epoch")
    picture = Picture(
        pictures.training(
            [int(epoch["number"]) for epoch in epochs],
            {
                "training": [_plotted(epoch, "train_loss") for epoch in epochs],
                "validation": [_plotted(epoch, "validation_loss") for epoch in epochs],
            },
            [_plotted(epoch, "validation_score") for epoch in epochs],
            chosen,
        ),
        "Losses and validation score",
        f"Losses and validation score of {len(epochs)} epochs; epoch {chosen} was chosen. The table below has the "
        "numbers.",
    )
    rows = [
        (
            f"{epoch['number']}{' (chosen)' if epoch['number'] == chosen else ''}",
            str(epoch.get("phase", "–")),
            *(_value(epoch.get(name), 4) for name in ("train_loss", "validation_loss", "validation_score")),
            _value(epoch.get("seconds"), 0),
        )
        for epoch in epochs
    ]
    columns = ("epoch", "phase", "training loss", "validation loss", "validation score", "seconds")
    return [picture, Table("Epochs", columns, rows, numbers=frozenset({2, 3, 4, 5}))]


def _plotted(epoch: dict[str, Any], name: str) -> float:
    value = epoch.get(name)
    return math.nan if value is None else float(value)


def _value(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def data(judged: Judged) -> list[Block]:
    """Return which data the challenger was made from and judged on, and what the champion did not have of it."""
    lineage = judged.manifest.lineage
    counts = [
        f"{judged.training[name]:,} {meaning}"
        for name, meaning in (
            ("train_pairs", "training pairs"),
            ("mined_pairs", "made from their sentences"),
            ("validation_pairs", "validation pairs"),
        )
        if judged.training.get(name)
    ]
    made = f"Data version {lineage.data_version}: {len(lineage.batches):,} batches"
    blocks: list[Block] = [Words(f"{made}, {', '.join(counts)}." if counts else f"{made}."), *_news(judged)]
    split = judged.measurements.test_split
    if split is None:
        blocks.append(Words("Which test split decided, and how often it did before, was not recorded."))
    else:
        blocks.append(
            Words(
                f"Test split {split.version} had decided on {split.decisions:,} other challengers before this one; "
                "the more often, the less a narrow pass says."
            )
        )
    return blocks


def _news(judged: Judged) -> list[Block]:
    lineage, champion = judged.manifest.lineage, judged.champion
    if champion is None:
        known = judged.measurements.champion is None
        return [
            Words("All of it is new: there is no champion." if known else "The champion's batches are not at hand.")
        ]
    new = [batch for batch in lineage.batches if batch not in champion.lineage.batches]
    gone = [batch for batch in champion.lineage.batches if batch not in lineage.batches]
    blocks: list[Block] = [
        Words(f"New since the champion ({champion.lineage.data_version}): {_named(new)}."),
    ]
    if gone:
        blocks.append(Words(f"In the champion's data and no longer in this: {_named(gone)}."))
    return blocks


def _named(batches: Sequence[str]) -> str:
    if not batches:
        return "no batches"
    more = f" and {len(batches) - _MOST_BATCHES:,} more" if len(batches) > _MOST_BATCHES else ""
    named = ", ".join(cut(batch) for batch in batches[:_MOST_BATCHES])
    return f"{len(batches):,} {'batch' if len(batches) == 1 else 'batches'}: {named}{more}"


def lineage(judged: Judged) -> list[Block]:
    """Return everything the manifest says of how this version came to be, and its files."""
    manifest = judged.manifest
    facts = [(name, _fact(value)) for name, value in manifest.lineage.model_dump(mode="json").items()]
    measured = judged.measurements
    facts += [
        (name, value)
        for name, value in (
            ("verdict_sha256", judged.verdict.sha256),
            ("predictions_sha256", measured.predictions_sha256),
            ("timings_sha256", measured.timings_sha256),
        )
        if value is not None
    ]
    files = [(cut(file.path), cut(file.role), f"{file.bytes:,}", file.sha256) for file in manifest.files]
    return [
        Table("Lineage", ("field", "value"), facts),
        Table("Files", ("path", "role", "bytes", "SHA-256"), files, numbers=frozenset({2})),
    ]


def _fact(value: Any) -> str:
    if value is None:
        return "not known"
    if isinstance(value, dict):
        return "in the manifest: restill registry show --json"
    return _named(value) if isinstance(value, list) else cut(str(value))


def model(manifest: Manifest, report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what kind of thing the version is, as rows of a table."""
    student = [
        f"{report[name]:,} {meaning}"
        for name, meaning in (("parameters", "parameters"), ("vocabulary", "pieces in its vocabulary"))
        if report.get(name)
    ]
    return [
        (
            "served artifact",
            f"{manifest.artifact_role}: {manifest.served_path}, "
            f"{manifest.served_bytes / 1e6:.2f} MB with tokenizer and calibration",
        ),
        *([("student", ", ".join(student))] if student else []),
        ("says “same” from", f"a probability of {manifest.calibration.threshold:.3f}, chosen on validation"),
        ("teacher", manifest.lineage.teacher_fingerprint),
    ]
