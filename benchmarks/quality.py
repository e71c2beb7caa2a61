"""How good students are on real pairs they never saw, and how fast: teacher, distilled, undistilled, every kind.

    python benchmarks/quality.py --data ../shared --work /tmp/quality            # both languages, three seeds
    python benchmarks/quality.py … --languages zh --seeds 1 --students default static
    python benchmarks/quality.py … --plot docs/frontier.svg --json figures.json

Chinese: labelled `lcqmc_dev` and unlabelled `afqmc` pairs, teacher zh-e5-small. English: labelled `qqp_dev` pairs,
teacher all-MiniLM-L6-v2 (which has seen QQP, so it is not zero-shot there). The project's own ingestion makes the
splits: no sentence is in two of them. Thresholds are chosen on validation. Intervals are 95 % percentile bootstraps
over groups of connected test pairs; differences are paired. Latency is of one pair on one thread, tokenising
included, all students in turn in one run at the end; `latency.py` sets students against the teacher's own exports.
"""

import argparse
import csv
import gzip
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from restill import artifacts, batches, distillation, evaluation, logits, snapshots, storage, teachers
from restill.measurements import accuracy
from restill.measurements.accuracy import Predictions
from restill.measurements.predictions import to_parquet
from restill.measurements.rows import Rows, read_rows
from restill.measurements.statistics import resampled_means
from restill.serving import PairModel
from restill.settings import DataSettings, DistillationSettings, Settings, StudentSettings, TeacherSettings
from restill.settings.data import BatchRuleSettings

RESAMPLES = 10_000
PLAIN = {"schedule": "labels"}  # what distillation has to beat: the same student, labels alone, random embeddings

# What is tried: student settings, distillation settings. `default` is what the project does when nothing is configured.
STUDENTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": ({}, {}),
    "plain": ({"embeddings": "random"}, PLAIN),
    "plain, teacher embeddings": ({}, PLAIN),
    "lstm": ({"kind": "siamese-lstm"}, {}),
    "static": ({"kind": "static"}, {}),
    "cnn": ({"kind": "cnn"}, {}),
    "dssm": ({"kind": "dssm", "layers": 2}, {}),
    "kd": ({}, {"soft_losses": {"kd": 1.0}}),
    "mse": ({}, {"soft_losses": {"mse": 1.0}, "temperature": 1.0}),
    "listwise": ({}, {"soft_losses": {"listwise": 1.0}}),
    "contrastive": ({}, {"hard_loss": "contrastive"}),
    "contrastive-published": ({}, {"hard_loss": "contrastive-published"}),
    "pseudo-label": ({}, {"schedule": "pseudo-label"}),
    "mined": ({}, {"mined_pairs": 4}),
    "random embeddings": ({"embeddings": "random"}, {}),
    "teacher-inputs": ({"embeddings": "teacher-inputs"}, {}),
    "char": ({"tokens": "char"}, {}),
    "pruned": ({"exports": ("litert_pruned_int8", "litert_pruned", "litert_int8", "litert")}, {}),
    "bert-3": ({"kind": "bert", "layers": 3}, {"schedule": "theseus"}),
    "bert-3 short": ({"kind": "bert", "layers": 3}, {"schedule": "theseus", "epochs": 2}),
}


@dataclass
class Language:
    """One language's data set and teacher."""

    name: str
    settings: Settings
    snapshot: Any
    scores: logits.LogitsStore
    rows: Rows


@dataclass
class Found:
    """What one student (or the teacher) gave, a value a seed."""

    accuracies: list[float] = field(default_factory=list)
    aucs: list[float] = field(default_factory=list)
    right: list[np.ndarray[Any, Any]] = field(default_factory=list)  # [pairs] bool
    predictions: list[Predictions] = field(default_factory=list)
    folder: Path | None = None
    file: str = ""
    seconds: list[float] = field(default_factory=list)
    megabytes: float = 0.0
    p50_ms: float = float("nan")
    p99_ms: float = float("nan")


