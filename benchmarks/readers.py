"""Ways to read a CSV of pairs, against each other in one run: rows a second, peak memory, and dirty files misread.

    python benchmarks/readers.py [rows]

Each reading is a process of its own, in turn, three times; the median counts, without imports. A dirty file has one
thing wrong with it; a reader that gives rows of it all the same has misread it.
"""

import csv
import importlib.util
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROUNDS = 3
BATCH_ROWS = 65_536
HEADER = b"text_a,text_b,label\n"
GOOD = b'"how do I, today, send money",send money how,1\n\xe8\xbd\xac\xe8\xb4\xa6,\xe6\xb1\x87\xe6\xac\xbe,0\n' * 500
DIRTY = {
    "a quote that is never closed": HEADER + GOOD + b'"open,b,1\n' + GOOD.replace(b'"', b""),
    "a quote closed by the next row's": HEADER + GOOD + b'"open,b,1\n' + b'c,"d",1\n' + GOOD,
    "text behind a closing quote": HEADER + GOOD + b'"a"b,c,1\n' + GOOD,
    "a row of two fields": HEADER + GOOD + b"a,b\n" + GOOD,
    "a row of four fields": HEADER + GOOD + b"a,b,1,x\n" + GOOD,
    "a NUL": HEADER + GOOD + b"a\0b,c,1\n" + GOOD,
    "a byte that is not UTF-8": HEADER + GOOD + b"caf\xe9,c,1\n" + GOOD,
    "half a character at the end": HEADER + GOOD + b"a,b,\xe8\xbd",
    "UTF-16 without its mark": (HEADER + GOOD).decode().encode("utf-16-le"),
}


def read_restill(path: str) -> Iterator[int]:
    """Yield the rows of each batch."""
    from restill import readers
    from restill.settings import ColumnSettings, FormatSettings

    with readers.open_file(Path(path), ColumnSettings(), FormatSettings()) as reading:
        yield from (batch.num_rows for batch in reading)


def read_csv(path: str) -> Iterator[int]:
    """Yield 1 for each row; nothing is kept, and fields are not counted."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, strict=True)
        next(rows)
        yield from (1 for _ in rows)


def read_pyarrow(path: str) -> Iterator[int]:
    """Yield the rows of each batch."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    stream = pa_csv.open_csv(
        path,
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(column_types=dict.fromkeys(("text_a", "text_b", "label"), pa.string())),
    )
    yield from (batch.num_rows for batch in stream)


def read_polars(path: str) -> Iterator[int]:
    """Yield the rows of each batch."""
    import polars as pl

    frames = pl.scan_csv(path, infer_schema=False).collect_batches(chunk_size=BATCH_ROWS)
    yield from (frame.height for frame in frames)


def read_duckdb(path: str) -> Iterator[int]:
    """Yield the rows of each batch."""
    import duckdb

    query = (
        "select * from read_csv(?, all_varchar = true, strict_mode = true, header = true, "
        "delim = ',', quote = '\"', escape = '\"')"
    )
    yield from (batch.num_rows for batch in duckdb.execute(query, [path]).to_arrow_reader(BATCH_ROWS))


# Reader, and what is imported before the clock starts; pyarrow imports pandas at its first array of Python objects.
ARMS: dict[str, tuple[Callable[[str], Iterator[int]], tuple[str, ...]]] = {
    "restill": (read_restill, ("restill.readers", "pandas")),
    "csv alone": (read_csv, ("csv",)),
    "pyarrow": (read_pyarrow, ("pyarrow.csv",)),
    "polars": (read_polars, ("polars",)),
    "duckdb": (read_duckdb, ("duckdb", "pyarrow")),
}


def memory_mb(which: str) -> float:
    """Return this process's memory, VmRSS now or VmHWM at most; Linux only."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{which}:")[1].split()[0]) / 1024


def measure(arm: str, path: str) -> None:
    """Print rows, seconds, and the megabytes that reading added at most, as JSON."""
    read, modules = ARMS[arm]
    for module in modules:
        importlib.import_module(module)
    before = memory_mb("VmRSS")
    started = time.perf_counter()
    rows = sum(read(path))
    seconds = time.perf_counter() - started
    print(json.dumps([rows, seconds, max(memory_mb("VmHWM") - before, 0)]))


def run(arm: str, path: Path) -> list[float] | None:
    """Measure in a new process; None if the reader refuses the file."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", arm, str(path)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def write_pairs(path: Path, rows: int) -> None:
    """Write clean pairs: English and Chinese, some with commas, quotes and line ends inside."""
    dice = random.Random(1)
    words = [
        "how",
        "do",
        "I",
        "send",
        "money",
        "today",
        "怎么",
        "转账",
        "朋友",
        'the "big" one',
        "well, then",
        "two\nlines",
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("text_a", "text_b", "label"))
        for number in range(rows):
            a, b = (" ".join(dice.choices(words, k=7)) for _ in "ab")
            writer.writerow((f"{a} {number}", b, number % 2))


def main(rows: int) -> None:
    """Print two tables."""
    arms = [arm for arm, (_, modules) in ARMS.items() if all(map(importlib.util.find_spec, modules))]
    with tempfile.TemporaryDirectory() as folder:
        clean, dirty = Path(folder) / "clean.csv", Path(folder) / "dirty.csv"
        write_pairs(clean, rows)
        found: dict[str, list[list[float]]] = {arm: [] for arm in arms}
        for _ in range(ROUNDS):
            for arm in arms:
                result = run(arm, clean)
                if result is None or result[0] != rows:
                    raise SystemExit(f"{arm} read {result} of {rows:,} rows")
                found[arm].append(result)
        misread = {arm: [] for arm in arms}
        for name, content in DIRTY.items():
            dirty.write_bytes(content)
            for arm in arms:
                if run(arm, dirty) is not None:
                    misread[arm].append(name)
        seconds = {arm: statistics.median(result[1] for result in results) for arm, results in found.items()}
        print(f"{rows:,} rows, {clean.stat().st_size / 1e6:.0f} MB, median of {ROUNDS}")
        print(f"{'':12}{'rows/s':>12}{'speed':>8}{'peak MB':>10}{'misread':>10}")
        for arm in arms:
            peak = statistics.median(result[2] for result in found[arm])
            speed = seconds[arms[0]] / seconds[arm]
            print(
                f"{arm:12}{rows / seconds[arm]:>12,.0f}{speed:>7.2f}x{peak:>10.0f}{len(misread[arm]):>7}/{len(DIRTY)}"
            )
        for arm, names in misread.items():
            if names:
                print(f"{arm} misread: {'; '.join(names)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(*sys.argv[2:])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
