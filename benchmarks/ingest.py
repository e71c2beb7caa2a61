"""How fast pairs come into the data set, in how much memory, and whether that grows with what is stored.

    python benchmarks/ingest.py                       # 100,000 and 1,000,000 rows against pandas, then 200 batches
    python benchmarks/ingest.py --rows 10000000       # one size; pandas is left out from 5,000,000 rows on
    python benchmarks/ingest.py --rows 100000 --batches 0

Each figure is of a fresh process that has imported nothing: seconds from a file on disk to a published version (imports
of Great Expectations and DVC included), and the peak memory of the process. The S3 server is real, here, not counted.
The baseline reads the same file with pandas, applies the same row rules and a Great Expectations suite on columns, and
writes one Parquet file; it splits, versions and compares nothing.
"""

import argparse
import csv
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PANDAS_ROWS = 5_000_000  # beyond, pandas needs more memory than a small machine has
REUSED = 0.05  # share of sentences that occur in an earlier pair too, as in question data
SYLLABLES = ["ba", "co", "di", "fu", "ga", "he", "ji", "ko", "lu", "me", "ni", "po", "ra", "se", "ti", "vo", "wa", "ze"]
CHINESE = [chr(code) for code in range(0x4E00, 0x4E00 + 3000)]


def write_file(path: Path, rows: int, *, seed: int = 0) -> None:
    """Write a CSV of pairs, two of five in Chinese, of the lengths that questions have."""
    draw = random.Random(seed)
    words = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 4))) for _ in range(30_000)]
    earlier: list[str] = []

    def sentence() -> str:
        if earlier and draw.random() < REUSED:
            return draw.choice(earlier)
        if draw.random() < 0.4:
            made = "".join(draw.choices(CHINESE, k=draw.randint(6, 24)))
        else:
            made = " ".join(words[int(draw.paretovariate(0.7)) % len(words)] for _ in range(draw.randint(5, 14)))
            made += f" {draw.randrange(10**9)}?"
        if len(earlier) < 100_000:
            earlier.append(made)
        return made

    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(("text_a", "text_b", "label"))
        out.writerows((sentence(), sentence(), draw.randrange(2)) for _ in range(rows))


def ingest(path: Path, root: Path) -> None:
    """Ingest a file into the project in `root`, and print seconds and peak memory."""
    began = time.perf_counter()
    from restill import batches, storage
    from restill.settings import Settings

    settings = Settings(root=root)
    outcome = batches.ingest_file(path, settings, storage.connect(settings.storage, settings.state_dir))
    if outcome.outcome != "accepted":
        raise SystemExit(f"{outcome.sentence} {outcome.reasons}")
    report(outcome.rows_in, time.perf_counter() - began)


def with_pandas(path: Path, root: Path) -> None:
    """Do the row rules and the checks with pandas and Great Expectations alone."""
    began = time.perf_counter()
    import great_expectations as gx
    import pandas as pd
    from great_expectations import expectations as gxe

    frame = pd.read_csv(path, dtype={"text_a": str, "text_b": str, "label": "float32"}, keep_default_na=False)
    for side in ("text_a", "text_b"):
        frame[side] = frame[side].str.normalize("NFC").str.strip()
    lengths = frame[["text_a", "text_b"]].apply(lambda column: column.str.len())
    frame = frame[(lengths.min(axis=1) > 0) & (lengths.max(axis=1) <= 512)]
    frame = frame[~frame["text_a"].str.contains("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]")]
    frame = frame.drop_duplicates(["text_a", "text_b", "label"]).drop_duplicates(["text_a", "text_b"], keep=False)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    batch = context.data_sources.add_pandas("p").add_dataframe_asset("a").add_batch_definition_whole_dataframe("b")
    checks = [
        *(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in ("text_a", "text_b")),
        *(
            gxe.ExpectColumnValueLengthsToBeBetween(column=name, min_value=1, max_value=512)
            for name in ("text_a", "text_b")
        ),
        gxe.ExpectColumnValuesToBeBetween(column="label", min_value=0, max_value=1),
        gxe.ExpectColumnMeanToBeBetween(column="label", min_value=0.3, max_value=0.7),
        gxe.ExpectTableRowCountToBeBetween(min_value=20),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["text_a", "text_b"]),
    ]
    suite = context.suites.add(gx.ExpectationSuite("s", expectations=checks))
    definition = gx.ValidationDefinition(name="v", data=batch, suite=suite)
    result = context.validation_definitions.add(definition).run(batch_parameters={"dataframe": frame})
    if not result.success:
        raise SystemExit(f"the baseline's suite failed: {result}")
    frame.to_parquet(root / "pairs.parquet", compression="zstd")
    report(len(frame), time.perf_counter() - began)


