"""The champion as a search service has it: what the library adds to the model, and the HTTP service under load.

    python benchmarks/serving.py [pairs.csv.gz] [--seconds 10] [--clients 4]

An untrained student of the default architecture (time does not depend on training) in three versions that differ in
their calibration, in a real registry on an S3 server of its own. Pairs are the sample's, or a CSV's text_a and text_b.

1. Loading, and loading again: bytes and requests.
2. One pair on one thread, in processor time, arms in turn, block by block: the bare interpreter (ids ready, its input
   shape made before: set the input, invoke, read the output), the same with tokenising, padding and the dot product,
   and `similarity`. The overhead is that of `similarity` over each of them, as the median of the ratios of blocks.
3. Throughput of `similarity` by pairs a call, from one thread and from several.
4. The HTTP service in a process of its own, asked by client threads in this one, on the same machine, with kept
   connections: at rest, then with a promotion every other second, and a rollback at last. An answer that is not 200, or
   is not what its version answers, is a failure.
"""

import argparse
import csv
import dataclasses
import gzip
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import urllib3
from ai_edge_litert.interpreter import Interpreter
from students import MAX_TOKENS, train_tokenizer, write_sample, write_student
from tokenizers import Tokenizer

from restill.manifests import Calibration, Lineage
from restill.registry import Registry
from restill.serving import CARD, Champion
from restill.settings import StudentSettings
from restill.storage import Connection, ObjectStore
from restill.storage.embedded import EmbeddedServer
from restill.students.exports import FILES

ROLE = "litert_int8"
BLOCK = 25  # pairs
BLOCKS = 60
PROMOTION_SECONDS = 2.0
Pairs = list[tuple[str, str]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="?", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=4)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        server = EmbeddedServer(root / "s3")
        try:
            pairs = read_pairs(asked.pairs or write_sample(root))
            registry = Registry(ObjectStore(server.start()), "default")
            versions = register(registry, pairs, root / "students")
            promote(registry, versions[0])
            champion = load_twice(registry, root / "cache")
            overhead(champion, root / "students" / "0", pairs)
            throughput(champion, pairs)
            load(registry, versions, pairs, root, seconds=asked.seconds, clients=asked.clients)
        finally:
            server.stop()


