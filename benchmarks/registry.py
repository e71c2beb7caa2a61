"""The registry against bare boto3, on an S3 server of its own.

    python benchmarks/registry.py [--megabytes 1024] [--rounds 4]

1. A version with one large file of random bytes: `register` and `fetch` against boto3's `upload_file` and
   `download_file` of the same file, with their defaults. Arms in turn within a round, the first one changing (so let
   rounds be even); the ratio is that of the medians. `register` hashes the file, stores it, and writes and reads the
   manifest; `fetch` hashes what comes. boto3 checks its own CRC32 on the way up.
2. Promoting a small version, and loading the champion as serving does into an empty cache (without its interpreter),
   against the same requests made again one after another by a bare client; their number by operation. What a bare
   client writes conditionally goes to a fresh key.
3. What a second fetch moves.

Needs about eight times the file on the disk of the temporary folder.
"""

import argparse
import collections
import http
import os
import secrets
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import botocore.exceptions
from botocore import xform_name

from restill.manifests import WITH_SERVED, Calibration, Lineage, Manifest
from restill.registry import Registry
from restill.storage import Connection, ObjectStore
from restill.storage.embedded import EmbeddedServer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MEGABYTE = 10**6
SMALL_ROUNDS = 30
SMALL = {"student.tflite": "litert", "tokenizer.json": "tokenizer", "saved_model/saved_model.pb": "saved_model"}
Requests = list[tuple[str, dict[str, Any]]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=4)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        server = EmbeddedServer(root / "s3")
        try:
            registry = Registry(ObjectStore(server.start()), "default")
            plain = bare(registry.store.connection)
            print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}.\n")
            large(registry, plain, root, megabytes=asked.megabytes, rounds=asked.rounds)
            small(registry, plain, root)
        finally:
            server.stop()


def large(registry: Registry, plain: "S3Client", root: Path, *, megabytes: int, rounds: int) -> None:
    """Compare a large file's way up and down, and fetch it a second time."""
    folder = root / "large"
    folder.mkdir()
    file = folder / "student.tflite"
    with file.open("wb") as output:
        for _ in range(megabytes):
            output.write(secrets.token_bytes(MEGABYTE))
    bucket, key = registry.store.connection.bucket, "plain"
    manifests: list[Manifest] = []
    up: dict[str, Callable[[], object]] = {
        "register": lambda: manifests.append(register(registry, folder, {file.name: "litert"})),
        "upload_file": lambda: plain.upload_file(str(file), bucket, key),
    }
    down: dict[str, Callable[[], object]] = {
        "fetch": lambda: registry.fetch(manifests[-1], root / "cache"),
        "download_file": lambda: plain.download_file(bucket, key, str(root / "downloaded")),
    }
    seconds: dict[str, list[float]] = collections.defaultdict(list)
    for number in range(rounds):
        for arms in (up, down):
            for name in sorted(arms, reverse=bool(number % 2)):
                seconds[name].append(timed(arms[name]))
        if number == rounds - 1:
            fetch_again(registry, manifests[-1], root / "cache")
        (root / "downloaded").unlink()
        shutil.rmtree(root / "cache")
        for stored in [*registry.store.list("registry/"), *registry.store.list(key)]:
            registry.store.delete(stored.key)
    for own, other in (("register", "upload_file"), ("fetch", "download_file")):
        rates = {name: megabytes / statistics.median(seconds[name]) for name in (own, other)}
        spread = "; ".join(
            f"{name} {', '.join(f'{megabytes / taken:.0f}' for taken in seconds[name])}" for name in rates
        )
        print(
            f"{own} {rates[own]:.0f} MB/s, {other} {rates[other]:.0f} MB/s: ratio {rates[own] / rates[other]:.2f} "
            f"(rounds: {spread})"
        )


def fetch_again(registry: Registry, manifest: Manifest, cache: Path) -> None:
    """Say what fetching a version that is in the cache moves."""
    moved: list[int] = []
    requests = watch(registry)
    taken = timed(lambda: registry.fetch(manifest, cache, progress=moved.append))
    print(f"second fetch: {sum(moved)} bytes, {len(requests)} requests, {taken:.2f} s of hashing")


