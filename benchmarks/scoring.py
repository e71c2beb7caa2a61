"""Teacher scoring: what it costs beside the encoder, what a retrain with 1 % new data costs, and another library.

    python benchmarks/scoring.py [--sentences N] [--shard N] [--csv FILE] [--against PYTHON]

Everything is a ratio measured in one run, on one thread, in turn. `--against` names the Python of an environment that
has sentence-transformers; it encodes the same sentences with the same files and as many threads.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = "1"

import argparse
import csv
import gzip
import io
import itertools
import json
import random
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from restill import logits, sample, teachers
from restill.logits import LogitsStore, planning, worker
from restill.settings import TeacherSettings
from restill.snapshots import Snapshot
from restill.storage.embedded import EmbeddedServer
from restill.storage.objects import ObjectStore
from restill.teachers import Teacher

QQP = Path(__file__).parents[2] / "shared" / "data" / "en" / "qqp_dev.csv.gz"

OTHER = """
import json, sys, time
import torch
from sentence_transformers import SentenceTransformer

job = json.load(sys.stdin)
torch.set_num_threads(1)
model = SentenceTransformer(job["directory"], device="cpu")
model.max_seq_length = job["max_tokens"]
model.encode(job["sentences"][:256])
started = time.perf_counter()
vectors = model.encode(job["sentences"], batch_size=job["batch"], show_progress_bar=False)
print(json.dumps({"seconds": time.perf_counter() - started, "first": vectors[0].tolist()}))
"""


def main() -> None:
    """Print one line a question."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sentences", type=int, default=4096)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--shard", type=int, default=TeacherSettings().shard_sentences, help="sentences a shard")
    options.add_argument("--csv", type=Path, help="gzipped, with columns text_a and text_b; default: sample pairs")
    options.add_argument("--against", type=Path, help="a Python that has sentence-transformers")
    asked = options.parse_args()
    pairs = read_pairs(asked.csv or (QQP if QQP.is_file() else None), asked.sentences)
    sentences = list(dict.fromkeys(itertools.chain.from_iterable(pairs)))
    settings = TeacherSettings()
    teacher = teachers.load_teacher(settings)
    print(f"{len(sentences):,} distinct sentences, one thread, {teacher.name}, {settings.precision}")
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedServer(Path(folder) / "server")
        try:
            store = ObjectStore(server.start())
            overhead(teacher, store, Path(folder), pairs, rounds=asked.rounds, shard=asked.shard)
            one_per_cent(teacher, store, Path(folder), pairs, shard=asked.shard)
        finally:
            server.stop()
    if asked.against is not None:
        against(asked.against, teacher, settings, sentences, rounds=asked.rounds)


def overhead(
    teacher: Teacher, store: ObjectStore, folder: Path, pairs: list[tuple[str, str]], *, rounds: int, shard: int
) -> None:
    """Compare a worker's throughput with that of the bare encoder on the very batches that it computes."""
    recorded: list[tuple[np.ndarray, ...]] = []
    encoder = teacher.encoder
    computing = 0.0

    def timed(*batch: np.ndarray) -> np.ndarray:
        nonlocal computing
        started = time.perf_counter()
        found = encoder(*batch)
        computing += time.perf_counter() - started
        return found

    def recording(*batch: np.ndarray) -> np.ndarray:
        recorded.append(batch)
        return encoder(*batch)

    ratios, shares = [], []
    for number in range(rounds):
        scores = LogitsStore(store, teacher.fingerprint, folder / f"cache-{number}")
        plan = planning.make_plan(snapshot_of(folder / f"data-{number}", pairs), scores, shard_items=shard)
        assert plan is not None  # noqa: S101
        if not recorded:
            teacher.encoder = recording  # type: ignore[assignment]
            work(plan.key, teacher, store)
            teacher.encoder = timed  # type: ignore[assignment]
            empty(store, teacher.fingerprint, shards_only=True)
        timings = {}
        for name in ("bare", "work") if number % 2 else ("work", "bare"):
            computing = 0.0
            started = time.perf_counter()
            if name == "work":
                work(plan.key, teacher, store)
            else:
                for batch in recorded:
                    encoder(*batch)
            timings[name] = time.perf_counter() - started
            if name == "work":
                shares.append(computing / timings[name])
        ratios.append(timings["bare"] / timings["work"])
        print(
            f"  round {number + 1}: worker {plan.total / timings['work']:,.0f} sentences/s, bare encoder "
            f"{plan.total / timings['bare']:,.0f}, ratio {ratios[-1]:.3f}; the worker's encoder computed "
            f"{shares[-1]:.1%} of the time",
            flush=True,
        )
        empty(store, teacher.fingerprint)
    teacher.encoder = encoder
    print(
        f"scoring runs at {statistics.median(ratios):.1%} of the bare encoder's throughput (median of {rounds}); "
        f"its encoder computes {statistics.median(shares):.1%} of the time"
    )


