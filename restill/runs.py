"""What became of each run: one object when it begins and one when it ends, kept in the object store under `runs/`.

They do not depend on Prefect's database, and no text of a pair is in them. A run that was killed has no end; that is
how it is known. Nothing rests on these records: a run whose record cannot be written goes on.

runs/<model>/<time>-<flow>-<id>/started.json
runs/<model>/<time>-<flow>-<id>/ended.json
"""

import platform
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from restill import __version__
from restill.errors import CeilingReached
from restill.gates import Verdict
from restill.ledger import BatchOutcome
from restill.manifests import PromotionEntry
from restill.storage import ObjectStore

SCHEMA_VERSION = 1
FOLDER = "runs"
STARTED, ENDED = "started.json", "ended.json"
_READERS = 16  # records read at once

# unchanged: there was nothing to do; waiting: a person has to approve; done: what it was for, where nothing is decided.
Result = Literal["promoted", "refused", "unchanged", "waiting", "done", "failed"]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True)  # fields of a later Restill are read past


class Started(_Document):
    """A run that has begun."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    name: str
    flow: str
    model: str
    started_at: AwareDatetime
    host: str
    restill_version: str = __version__


class Rows(_Document):
    """Rows of the files that a run looked at."""

    read: int = 0
    accepted: int = 0
    quarantined: int = 0
    refused: int = 0  # in files that were refused


class Judged(_Document):
    """What the gates said of one challenger."""

    version: str
    passed: bool
    gates: dict[str, str]  # pass, fail, inconclusive, n/a or off, by gate


class Live(_Document):
    """The champion when the run ended."""

    version: str
    number: int
    at: AwareDatetime


class Ended(Started):
    """A run that has ended by itself, well or not."""

    ended_at: AwareDatetime
    result: Result
    sentence: str
    seconds: float
    device_seconds: float  # wall seconds times devices, of scoring and training
    steps: dict[str, float]  # wall seconds by step, its repetitions included
    data_version: str | None = None
    version: str | None = None  # the challenger, or what was promoted
    rows: Rows = Rows()
    scored: int = 0  # sentences or pairs that the teacher scored
    judged: tuple[Judged, ...] = ()
    champion: Live | None = None


@dataclass
class Run:
    """A run under way: what its steps note of it, and how long devices have worked for it."""

    ceiling: float | None = None  # device-seconds
    steps: dict[str, float] = field(default_factory=dict)
    rows: Rows = field(default_factory=Rows)
    scored: int = 0
    trials: int = 0  # students that a search trained
    judged: list[Judged] = field(default_factory=list)
    data_version: str | None = None
    version: str | None = None
    promoted: bool = False
    refused_files: int = 0
    champion: Live | None = None
    _spent: float = 0.0
    _devices: int = 0
    _since: float = 0.0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count the time of a step."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.steps[name] = self.steps.get(name, 0.0) + time.monotonic() - began

    @contextmanager
    def using(self, devices: int) -> Iterator[None]:
        """Count the time in which so many devices work."""
        self._devices, self._since = devices, time.monotonic()
        try:
            yield
        finally:
            self._spent, self._devices = self.device_seconds, 0

    @property
    def device_seconds(self) -> float:
        """Return wall seconds times devices so far."""
        return self._spent + self._devices * (time.monotonic() - self._since)

    def check(self) -> None:
        """Stop here if the run has used up what it may.

        Raises: CeilingReached; what was done must be kept by whoever asks.
        """
        if self.ceiling is not None and self.device_seconds >= self.ceiling:
            raise CeilingReached(
                f"The run stopped at its ceiling of {self.ceiling:,.0f} device-seconds; what was done is kept.",
                hint="Raise run.max_device_seconds, or run the same again: it goes on from there.",
            )

    def took_in(self, batch: BatchOutcome) -> None:
        """Note what became of a file."""
        refused = batch.outcome == "refused"
        self.refused_files += refused
        self.rows = Rows(
            read=self.rows.read + batch.rows_in,
            accepted=self.rows.accepted + (0 if refused else batch.accepted),
            quarantined=self.rows.quarantined + sum(batch.quarantined.values()),
            refused=self.rows.refused + (batch.rows_in if refused else 0),
        )

    def was_judged(self, verdict: Verdict) -> None:
        """Note what the gates said."""
        self.version = verdict.measurements.challenger
        gates = {row.gate: str(row.answer) for row in verdict.rows}
        self.judged.append(Judged(version=self.version, passed=verdict.passed, gates=gates))

    def is_live(self, entry: PromotionEntry, *, promoted: bool = False) -> None:
        """Note which version is champion, and whether this run made it so."""
        self.champion = Live(version=entry.version, number=entry.sequence, at=entry.at)
        if promoted:
            self.promoted, self.version = True, entry.version

    @property
    def result(self) -> Result:
        """Return what came of it, if it did its job."""
        if self.promoted:
            return "promoted"
        if self.judged and self.judged[-1].passed:
            return "waiting"
        if self.judged or self.refused_files:
            return "refused"
        return "done" if self.rows.read or self.scored or self.trials else "unchanged"


@dataclass(frozen=True)
class Past:
    """One run as its records tell it."""

    key: str
    started: Started
    ended: Ended | None  # None: it is under way, or was killed


def begin(store: ObjectStore, *, flow: str, model: str, run_id: str, name: str) -> Started:
    """Write that a run has begun.

    Raises: AccessDenied, StorageUnreachable.
    """
    started = Started(
        run_id=run_id, name=name, flow=flow, model=model, started_at=datetime.now(UTC), host=platform.node()
    )
    _write(store, f"{_folder(started)}/{STARTED}", started)
    return started


def end(store: ObjectStore, started: Started, run: Run, *, sentence: str, result: Result) -> Ended:
    """Write how a run ended.

    Raises: AccessDenied, StorageUnreachable.
    """
    now = datetime.now(UTC)
    ended = Ended(
        **started.model_dump(),
        ended_at=now,
        result=result,
        sentence=sentence,
        seconds=round((now - started.started_at).total_seconds(), 3),
        device_seconds=round(run.device_seconds, 3),
        steps={name: round(seconds, 3) for name, seconds in run.steps.items()},
        data_version=run.data_version,
        version=run.version,
        rows=run.rows,
        scored=run.scored,
        judged=tuple(run.judged),
        champion=run.champion,
    )
    _write(store, f"{_folder(started)}/{ENDED}", ended)
    return ended


def note_unchanged(store: ObjectStore, *, flow: str, model: str, sentence: str) -> None:
    """Write that a run found nothing to do and was over before it began: that somebody looked is worth knowing.

    Raises: AccessDenied, StorageUnreachable.
    """
    name = str(uuid.uuid4())
    end(
        store,
        begin(store, flow=flow, model=model, run_id=name, name=flow),
        Run(),
        sentence=sentence,
        result="unchanged",
    )


def keys(store: ObjectStore, model: str) -> dict[str, bool]:
    """Return the folder of every run, in the order of their beginnings, and whether the run has ended."""
    found: dict[str, bool] = {}
    for item in store.list(f"{FOLDER}/{model}/"):
        folder, _, name = item.key.rpartition("/")
        if name in (STARTED, ENDED):
            found[folder] = found.get(folder, False) or name == ENDED
    return found


def read(store: ObjectStore, folders: dict[str, bool]) -> list[Past]:
    """Read runs in the order given, a few at once; a record of a form that this Restill does not know is left out.

    Args:
        folders: of the runs, and whether each has ended.
    Raises: ObjectNotFound, StorageUnreachable.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(lambda folder: _read(store, folder, ended=folders[folder]), folders)
        return [run for run in found if run is not None]


def last(store: ObjectStore, model: str, limit: int) -> list[Past]:
    """Return the last runs, the newest first."""
    return read(store, dict(list(keys(store, model).items())[-limit:]))[::-1]


Kind = TypeVar("Kind", bound=Started)


def _read(store: ObjectStore, folder: str, *, ended: bool) -> Past | None:
    if not ended:
        begun = _parsed(Started, store.get(f"{folder}/{STARTED}"))
        return Past(folder, begun, None) if begun else None
    whole = _parsed(Ended, store.get(f"{folder}/{ENDED}"))
    return Past(folder, whole, whole) if whole else None


def _parsed(kind: type[Kind], text: bytes) -> Kind | None:
    try:
        found = kind.model_validate_json(text)
    except ValidationError:
        return None
    return found if found.schema_version == SCHEMA_VERSION else None


def _folder(started: Started) -> str:
    return f"{FOLDER}/{started.model}/{started.started_at:%Y%m%dT%H%M%S.%fZ}-{started.flow}-{started.run_id}"


def _write(store: ObjectStore, key: str, document: Started) -> None:
    store.create(key, document.model_dump_json(indent=1).encode(), content_type="application/json")
