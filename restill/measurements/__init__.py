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
    """Quality on the labelled pairs of one frozen split; shares in [0, 1], Spearman's ρ in [-1, 1]."""

    pairs: int
    accuracy: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    roc_auc: float | None
    average_precision: float | None
    calibration_error: float | None
    spearman: float | None = None  # of the cosines with graded labels or, where all labels are 0 or 1, the teacher's
    not_measurable: dict[str, str] = {}  # measure → why it is None


class McNemar(_Record):
    """Pairs that one of two models alone decides rightly, and the exact two-sided p-value of their being as many."""

    challenger_only: int
    champion_only: int
    p_value: float


class SliceComparison(_Record):
    """Challenger minus champion on one slice of the test split, e.g. `language=zh`."""

    name: str
    pairs: int
    clusters: int  # groups of connected sentences among them
    difference: Interval | None  # of accuracy; None: too small, and not judged
    p_value: float | None  # one-sided, of "worse than the margin allows is not excluded"
    challenger: float | None = None  # accuracy
    champion: float | None = None
    not_judged: str | None = None  # why, in words


class Invariance(_Record):
    """What a change of the input that keeps its meaning does to the challenger's answers."""

    name: str
    pairs: int  # that the change applies to
    largest_change: float  # of the stated probability
    changed_decisions: float  # share of the pairs


class LatencyArm(_Record):
    """Single-pair latency of one artifact in a process of its own, tokenising included, in milliseconds."""

    requests: int
    p50_ms: Interval
    p99_ms: Interval
    p90_ms: Interval | None = None
    cold_start_ms: float | None = None  # from starting the process to its first answer
    peak_memory_mb: float | None = None  # resident, of the whole process
    pairs_per_second: float | None = None  # in large batches


class Latency(_Record):
    """One interleaved run: the challenger, the champion when there is one, and a twin of the last of them."""

    challenger: LatencyArm
    champion: LatencyArm | None
    p50_ratio: Interval | None  # challenger divided by champion
    p99_ratio: Interval | None
    disturbance: float  # largest relative change of the reference workload, or between the run's halves
    threads: int
    hardware: str
    control_p50_ratio: Interval | None = None  # of two processes with one artifact: 1, but for the machine
    control_p99_ratio: Interval | None = None
    disturbed_by: str = ""  # what changed most, in words


class SplitUse(_Record):
    """The frozen pairs a decision was made on, and how often they were used before it."""

    version: str
    decisions: int  # on other challengers


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
    difference_error: float | None = None  # standard error of the difference, of its bootstrap
    mcnemar: McNemar | None = None
    swap_difference: float | None = None  # largest change of a similarity when the sides of a pair are swapped
    invariances: tuple[Invariance, ...] = ()
    test_split: SplitUse | None = None
    predictions_sha256: str | None = None  # of the Parquet file beside the version, from which all this follows
    timings_sha256: str | None = None  # of the JSON beside the version: every request's milliseconds
