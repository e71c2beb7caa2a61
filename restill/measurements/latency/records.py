"""What a latency run is given and what it gives, and the JSON in which it travels between machines."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Artifact:
    """A folder with an exported student, and the model file in it that is timed."""

    folder: Path
    file: str


@dataclass(frozen=True)
class Timings:
    """Raw timings of one run, in milliseconds, in the order they were taken.

    A round is A B C C B A, without a champion A C C A: each arm answers the same pairs, in two blocks.
    """

    challenger_ms: Floats  # [rounds, requests a round]
    champion_ms: Floats | None
    control_ms: Floats  # a twin: a second process with the champion's artifact, without champion the challenger's
    reference_ms: Floats  # [rounds, blocks]: the fixed workload, in the process of the block that it was timed before

    def document(self) -> bytes:
        """Return the timings as JSON."""
        return json.dumps(self._plain()).encode()

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read what `document` wrote.

        Raises: ValueError if it is something else.
        """
        return cls._of(_object(body))

    def _plain(self) -> dict[str, Any]:
        return {name: None if array is None else array.tolist() for name, array in vars(self).items()}

    @classmethod
    def _of(cls, plain: Mapping[str, Any]) -> Self:
        try:
            arrays = {name: _array(plain[name]) for name in ("challenger_ms", "control_ms", "reference_ms")}
            champion = None if plain["champion_ms"] is None else _array(plain["champion_ms"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"these are no timings: {error!r}") from error
        arms = [arrays["challenger_ms"], arrays["control_ms"], *([] if champion is None else [champion])]
        if len({arm.shape for arm in arms}) > 1 or len(arrays["reference_ms"]) != len(arms[0]):
            raise ValueError("the arms of these timings have not the same rounds")
        return cls(champion_ms=champion, **arrays)


@dataclass(frozen=True)
class Process:
    """What is found out of an arm's process besides the time of a request."""

    cold_start_ms: float  # from starting it to its first answer
    peak_memory_mb: float | None  # resident, after single pairs alone; None: this system does not say
    pairs_per_second: float  # in large batches


@dataclass(frozen=True)
class Run:
    """All of one run, as it was measured on one machine."""

    timings: Timings
    challenger: Process
    champion: Process | None
    threads: int
    hardware: str

    def document(self) -> bytes:
        """Return the run as JSON."""
        parts = {"challenger": self.challenger, "champion": self.champion}
        return json.dumps(
            {
                "timings": self.timings._plain(),
                **{name: None if part is None else asdict(part) for name, part in parts.items()},
                "threads": self.threads,
                "hardware": self.hardware,
            }
        ).encode()

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read what `document` wrote.

        Raises: ValueError if it is something else.
        """
        plain = _object(body)
        try:
            return cls(
                timings=Timings._of(plain["timings"]),
                challenger=Process(**plain["challenger"]),
                champion=None if plain["champion"] is None else Process(**plain["champion"]),
                threads=int(plain["threads"]),
                hardware=str(plain["hardware"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is no latency run: {error!r}") from error


def _object(body: bytes) -> dict[str, Any]:
    plain = json.loads(body)
    if not isinstance(plain, dict):
        raise ValueError("a JSON object was expected")
    return plain


def _array(plain: Any) -> Floats:
    array = np.array(plain, np.float64)
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise ValueError(f"timings must be a table of numbers, not of shape {array.shape}")
    return array