def one_per_cent(
    teacher: Teacher, store: ObjectStore, folder: Path, pairs: list[tuple[str, str]], *, shard: int
) -> None:
    """Compare scoring all of a data set with scoring it again after it grew by one per cent."""
    new = len(pairs) // 101
    scores = LogitsStore(store, teacher.fingerprint, folder / "cache-growing")
    timings, scored = [], []
    for number, part in enumerate((pairs[new:], pairs)):
        snapshot = snapshot_of(folder / f"growing-{number}", part)
        started = time.perf_counter()
        report = logits.score(lambda: teacher, scores, snapshot, shard_items=shard, progress=lambda *_: None)
        timings.append(time.perf_counter() - started)
        scored.append(report.scored)
    print(
        f"1 % new pairs: {scored[1]:,} of {scored[0]:,} sentences ({scored[1] / scored[0]:.2%}) in {timings[1]:.2f} s "
        f"of {timings[0]:.1f} s ({timings[1] / timings[0]:.2%} of the full scoring, planning and tidying up included)"
    )


def against(python: Path, teacher: Teacher, settings: TeacherSettings, sentences: list[str], *, rounds: int) -> None:
    """Compare with `SentenceTransformer.encode`, each round right after one of ours."""
    job = {
        "directory": str(teachers.open_teacher(settings).directory),
        "max_tokens": settings.max_tokens,
        "sentences": sentences,
        "batch": 32,
    }
    ratios = []
    for _ in range(rounds):
        started = time.perf_counter()
        ours = teacher.encode(sentences)
        mine = time.perf_counter() - started
        done = subprocess.run([python, "-c", OTHER], input=json.dumps(job), capture_output=True, text=True, check=True)
        theirs = json.loads(done.stdout.splitlines()[-1])
        difference = float(np.abs(ours[0] - np.array(theirs["first"], np.float32)).max())
        ratios.append(theirs["seconds"] / mine)
        print(
            f"  ours {len(sentences) / mine:,.0f} sentences/s, sentence-transformers "
            f"{len(sentences) / theirs['seconds']:,.0f}, ratio {ratios[-1]:.2f} "
            f"(first vector differs by {difference:.1e})"
        )
    print(f"{statistics.median(ratios):.2f} times as fast as sentence-transformers (median of {rounds})")


def work(plan: str, teacher: Teacher, store: ObjectStore) -> None:
    """Do all of a plan."""
    worker.work(plan, share=0, shares=1, store=store, load_teacher=lambda: teacher, progress=lambda *_: None)


def empty(store: ObjectStore, fingerprint: str, *, shards_only: bool = False) -> None:
    """Remove the stored scores, and the plans."""
    for found in store.list(f"logits/{fingerprint}/{'shards/' if shards_only else ''}"):
        store.delete(found.key)


def snapshot_of(folder: Path, pairs: list[tuple[str, str]]) -> Snapshot:
    """Return a data version of these pairs."""
    file = folder / "batch=0" / "part-0.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(pa.table({"text_a": [a for a, _ in pairs], "text_b": [b for _, b in pairs]}), file)
    return Snapshot("0" * 32, folder, ("0",), {"train": len(pairs)})


def read_pairs(path: Path | None, sentences: int) -> list[tuple[str, str]]:
    """Return pairs of about so many distinct sentences, in a random order."""
    if path is None:
        path = sample.write_drop("1", Path(tempfile.mkdtemp()))
    with io.TextIOWrapper(gzip.open(path) if path.suffix == ".gz" else path.open("rb"), "utf-8", newline="") as file:
        rows = [(row["text_a"], row["text_b"]) for row in csv.DictReader(file)]
    random.Random(0).shuffle(rows)
    chosen, seen = [], set[str]()
    for pair in rows:
        if len(seen) >= sentences:
            break
        chosen.append(pair)
        seen.update(pair)
    return chosen


if __name__ == "__main__":
    main()
