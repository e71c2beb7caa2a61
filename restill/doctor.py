"""What a run needs, checked before it is needed. Changes nothing, but for the probe objects of the store."""

import importlib.metadata
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import psutil
from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import Requirement

from restill import snapshots, storage, teachers
from restill.errors import RestillError
from restill.logits.processes import devices
from restill.settings import Settings
from restill.snapshots import records, working_copy
from restill.storage import ObjectStore
from restill.storage.embedded import EmbeddedServer, find_binary

Answer = Literal["ok", "note", "missing"]  # a note: it works, but somebody should know

_PYTHON = (3, 11)
_EXTRAS = ("", "serving", "signing", "train", "embedded")
# What no package says of itself, and costs days to find out.
_KNOWN_BAD = (
    Requirement("fastapi<0.155"),  # Prefect 3.8's server does not start with a newer one
    Requirement("sqlalchemy<2.1"),  # Prefect 3.8's scheduler fails with a newer one: no schedule ever starts a run
)
_LEAST_DISK_BYTES, _FEW_DISK_BYTES = 1e9, 5e9
_FEW_MEMORY_BYTES = 2e9
_SKEW_SECONDS, _MOST_SKEW_SECONDS = 60.0, 900.0  # S3 refuses requests from beyond the latter


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    answer: Answer
    said: str
    mend: str = ""


def examine(settings: Settings) -> Iterator[Check]:
    """Look at everything that needs no Prefect, one after another."""
    yield _python()
    yield _packages()
    yield _disk(settings)
    yield _memory()
    yield _gpu(settings)
    yield _teacher(settings)
    store, reached = _reach(settings)
    yield reached
    if store is not None:
        yield _asked("conditional writes", lambda: _probe(store))
        yield _asked("clock", lambda: _clock(store))
        yield _asked("data set", lambda: _data(settings, store))


def _asked(name: str, check: Callable[[], Check]) -> Check:
    """Run a check; what the library says no to is its answer."""
    try:
        return check()
    except RestillError as error:
        return Check(name, "missing", str(error), error.hint)


def _python() -> Check:
    found = ".".join(str(number) for number in sys.version_info[:3])
    if sys.version_info < _PYTHON:
        return Check("Python", "missing", f"{found} is too old", "Install Python 3.11 or newer, and make setup again.")
    return Check("Python", "ok", found)


def _packages() -> Check:
    try:
        wanted = [Requirement(text) for text in importlib.metadata.requires("restill") or []]
    except importlib.metadata.PackageNotFoundError:
        return Check("packages", "missing", "Restill itself is not installed", "make setup, or pip install restill")
    applying = [found for found in wanted if any(_applies(found, extra) for extra in _EXTRAS)]
    wrong = [said for found in (*applying, *_KNOWN_BAD) if (said := _problem(found))]
    if wrong:
        return Check(
            "packages", "missing", "; ".join(dict.fromkeys(wrong)), "make setup brings exactly the locked ones."
        )
    return Check("packages", "ok", f"{len(applying)} that Restill names are installed")


def _applies(wanted: Requirement, extra: str) -> bool:
    try:
        return wanted.marker is None or wanted.marker.evaluate({"extra": extra})
    except UndefinedEnvironmentName:
        return False


def _problem(wanted: Requirement) -> str:
    if wanted.name == "restill":
        return ""
    try:
        found = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{wanted.name} is not installed"
    if not wanted.specifier.contains(found, prereleases=True):
        return f"{wanted.name} is {found}, and must be {wanted.specifier}"
    return ""