def write_pairs(source: Path, target: Path, *, labelled: bool, splits: set[str] | None = None) -> None:
    """Write one real data set as a CSV the project takes in, without labels if they are not to be used."""
    with (
        gzip.open(source, "rt", encoding="utf-8", newline="") as rows,
        target.open("w", encoding="utf-8", newline="") as file,
    ):
        out = csv.writer(file)
        out.writerow(("text_a", "text_b", "label"))
        for row in csv.DictReader(rows):
            if splits is None or row["split"] in splits:
                out.writerow((row["text_a"], row["text_b"], row["label"] if labelled else ""))


def open_language(name: str, data: Path, work: Path) -> Language:
    """Ingest, split and score one language's pairs; what an earlier run did is used again."""
    root = work / name
    root.mkdir(parents=True, exist_ok=True)
    teacher = TeacherSettings()
    files = [("en/qqp_dev", True)]
    if name == "zh":
        teacher = TeacherSettings(path=data / "teachers" / "zh-e5-small", prompt="query: ")
        files = [("zh/lcqmc_dev", True), ("zh/afqmc", False)]
    rules = BatchRuleSettings(severity=dict.fromkeys(("new-words", "new-characters", "mean-length-ratio"), "off"))
    settings = Settings(root=root, teacher=teacher, data=DataSettings(batch_rules=rules))
    store = storage.connect(settings.storage, work / ".restill")
    for source, labelled in files:
        file = root / f"{Path(source).name}.csv"
        if not file.is_file():
            write_pairs(data / "data" / f"{source}.csv.gz", file, labelled=labelled)
            outcome = batches.ingest_file(file, settings, store)
            if outcome.outcome == "refused":
                raise SystemExit(f"{file} was refused: {outcome.reasons}")
    snapshot = snapshots.current(root)
    if snapshot is None:
        raise SystemExit(f"{root} holds no data set; delete it and start again.")
    scores = logits.open_store(settings, store)
    logits.score(
        lambda: teachers.load_teacher(teacher),
        scores,
        snapshot,
        shard_items=teacher.shard_sentences,
        progress=lambda done, total, what: print(f"{name}: {done:,} of {total:,} sentences scored, {what}", flush=True),
    )
    return Language(name, settings, snapshot, scores, read_rows(snapshot, "test"))


def train(language: Language, student: StudentSettings, learning: dict[str, Any], seed: int) -> artifacts.Artifact:
    """Train one student, or find it trained."""
    settings = language.settings.model_copy(
        update={
            "student": student,
            "distillation": DistillationSettings(**{**learning, "seed": seed}),
        }
    )
    return distillation.distill(language.snapshot, language.scores, settings)


def judge(language: Language, found: Found, predictions: Predictions) -> None:
    """Add one seed's predictions of the test pairs."""
    measured = accuracy.measure(predictions, language.rows)
    found.accuracies.append(measured.accuracy or float("nan"))
    found.aucs.append(measured.roc_auc or float("nan"))
    found.right.append(predictions.decisions == language.rows.labels)
    found.predictions.append(predictions)