def grow(folder: Path, root: Path, batches_: int, rows: int) -> None:
    """Ingest so many batches of so many rows one after another in one process; print the seconds of each."""
    from restill import batches, storage
    from restill.settings import Settings

    settings = Settings(root=root)
    store = storage.connect(settings.storage, settings.state_dir)
    seconds, memory = [], []
    for number in range(batches_):
        path = folder / "batch.csv"
        write_file(path, rows, seed=1000 + number)
        began = time.perf_counter()
        outcome = batches.ingest_file(path, settings, store)
        seconds.append(time.perf_counter() - began)
        memory.append(peak_mb())
        if outcome.outcome != "accepted":
            raise SystemExit(f"{outcome.sentence} {outcome.reasons}")
    print(json.dumps({"seconds": seconds, "mb": memory}))


def report(rows: int, seconds: float) -> None:
    """Print one run's figures for the process that started it."""
    print(json.dumps({"rows": rows, "seconds": seconds, "mb": peak_mb()}))


def peak_mb() -> float:
    """Return this process's peak memory so far in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def in_fresh_process(*arguments: object) -> dict[str, float]:
    """Run a part of this file in a process of its own and return what it printed."""
    command = [sys.executable, "-W", "ignore", __file__, "--part", *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--batch-rows", type=int, default=5_000)
    parser.add_argument("--part", nargs="*", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.part:
        name, *rest = chosen.part
        if name == "grow":
            grow(Path(rest[0]), Path(rest[1]), int(rest[2]), int(rest[3]))
        else:
            {"ingest": ingest, "pandas": with_pandas}[name](*map(Path, rest))
        return

    from restill import storage
    from restill.settings import Settings
    from restill.storage.embedded import EmbeddedServer

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        print("| rows | seconds | rows a second | peak MB | pandas + GX: seconds | its peak MB | time, ratio |")
        print("|---:|---:|---:|---:|---:|---:|---:|", flush=True)
        for rows in chosen.rows:
            path = folder / "pairs.csv"
            write_file(path, rows)
            root = folder / f"project-{rows}"
            root.mkdir()
            settings = Settings(root=root)
            storage.connect(settings.storage, settings.state_dir)  # the server is up before the clock starts
            try:
                ours = in_fresh_process("ingest", path, root)
            finally:
                EmbeddedServer(settings.state_dir).stop()
            line = f"| {rows:,} | {ours['seconds']:.1f} | {rows / ours['seconds']:,.0f} | {ours['mb']:,.0f} |"
            if rows < PANDAS_ROWS:
                theirs = in_fresh_process("pandas", path, root)
                line += f" {theirs['seconds']:.1f} | {theirs['mb']:,.0f} | {ours['seconds'] / theirs['seconds']:.2f} |"
            print(line if rows < PANDAS_ROWS else f"{line} – | – | – |", flush=True)
        if chosen.batches:
            root = folder / "project-grows"
            root.mkdir()
            settings = Settings(root=root)
            storage.connect(settings.storage, settings.state_dir)
            try:
                found = in_fresh_process("grow", folder, root, chosen.batches, chosen.batch_rows)
            finally:
                EmbeddedServer(settings.state_dir).stop()
            print(
                f"\n| batches of {chosen.batch_rows:,} rows stored before | seconds for one more (median of 10) | MB |"
            )
            print("|---:|---:|---:|")
            for start in [1, *range(40, chosen.batches - 9, 50), chosen.batches - 10]:
                ten = found["seconds"][start : start + 10]
                print(f"| {start}–{start + 9} | {statistics.median(ten):.2f} | {found['mb'][start + 9]:,.0f} |")


if __name__ == "__main__":
    main()