def _disk(settings: Settings) -> Check:
    free = shutil.disk_usage(_existing(settings.state_dir)).free
    said = f"{free / 1e9:.1f} GB free for {settings.state_dir}"
    if free < _LEAST_DISK_BYTES:
        return Check("disk", "missing", said, "Make room: runs need about 1 GB, and the S3 server stops at 1 %.")
    if free < _FEW_DISK_BYTES:
        return Check("disk", "note", said, "Make room before it is full: restill registry gc, old logs.")
    return Check("disk", "ok", said)


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def _memory() -> Check:
    free = psutil.virtual_memory().available
    said = f"{free / 1e9:.1f} GB of {psutil.virtual_memory().total / 1e9:.1f} GB available"
    if free < _FEW_MEMORY_BYTES:
        return Check("memory", "note", said, "A training of the sample takes about 2 GB; stop something else.")
    return Check("memory", "ok", said)


def _gpu(settings: Settings) -> Check:
    found = devices()
    if found:
        return Check("GPU", "ok", f"{len(found)} visible")
    hidden = " (CUDA_VISIBLE_DEVICES hides them)" if os.environ.get("CUDA_VISIBLE_DEVICES") is not None else ""
    slow = settings.teacher.precision != "float32"
    return Check(
        "GPU",
        "note" if slow else "ok",
        f"none visible{hidden}: everything runs on the CPU",
        f"teacher.precision = {settings.teacher.precision!r} pays on a GPU only." if slow else "",
    )


def _teacher(settings: Settings) -> Check:
    def look() -> Check:
        fingerprint = teachers.fingerprint(settings.teacher, cache=settings.digest_cache)
        return Check("teacher", "ok", f"{settings.teacher.path or 'all-MiniLM-L6-v2'}, fingerprint {fingerprint[:12]}")

    return _asked("teacher", look)


def _reach(settings: Settings) -> tuple[ObjectStore | None, Check]:
    """Return the object store, if it is there; the embedded server is not started for this."""
    chosen = settings.storage
    if chosen.endpoint_url is None:
        server = EmbeddedServer(settings.state_dir, bucket=chosen.bucket, prefix=chosen.prefix, region=chosen.region)
        status = server.status()
        if status.running and not status.healthy:
            return None, Check("S3", "missing", f"pid {status.pid} does not answer", "restill down, then restill up")
        if not status.running:
            binary = _asked(
                "S3", lambda: Check("S3", "ok", f"not running; {find_binary().name} is there to be started")
            )
            return None, binary
        store = storage.ObjectStore(server.start())  # it runs: this only tells how to reach it
    else:
        store = storage.ObjectStore(storage.configured(chosen))
    place = store.connection.endpoint_url or f"AWS S3 ({store.connection.region})"

    def look() -> Check:
        next(iter(store.list("registry/")), None)
        return Check("S3", "ok", f"{place}, bucket {store.connection.bucket}")

    check = _asked("S3", look)
    return (store if check.answer == "ok" else None), check


def _probe(store: ObjectStore) -> Check:
    started = time.monotonic()
    store.probe_conditional_writes()
    return Check("conditional writes", "ok", f"a second writer is refused ({time.monotonic() - started:.1f} s)")


def _clock(store: ObjectStore) -> Check:
    skew = abs((datetime.now(UTC) - store.clock()).total_seconds())
    if skew > _SKEW_SECONDS:
        answer: Answer = "missing" if skew > _MOST_SKEW_SECONDS else "note"
        return Check("clock", answer, f"{skew:,.0f} s away from the store's", "Set the clock right (NTP).")
    return Check("clock", "ok", "as the store's")


def _data(settings: Settings, store: ObjectStore) -> Check:
    """Look whether the DVC remote has what data.dvc names: its record and its folder's object."""
    named = snapshots.named_version(settings.root)
    if named is None:
        return Check(
            "data set", "note", "there is none yet", "restill ingest FILE, or restill sample && restill retrain"
        )
    record = records.read(store, named)
    if record is None or not store.head(working_copy.key(f"{named}.dir")):
        return Check(
            "data set",
            "missing",
            f"the DVC remote {store.uri('dvc')} lacks version {named[:12]}, which data.dvc names",
            "restill retrain pushes it again from this machine, if it is here; restill data verify says more.",
        )
    return Check("data set", "ok", f"version {record.short} is in the DVC remote, {record.rows:,} pairs")
