"""What is measured of a model, as frozen records; `accuracy` and `latency` take the measurements.

A value that could not be measured is `None`, never a neutral number: a gate on it can then not pass.
"""

from pydantic import BaseModel, ConfigDict


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)


class Interval(_Record):
    """An estimate with the ends of its one-sided intervals at the configured confidence."""

    estimate: float
    lower: float
    upper: float


class Accuracy(_Record):
    """Classification quality on the labelled pairs of one frozen split; shares in [0, 1]."""

    pairs: int
    accuracy: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    roc_auc: float | None
    average_precision: float | None
    calibration_error: float | None


class SliceComparison(_Record):
    """Challenger minus champion on one slice of the test split, e.g. `language=zh`."""

    name: str
    pairs: int
    clusters: int  # groups of connected sentences among them
    difference: Interval | None  # of accuracy, at Holm's confidence when judged; None: too small to judge
    p_value: float | None  # one-sided, of "worse than the margin allows is not excluded"


class LatencyArm(_Record):
    """Single-pair latency of one artifact, tokenising included, in milliseconds."""

    requests: int
    p50_ms: Interval
    p99_ms: Interval


class Latency(_Record):
    """One interleaved run: the challenger, and the champion when there is one."""

    challenger: LatencyArm
    champion: LatencyArm | None
    p50_ratio: Interval | None  # challenger divided by champion
    p99_ratio: Interval | None
    disturbance: float  # largest relative change of the reference workload, or between the run's halves
    threads: int
    hardware: str


class Measurements(_Record):
    """All that the gates look at, and the versions it was measured on."""

    challenger: str
    champion: str | None
    data_version: str
    accuracy: dict[str, Accuracy]  # of "challenger", "teacher" and, if any, "champion"
    difference: Interval | None  # challenger minus champion, accuracy; None without a champion
    slices: tuple[SliceComparison, ...]
    golden_failures: tuple[str, ...] | None  # None: no golden pairs are configured
    latency: Latency | None
    artifact_mb: float
