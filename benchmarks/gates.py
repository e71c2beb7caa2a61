"""How often the gates are wrong: accuracy A/A and power on real predictions, latency A/A, also on a loaded machine.

    python benchmarks/gates.py accuracy --predictions FILE.parquet …   # as kept beside a judged version
    python benchmarks/gates.py latency --student DIR:FILE --slower DIR:FILE [--slower-than …] --pairs pairs.csv.gz

`accuracy` draws test sets from the pairs that two real models answered and lets the gate decide, 1,000 times each: on
challengers of equal quality, on ones that lose exactly the margin, and on ones that lose two points. `latency` times
an artifact against itself, 100 fresh runs, alone and with a neighbour that occupies one core; and a slower artifact
against it. Every rate has its exact 95 % interval (Clopper and Pearson).
"""

import argparse
import csv
import gzip
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scipy.stats import binomtest

from restill import power
from restill.gates import Answer, speed
from restill.measurements import Measurements, predictions
from restill.measurements.latency import measuring
from restill.measurements.latency.records import Artifact
from restill.settings import GateSettings, LatencySettings

PAIRS = (2_000, 10_000)
LATENCY_GATES = {"p50_ratio": speed.ratio("p50"), "p99_ratio": speed.ratio("p99")}


def main() -> None:
    """Run one of the two studies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    studies = parser.add_subparsers(dest="study", required=True)
    one = studies.add_parser("accuracy")
    one.add_argument("--predictions", type=Path, nargs="+", required=True, help="Parquet, with a champion in it")
    one.add_argument("--decisions", type=int, default=1000)
    other = studies.add_parser("latency")
    other.add_argument("--student", required=True, help="FOLDER:FILE")
    other.add_argument("--slower", required=True, help="FOLDER:FILE of one about 1.5 times as slow")
    other.add_argument("--slower-than", help="FOLDER:FILE that it is held to; default: the student")
    other.add_argument("--pairs", type=Path, required=True, help="CSV, text_a and text_b")
    other.add_argument("--runs", type=int, default=100)
    other.add_argument("--neighbours", type=int, nargs="+", default=[0, 1], help="cores that others occupy, in turn")
    other.add_argument("--requests", type=int, default=LatencySettings().requests)
    other.add_argument("--attempts", type=int, default=1, help="as gates.attempts; 1: each measurement counts")
    asked = parser.parse_args()
    if asked.study == "accuracy":
        for path in asked.predictions:
            study_accuracy(path, asked.decisions)
    else:
        study_latency(asked)


def study_accuracy(path: Path, decisions: int) -> None:
    """Print what the non-inferiority gate answers to challengers whose true quality is known."""
    limits = GateSettings()
    rows, answers = predictions.from_parquet(path.read_bytes(), str(path))
    first, second = (answers[name].decisions == rows.labels for name in ("challenger", "champion"))
    population = power.Population(first, second, rows.clusters)
    print(
        f"\n{path.name}: {len(first):,} real pairs in {len(set(rows.clusters)):,} groups; the two models are right on "
        f"{first.mean():.1%} and {second.mean():.1%} and differ on {population.disagreement:.1%}."
    )
    print("\n| test pairs | true loss, points | promoted | refused | undecided |\n|---:|---:|---:|---:|---:|")
    for pairs in PAIRS:
        for loss in (0.0, limits.max_accuracy_loss, 0.02):
            found = power.simulate(population, limits, true_difference=-loss, pairs=pairs, decisions=decisions)
            shares = " | ".join(
                rate(found.answers.get(answer, 0), decisions)
                for answer in (Answer.PASS, Answer.FAIL, Answer.INCONCLUSIVE)
            )
            print(f"| {pairs:,} | {100 * loss:.1f} | {shares} |", flush=True)
        told = power.resolution(population, limits, pairs=pairs)
        detected = f"a loss of {100 * told.refused_loss:.1f} points is refused in 95 %"
        print(f"| {pairs:,} | by approximation | {told.equal_promoted:.0%} of equal ones | {detected} | |", flush=True)


def study_latency(asked: argparse.Namespace) -> None:
    """Print what the latency gates answer to an artifact against itself, and to a slower one."""
    student, slower, held_to = map(artifact, (asked.student, asked.slower, asked.slower_than or asked.student))
    pairs = read_pairs(asked.pairs)
    print("\n| challenger | machine | gate | passed | failed | undecided | median ratio |")
    print("|---|---|---|---:|---:|---:|---:|")
    for name, challenger, champion in (("the same artifact", student, student), ("a slower one", slower, held_to)):
        for neighbours in asked.neighbours:
            machine = f"neighbours on {neighbours} cores" if neighbours else "alone"
            with busy(neighbours):
                count(name, machine, challenger, champion, pairs, asked)


def count(
    name: str,
    machine: str,
    challenger: Artifact,
    champion: Artifact,
    pairs: list[tuple[str, str]],
    asked: argparse.Namespace,
) -> None:
    """Measure many times, and print a row for each gate and one for both together."""
    limits = GateSettings()
    answers: dict[str, Counter[Answer]] = {gate: Counter() for gate in (*LATENCY_GATES, "both")}
    ratios: dict[str, list[float]] = {gate: [] for gate in LATENCY_GATES}
    started = time.monotonic()
    for number in range(1, asked.runs + 1):
        for attempt in range(asked.attempts):
            found, _timings = measuring.measure(
                challenger,
                champion,
                pairs,
                requests=asked.requests * min(2**attempt, 4),
                warmup=LatencySettings().warmup,
                threads=1,
                confidence=limits.confidence,
            )
            measured = Measurements.model_construct(champion="champion", latency=found)  # type: ignore[call-arg]
            said = {gate: decide(gate, measured, limits).answer for gate, decide in LATENCY_GATES.items()}
            if Answer.INCONCLUSIVE not in said.values() or Answer.FAIL in said.values():
                break
        worst = next((answer for answer in (Answer.FAIL, Answer.INCONCLUSIVE) if answer in said.values()), Answer.PASS)
        for gate, answer in {**said, "both": worst}.items():
            answers[gate][answer] += 1
        so_far = ", ".join(f"{answers['both'][answer]} {answer}" for answer in Answer)
        print(f"{name}, {machine}: run {number} of {asked.runs}: {so_far}", file=sys.stderr, flush=True)
        for gate, interval in (("p50_ratio", found.p50_ratio), ("p99_ratio", found.p99_ratio)):
            if interval is not None:
                ratios[gate].append(interval.estimate)
    for gate, counted in answers.items():
        shares = " | ".join(
            rate(counted[answer], asked.runs) for answer in (Answer.PASS, Answer.FAIL, Answer.INCONCLUSIVE)
        )
        middle = f"{sorted(ratios[gate])[len(ratios[gate]) // 2]:.3f}" if gate in ratios else ""
        print(f"| {name} | {machine} | {gate} | {shares} | {middle} |", flush=True)
    print(f"<!-- {asked.runs} runs in {time.monotonic() - started:,.0f} s -->", flush=True)


def rate(count: int, of: int) -> str:
    """Return a share with its exact 95 % interval."""
    found = binomtest(count, of)
    ends = found.proportion_ci(0.95)
    return f"{found.statistic:.1%} [{ends.low:.1%}, {ends.high:.1%}]"


@contextmanager
def busy(neighbours: int) -> Iterator[None]:
    """Keep so many cores occupied."""
    processes = [multiprocessing.get_context("spawn").Process(target=spin, daemon=True) for _ in range(neighbours)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def spin() -> None:
    """Occupy a core."""
    number = 0
    while True:
        number = (number * 1_103_515_245 + 12_345) % 2**31


def artifact(named: str) -> Artifact:
    """Return the artifact that FOLDER:FILE names."""
    folder, _, file = named.partition(":")
    return Artifact(Path(folder), file)


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Return the first 2,000 pairs of a CSV file, gzipped or not."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        rows = [(row["text_a"], row["text_b"]) for row in csv.DictReader(file)]
    return rows[:2000]


if __name__ == "__main__":
    main()