def read_pairs(path: Path) -> Pairs:
    """Return some pairs of a CSV file with the columns text_a and text_b."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = [(row["text_a"], row["text_b"]) for row in csv.DictReader(content.decode().splitlines())]
    return random.Random(0).sample(rows, min(2000, len(rows)))


def register(registry: Registry, pairs: Pairs, root: Path) -> list[str]:
    """Register three versions of one untrained student, which differ in their calibration."""
    write_student(StudentSettings(), train_tokenizer(pairs), pairs, root / "0", [ROLE])
    versions = []
    for number in range(3):
        folder = root / str(number)
        if number:
            shutil.copytree(root / "0", folder)
        calibration = Calibration(scale=8 + number, bias=0.5, threshold=0.5)
        card = json.loads((folder / CARD).read_text())
        card["calibrations"] = {FILES[ROLE]: calibration.model_dump()}
        (folder / CARD).write_text(json.dumps(card))
        manifest = registry.register(
            folder,
            files={FILES[ROLE]: ROLE, "tokenizer.json": "tokenizer", CARD: "calibration"},
            artifact_role=ROLE,
            signature={},
            calibration=calibration,
            lineage=lineage(),
            training={},
        )
        versions.append(manifest.version)
    print(f"{manifest.served_bytes / 1e6:.1f} MB are served of a version; {os.cpu_count()} cores.\n")
    return versions


def lineage() -> Lineage:
    """Return the lineage of something untrained."""
    unknown = dict.fromkeys(("git_commit", "git_dirty", "dependency_lock_sha256", "flow_run_id", "parent"))
    said = dict.fromkeys(("data_version", "teacher_fingerprint", "training_key", "config_digest"), "benchmark")
    return Lineage.model_validate(
        {**unknown, **said, "batches": (), "seed": 0, "restill_version": "benchmark", "hardware": "any"}
    )


def promote(registry: Registry, version: str) -> None:
    """Make a version champion."""
    registry.promote(
        version,
        alias="champion",
        expected=registry.champion("champion"),
        reason="benchmark",
        promoted_by="benchmark",
        verdict_sha256=None,
    )


def load_twice(registry: Registry, cache: Path) -> Champion:
    """Load the champion into an empty cache and again, and say what moved."""
    store = ObjectStore(registry.store.connection)
    sent: list[object] = []
    store._client.meta.events.register("before-send.s3", lambda request, **_: sent.append(request))
    for name in ("first", "second"):
        come = [0]
        sent.clear()
        started = time.perf_counter()
        champion = Champion.from_store(
            store,
            model="default",
            alias="champion",
            cache_dir=cache,
            progress=lambda bytes_come, _, come=come: come.append(bytes_come),
        )
        taken = time.perf_counter() - started
        print(f"{name} load: {come[-1]:,} bytes of files, {len(sent)} requests, {taken:.2f} s")
    sent.clear()
    champion.newer()
    print(f"a poll: {len(sent)} request\n")
    return champion


def overhead(champion: Champion, folder: Path, pairs: Pairs) -> None:
    """Compare one pair in the library with what any program over LiteRT has to do."""
    bare = Bare(folder / FILES[ROLE], Tokenizer.from_file(str(folder / "tokenizer.json")), champion)
    ready = {pair: bare.ids(pair) for pair in pairs}
    arms: dict[str, Callable[[tuple[str, str]], object]] = {
        "interpreter": lambda pair: bare.run(ready[pair]),
        "interpreter and tokenising": bare.similarity,
        "similarity": lambda pair: champion.similarity([pair]),
        "predict": lambda pair: champion.predict([pair]),
    }
    for pair in pairs:  # makes the interpreter of each shape
        assert abs(bare.similarity(pair) - champion.similarity([pair])[0]) < 1e-6  # noqa: S101
    block_ms: dict[str, list[float]] = {name: [] for name in arms}
    for block in range(BLOCKS):
        chosen = [pairs[(block * BLOCK + place) % len(pairs)] for place in range(BLOCK)]
        order = list(arms)
        random.Random(block).shuffle(order)
        for name in order:
            answer = arms[name]
            started = time.thread_time()
            for pair in chosen:
                answer(pair)
            block_ms[name].append(1000 * (time.thread_time() - started) / BLOCK)
    print(
        "| one pair, one thread | processor ms | of interpreter | of interpreter and tokenising |\n|---|---:|---:|---:|"
    )
    for name, taken in block_ms.items():
        ratios = [
            statistics.median(mine / theirs for mine, theirs in zip(taken, block_ms[base], strict=True))
            for base in ("interpreter", "interpreter and tokenising")
        ]
        print(f"| {name} | {statistics.median(taken):.4f} | {ratios[0]:.3f} | {ratios[1]:.3f} |")
    print()


class Bare:
    """The least that answers a pair: a tokenizer, and an interpreter for each input shape."""

    def __init__(self, path: Path, tokenizer: Tokenizer, champion: Champion) -> None:
        self._path, self._tokenizer, self._champion = path, tokenizer, champion
        self._interpreters: dict[int, tuple[Interpreter, int, int]] = {}

    def ids(self, pair: tuple[str, str]) -> np.ndarray:
        """Return the ids of a pair, of the width that the library gives them."""
        rows = [self._tokenizer.encode(text).ids[:MAX_TOKENS] for text in pair]
        ids = np.zeros((2, self._champion._encoder.width(max(map(len, rows)))), np.int32)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
        return ids

    def run(self, ids: np.ndarray) -> np.ndarray:
        """Return the vectors of ids."""
        if ids.shape[1] not in self._interpreters:
            made = Interpreter(model_path=str(self._path), num_threads=1)
            accepts, returns = made.get_input_details()[0]["index"], made.get_output_details()[0]["index"]
            made.resize_tensor_input(accepts, list(ids.shape))
            made.allocate_tensors()
            self._interpreters[ids.shape[1]] = made, accepts, returns
        interpreter, accepts, returns = self._interpreters[ids.shape[1]]
        interpreter.set_tensor(accepts, ids)
        interpreter.invoke()
        return interpreter.get_tensor(returns)

    def similarity(self, pair: tuple[str, str]) -> float:
        """Return the cosine of a pair."""
        first, second = self.run(self.ids(pair))
        return float(np.dot(first, second))


def throughput(champion: Champion, pairs: Pairs) -> None:
    """Print pairs a second by pairs a call and threads."""
    print("| pairs a call | threads | pairs/s |\n|---:|---:|---:|")
    for size in (1, 16, 256):
        for threads in (1, 4):
            end = time.perf_counter() + 3
            with ThreadPoolExecutor(threads) as pool:
                started = time.perf_counter()
                asking = [pool.submit(ask_until, champion, pairs, size, end, seed) for seed in range(threads)]
                answered = sum(future.result() for future in asking)
                print(f"| {size} | {threads} | {answered / (time.perf_counter() - started):,.0f} |")
    print()


def ask_until(champion: Champion, pairs: Pairs, size: int, end: float, seed: int) -> int:
    """Ask for so many pairs at once until it is time, and return how many were answered."""
    chooser, answered = random.Random(seed), 0
    while time.perf_counter() < end:
        answered += len(champion.similarity(chooser.sample(pairs, size)))
    return answered


def load(registry: Registry, versions: list[str], pairs: Pairs, root: Path, *, seconds: float, clients: int) -> None:
    """Ask the service at rest and while versions change."""
    expected = expectations(registry, versions, pairs[:50], root / "cache")
    print(
        "| service | requests/s | p50 ms | p99 ms | max ms | failures | versions |\n|---|---:|---:|---:|---:|---:|---:|"
    )
    with service(registry.store.connection, root) as url:
        ask(url, expected, seconds=2, clients=clients)  # makes interpreters and connections
        show("at rest", ask(url, expected, seconds=seconds, clients=clients), seconds)
        changing = threading.Thread(target=change, args=(registry, versions, seconds))
        changing.start()
        show("while versions change", ask(url, expected, seconds=seconds, clients=clients), seconds)
        changing.join()


Expected = dict[tuple[str, str], dict[str, dict[str, object]]]  # pair → version → answer
Asked = list[tuple[float, str | None]]  # seconds, and the version that answered rightly


def expectations(registry: Registry, versions: list[str], pairs: Pairs, cache: Path) -> Expected:
    """Return what each version answers for each pair."""
    entry = registry.champion("champion")
    assert entry is not None  # noqa: S101
    found: Expected = {pair: {} for pair in pairs}
    for version in versions:
        named = entry.model_copy(update={"version": version, "manifest_sha256": registry.manifest_sha256(version)})
        model = Champion(registry, named, cache_dir=cache)
        for pair in pairs:
            found[pair][version] = dataclasses.asdict(model.predict([pair])[0])
    return found


@dataclasses.dataclass
class service:  # noqa: N801 - used as a statement
    """`python -m restill.serving`, for as long as the block lasts."""

    connection: Connection
    root: Path

    def __enter__(self) -> str:
        at = self.connection
        self._process = subprocess.Popen(
            [sys.executable, "-m", "restill.serving"],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ
            | {
                "RESTILL_ROOT": str(self.root),
                "RESTILL_STORAGE__ENDPOINT_URL": str(at.endpoint_url),
                "RESTILL_STORAGE__BUCKET": at.bucket,
                "RESTILL_STORAGE__ACCESS_KEY_ID": str(at.access_key_id),
                "RESTILL_STORAGE__SECRET_ACCESS_KEY": str(at.secret_access_key),
                "RESTILL_SERVING__PORT": "0",
                "RESTILL_SERVING__POLL_SECONDS": "0.5",
            },
        )
        assert self._process.stderr is not None  # noqa: S101
        lines: Iterator[str] = iter(self._process.stderr)
        url = next(found[1] for line in lines if (found := re.search(r"serving \w+ on (http://\S+)", line)))
        threading.Thread(target=lambda: list(lines), daemon=True).start()
        return url

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        print(f"\nStopped with SIGTERM: exit code {self._process.wait(timeout=60)}.")


def change(registry: Registry, versions: list[str], seconds: float) -> None:
    """Promote one version after the other, and roll back at last."""
    end = time.monotonic() + seconds - PROMOTION_SECONDS
    number = 0
    while time.monotonic() < end - PROMOTION_SECONDS:
        time.sleep(PROMOTION_SECONDS)
        number += 1
        promote(registry, versions[number % len(versions)])
    time.sleep(PROMOTION_SECONDS)
    registry.rollback("champion", reason="benchmark", by="benchmark")


def ask(url: str, expected: Expected, *, seconds: float, clients: int) -> Asked:
    """Ask single pairs from several threads, and return what became of each request."""
    pool = urllib3.PoolManager(maxsize=clients, retries=False)
    end = time.perf_counter() + seconds

    def client(seed: int) -> Asked:
        chooser, pairs, asked = random.Random(seed), list(expected), []
        while time.perf_counter() < end:
            pair = chooser.choice(pairs)
            started = time.perf_counter()
            version = None
            try:
                response = pool.request("POST", f"{url}/similarity", json={"pairs": [pair]})
                answer = response.json()
                if response.status == 200 and answer["answers"] == [expected[pair][answer["version"]]]:
                    version = answer["version"]
            except (urllib3.exceptions.HTTPError, ValueError, KeyError):
                pass  # counted as a failure
            asked.append((time.perf_counter() - started, version))
        return asked

    with ThreadPoolExecutor(clients) as threads:
        return [request for asked in threads.map(client, range(clients)) for request in asked]


def show(name: str, asked: Asked, seconds: float) -> None:
    """Print a line of the table."""
    taken = [1000 * second for second, _ in asked]
    p50, p99 = np.quantile(taken, [0.5, 0.99])
    failures = sum(version is None for _, version in asked)
    seen = len({version for _, version in asked if version})
    print(f"| {name} | {len(asked) / seconds:,.0f} | {p50:.2f} | {p99:.2f} | {max(taken):.1f} | {failures} | {seen} |")


if __name__ == "__main__":
    main()