def small(registry: Registry, plain: "S3Client", root: Path) -> None:
    """Compare promoting and loading a small version with the requests they make."""
    versions = []
    for number in range(2):
        folder = root / str(number)
        for path in SMALL:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(secrets.token_bytes(300_000))
        versions.append(register(registry, folder, SMALL).version)
    requests = watch(registry)
    entry = None
    seconds: dict[str, list[float]] = collections.defaultdict(list)
    counts: dict[str, collections.Counter[str]] = {}
    for number in range(SMALL_ROUNDS):
        expected, version = entry, versions[number % 2]
        seconds["promote"].append(timed(lambda: promote(registry, version, expected)))  # noqa: B023 (called at once)
        again(plain, requests, seconds["promote, bare"])
        counts["promote"] = collections.Counter(name for name, _ in requests)
        entry = registry.champion("champion")
        cache = root / "caches" / str(number)
        requests.clear()
        seconds["load"].append(timed(lambda: load(registry, cache)))  # noqa: B023
        again(plain, requests, seconds["load, bare"])
        counts["load"] = collections.Counter(name for name, _ in requests)
        requests.clear()
    for name, count in counts.items():
        own, other = (1000 * statistics.median(seconds[arm]) for arm in (name, f"{name}, bare"))
        made = ", ".join(f"{times} {operation}" for operation, times in count.most_common())
        print(
            f"{name} {own:.1f} ms, its {count.total()} requests bare {other:.1f} ms: ratio {own / other:.2f} ({made})"
        )


def promote(registry: Registry, version: str, expected: Any) -> None:
    """Promote by hand, as no verdict is there."""
    registry.promote(
        version, alias="champion", expected=expected, reason="benchmark", promoted_by="me", verdict_sha256=None
    )


def load(registry: Registry, cache: Path) -> None:
    """Do what serving does before it opens its interpreter."""
    entry = registry.champion("champion")
    if entry is None:
        raise LookupError("nothing was promoted")
    manifest = registry.cached_manifest(entry.version, cache, entry.manifest_sha256)
    roles = (manifest.artifact_role, *WITH_SERVED)
    registry.fetch(manifest, cache, roles=roles, manifest_sha256=entry.manifest_sha256)


def again(plain: "S3Client", requests: Requests, seconds: list[float]) -> None:
    """Make the same requests again, one after another, and note how long they took."""

    def run() -> None:
        for operation, params in requests:
            asked = dict(params)
            if asked.keys() & {"IfNoneMatch", "IfMatch"}:
                asked.pop("IfMatch", None)
                asked["Key"] = f"bare/{secrets.token_hex(8)}"
            try:
                answer = getattr(plain, xform_name(operation))(**asked)
            except botocore.exceptions.ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != http.HTTPStatus.NOT_FOUND:
                    raise
                continue  # that there is none of it was the answer the first time, too
            if operation == "GetObject":
                answer["Body"].read()

    seconds.append(timed(run))


def watch(registry: Registry) -> Requests:
    """Return a list that every request of a registry is added to from now on."""
    made: Requests = []
    registry.store._client.meta.events.register(
        "provide-client-params.s3", lambda params, model, **_: made.append((model.name, dict(params)))
    )
    return made


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that something took, begun with nothing waiting to be written to disk."""
    os.sync()
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def bare(connection: Connection) -> "S3Client":
    """Return boto3's client with its defaults."""
    return boto3.client(
        "s3",
        endpoint_url=connection.endpoint_url,
        region_name=connection.region,
        aws_access_key_id=connection.access_key_id,
        aws_secret_access_key=connection.secret_access_key,
    )


def register(registry: Registry, folder: Path, files: dict[str, str]) -> Manifest:
    """Register files that nothing was trained for."""
    unknown = dict.fromkeys(("git_commit", "git_dirty", "dependency_lock_sha256", "flow_run_id", "parent"))
    said = dict.fromkeys(("data_version", "teacher_fingerprint", "training_key", "config_digest"), "benchmark")
    lineage = Lineage.model_validate(
        {**unknown, **said, "batches": (), "seed": 0, "restill_version": "benchmark", "hardware": "any"}
    )
    return registry.register(
        folder,
        files=files,
        artifact_role="litert",
        signature={},
        calibration=Calibration(scale=8, bias=0.5, threshold=0.5),
        lineage=lineage,
        training={},
    )


if __name__ == "__main__":
    main()
