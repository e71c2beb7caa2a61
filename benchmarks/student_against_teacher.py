"""Champion against teacher on the frozen test split: accuracy, and time a pair, measured in turn in one run.

    python benchmarks/student_against_teacher.py

Needs a champion: `make retrain` first. One thread each for the timings, single pairs, tokenising included.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"

import json
import statistics
import time

import numpy as np

from restill import snapshots, storage, teachers
from restill.measurements.rows import read_rows
from restill.registry import Registry
from restill.serving import Champion
from restill.settings import load_settings

PAIRS = 300
ROUNDS = 3


def main() -> None:
    """Print one table."""
    settings = load_settings()
    store = storage.connect(settings.storage, settings.state_dir)
    champion = Champion.from_store(
        store,
        model=settings.registry.model,
        alias=settings.registry.alias,
        cache_dir=settings.state_dir / "cache" / "versions",
    )
    teacher = teachers.load_teacher(settings.teacher)
    snapshot = snapshots.pull(settings.root, store)
    rows = read_rows(snapshot, "test")
    chosen = [rows.pairs[row] for row in np.random.default_rng(0).permutation(len(rows.pairs))[:PAIRS]]
    arms = {
        "student": lambda pair: champion.predict([pair]),
        "teacher": lambda pair: teacher.encode(list(pair)),
    }
    for ask in arms.values():
        for pair in chosen[:50]:
            ask(pair)
    timings: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(ROUNDS):
        for pair in chosen:
            for name, ask in arms.items():
                started = time.perf_counter()
                ask(pair)
                timings[name].append(1000 * (time.perf_counter() - started))
    registry = Registry(store, settings.registry.model)
    manifest = registry.manifest(champion.version)
    weights = teachers.open_teacher(settings.teacher).weights_path.stat().st_size
    (verdict, *_) = registry.verdicts(champion.version)
    quality = json.loads(verdict)["measurements"]["accuracy"]
    print(f"champion {manifest.short}, data version {snapshot.short}, {len(rows.labels):,} test pairs")
    print(f"{'':10}{'accuracy':>10}{'ROC-AUC':>10}{'p50 ms':>10}{'p99 ms':>10}{'MB':>8}")
    for name, quality_name, size in (
        ("student", "challenger", manifest.served_bytes),
        ("teacher", "teacher", weights),
    ):
        found = quality[quality_name]
        p50, p99 = statistics.median(timings[name]), float(np.quantile(timings[name], 0.99))
        print(f"{name:10}{found['accuracy']:>10.3f}{found['roc_auc']:>10.3f}{p50:>10.2f}{p99:>10.2f}{size / 1e6:>8.1f}")
    ratio = statistics.median(timings["teacher"]) / statistics.median(timings["student"])
    space = weights / manifest.served_bytes
    print(f"the teacher takes {ratio:.1f} times as long a pair (median), and {space:.0f} times the space")


if __name__ == "__main__":
    main()