def interval(values: np.ndarray[Any, Any], clusters: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    """Return a mean over pairs with its 95 % interval; whole clusters are resampled."""
    low, high = np.quantile(resampled_means(values, clusters, resamples=RESAMPLES), [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def ratio_interval(
    top: np.ndarray[Any, Any], bottom: np.ndarray[Any, Any], clusters: np.ndarray[Any, Any]
) -> tuple[float, float, float]:
    """Return mean(top)/mean(bottom) over the same pairs with its 95 % interval, by linearisation (delta method)."""
    ratio = top.mean() / bottom.mean()
    _, low, high = interval((top - ratio * bottom) / bottom.mean(), clusters)
    return float(ratio), float(ratio + low), float(ratio + high)


def time_students(students: dict[str, Found], pairs: list[tuple[str, str]], rounds: int = 5) -> None:
    """Time one pair at a time, the students in turn, over the real length distribution."""
    models = {
        name: PairModel(found.folder, file=found.file, threads=1)
        for name, found in students.items()
        if found.folder is not None
    }
    chosen = [pairs[row] for row in np.random.default_rng(0).permutation(len(pairs))[:500]]
    timings: dict[str, list[float]] = {name: [] for name in models}
    for number in range(rounds + 1):
        for start in range(0, len(chosen), 50):
            for name, model in models.items():
                for pair in chosen[start : start + 50]:
                    began = time.perf_counter()
                    model.similarity([pair])
                    if number:  # the first round warms up
                        timings[name].append(1000 * (time.perf_counter() - began))
    for name, values in timings.items():
        students[name].p50_ms, students[name].p99_ms = (float(np.quantile(values, q)) for q in (0.5, 0.99))


def run(language: Language, names: list[str], seeds: int, base: dict[str, Any]) -> dict[str, Found]:
    """Train every student with every seed and judge it on the test pairs; `base` is what they do not say themselves."""
    results: dict[str, Found] = {"teacher": Found()}
    for name in names:
        own, learning = STUDENTS[name]
        student = StudentSettings(**{**base, **own})
        for seed in range(seeds):
            artifact = train(language, student, learning, seed)
            if not results["teacher"].right:
                calibration = artifacts.teacher_calibration(artifact.folder)
                predictions = evaluation.teacher_predictions(language.rows, language.scores, calibration)
                judge(language, results["teacher"], predictions)
            for export in artifact.calibrations:
                label = name if export == student.exports[0] else f"{name}, {export}"
                found = results.setdefault(label, Found())
                file = next(path for path, role in artifact.files.items() if role == export)
                judge(language, found, evaluation.score_rows(PairModel(artifact.folder, file=file), language.rows))
                found.folder, found.file = artifact.folder, file
                found.megabytes = (artifact.folder / file).stat().st_size / 1e6
                found.seconds.append(sum(epoch["seconds"] for epoch in artifact.report["epochs"]))
                print(
                    f"{language.name} {label:28} seed {seed}: accuracy {found.accuracies[-1]:.4f}, "
                    f"ROC-AUC {found.aucs[-1]:.4f}, {found.seconds[-1]:,.0f} s",
                    flush=True,
                )
    time_students(results, language.rows.pairs)
    return results


def table(language: Language, results: dict[str, Found]) -> list[dict[str, Any]]:
    """Return and print a row for everything that was measured."""
    clusters = language.rows.clusters
    teacher = results["teacher"].right[0].astype(float)
    plain = results.get("plain")
    print(
        f"\n{language.name}: {len(language.rows.labels):,} test pairs in {len(set(clusters)):,} groups, "
        f"data version {language.snapshot.short}"
    )
    print(
        f"{'':26}{'accuracy':>9}{'seeds':>16}{'ROC-AUC':>9}{'÷ teacher [95 %]':>25}{'- plain, points':>24}"
        f"{'p50 ms':>8}{'p99':>7}{'MB':>7}{'train s':>9}"
    )
    rows = []
    for name, found in results.items():
        right = np.mean([values.astype(float) for values in found.right], axis=0)
        share, low, high = ratio_interval(right, teacher, clusters)
        gain = None
        if plain is not None and name not in ("plain", "teacher"):
            gain = interval(right - np.mean([values.astype(float) for values in plain.right], axis=0), clusters)
        spread = f"{min(found.accuracies):.3f}–{max(found.accuracies):.3f}" if len(found.accuracies) > 1 else ""
        print(
            f"{name:26}{np.mean(found.accuracies):>9.4f}{spread:>16}{np.mean(found.aucs):>9.4f}"
            f"{f'{share:.3f} [{low:.3f}, {high:.3f}]':>25}"
            f"{'' if gain is None else f'{100 * gain[0]:+.1f} [{100 * gain[1]:+.1f}, {100 * gain[2]:+.1f}]':>24}"
            f"{found.p50_ms:>8.3f}{found.p99_ms:>7.2f}{found.megabytes:>7.1f}{np.mean(found.seconds or [0]):>9.0f}"
        )
        rows.append(
            {
                "language": language.name,
                "student": name,
                "accuracy": float(np.mean(found.accuracies)),
                "accuracies": found.accuracies,
                "roc_auc": float(np.mean(found.aucs)),
                "of_teacher": [share, low, high],
                "minus_plain": gain,
                "p50_ms": found.p50_ms,
                "p99_ms": found.p99_ms,
                "megabytes": found.megabytes,
                "folder": str(found.folder),
                "file": found.file,
            }
        )
    return rows


def write_predictions(language: Language, results: dict[str, Found], folder: Path) -> None:
    """Write, for each student with two seeds, what they answered, one as challenger and one as champion."""
    folder.mkdir(parents=True, exist_ok=True)
    (teacher,) = results["teacher"].predictions
    for name, found in results.items():
        if len(found.predictions) > 1:
            answers = {"challenger": found.predictions[0], "champion": found.predictions[1], "teacher": teacher}
            path = folder / f"{language.name}-{name.replace(', ', '-').replace(' ', '-')}.parquet"
            path.write_bytes(to_parquet(language.rows, answers))


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the accuracy–latency frontier."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    languages = sorted({row["language"] for row in rows})
    figure = Figure(figsize=(5.5 * len(languages), 4), layout="constrained")
    for axis, language in zip(np.atleast_1d(figure.subplots(1, len(languages))), languages, strict=True):
        for row in rows:
            if row["language"] == language and row["folder"] != "None":
                axis.plot(row["p50_ms"], 100 * row["accuracy"], "o", color="#1f6feb")
                axis.annotate(
                    row["student"],
                    (row["p50_ms"], 100 * row["accuracy"]),
                    xytext=(4, 4),
                    textcoords="offset points",
                    fontsize=7,
                )
        teacher = next(row for row in rows if row["language"] == language and row["student"] == "teacher")
        axis.axhline(100 * teacher["accuracy"], linestyle="--", color="#bf8700", label="teacher")
        axis.axhline(98 * teacher["accuracy"], linestyle=":", color="#bf8700", label="98 % of the teacher's")
        axis.set(title=language, xlabel="p50 of one pair, ms", ylabel="accuracy on unseen pairs, %", xscale="log")
        axis.set_xticks([0.05, 0.1, 0.2, 0.5, 1, 2, 5], minor=False)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        times = [row["p50_ms"] for row in rows if row["language"] == language and row["folder"] != "None"]
        axis.set_xlim(min(times) / 1.3, max(times) * 1.6)
        axis.legend(fontsize=7)
        axis.grid(alpha=0.3)
    figure.savefig(path)


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with data/ and teachers/")
    parser.add_argument("--work", type=Path, required=True, help="folder for data sets, scores and students; kept")
    parser.add_argument("--languages", nargs="+", default=["zh", "en"], choices=["zh", "en"])
    parser.add_argument("--students", nargs="+", default=["default", "plain"], choices=[*STUDENTS, "all"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kind", help="student kind of those that name none; default: the project's default")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--predictions", type=Path, help="folder for two seeds' answers, which gates.py studies")
    arguments = parser.parse_args()
    names = [*STUDENTS] if "all" in arguments.students else arguments.students
    rows = []
    for name in arguments.languages:
        language = open_language(name, arguments.data, arguments.work)
        found = run(language, names, arguments.seeds, {"kind": arguments.kind} if arguments.kind else {})
        rows += table(language, found)
        if arguments.predictions:
            write_predictions(language, found, arguments.predictions)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1), "utf-8")
    if arguments.plot:
        plot(rows, arguments.plot)


if __name__ == "__main__":
    main()
