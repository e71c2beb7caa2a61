"""How a challenger is measured, and the limits it must keep."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from restill.settings.section import Section


class LatencySettings(Section):
    """How the exported artifact is timed."""

    threads: int = Field(1, ge=1, description="Interpreter threads, as in serving.")
    requests: int = Field(1500, ge=700, description="Timed single-pair requests per arm; p99 needs at least 662.")
    warmup: int = Field(
        100, ge=1, description="Requests per arm before the clock counts; one of each input shape comes on top."
    )
    on: Literal["here", "pool"] = Field(
        "here", description="here: this machine; pool: a worker of a Prefect work pool, on the hardware that serves."
    )
    deployment: str = Field(
        "time-artifacts/latency", description="Deployment that the worker runs, as flow/name; for on = pool."
    )
    timeout_seconds: float = Field(
        3600.0, gt=0, description="Time after which a run on the pool is given up, waiting for a free worker included."
    )


class GateSettings(Section):
    """Limits a challenger must keep. Unset limits are not silently passed: turn a gate off under `disabled`."""

    min_accuracy: float = Field(0.7, ge=0, le=1, description="Floor of test accuracy.")
    min_f1: float = Field(0.65, ge=0, le=1, description="Floor of test F1.")
    min_roc_auc: float = Field(0.75, ge=0, le=1, description="Floor of test ROC-AUC.")
    max_accuracy_loss: float = Field(
        0.005, ge=0, le=1, description="Non-inferiority margin to the champion, in accuracy."
    )
    max_slice_loss: float = Field(0.02, ge=0, le=1, description="The same margin on every slice.")
    min_slice_pairs: int = Field(1000, ge=2, description="Smaller slices are reported, not judged.")
    min_clusters: int = Field(
        20, ge=2, description="Fewest groups of connected test sentences from which an interval is computed."
    )
    min_teacher_retention: float = Field(0.95, ge=0, description="Least challenger accuracy divided by the teacher's.")
    max_calibration_error: float = Field(0.05, ge=0, le=1, description="Largest expected calibration error.")
    max_p99_latency_ms: float = Field(10.0, gt=0, description="Budget for p99 of one pair, milliseconds.")
    max_latency_ratio: float = Field(1.10, gt=0, description="Largest p50 and p99 relative to the champion's.")
    max_cold_start_ms: float = Field(
        30_000.0, gt=0, description="Budget from starting a process to its first answer, milliseconds."
    )
    max_memory_mb: float = Field(
        1_000.0, gt=0, description="Budget for the resident memory of the serving process at its peak, megabytes."
    )
    max_artifact_mb: float = Field(50.0, gt=0, description="Largest served artifact with tokenizer, megabytes.")
    max_disturbance: float = Field(
        0.2,
        gt=0,
        description="A latency run in which the machine changed by more than this share decides nothing.",
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="One-sided confidence of every interval.")
    resamples: int = Field(10_000, ge=1000, description="Bootstrap resamples.")
    attempts: int = Field(4, ge=1, description="Measurements taken before an inconclusive answer is final.")
    require_superiority: bool = Field(
        False, description="Also demand that the challenger is better, not just no worse."
    )
    max_test_uses: int = Field(100, ge=1, description="Challengers a test split decides on before it counts as worn.")
    after_max_test_uses: Literal["ladder", "refuse"] = Field(
        "ladder",
        description="With a worn test split: only a gain larger than its standard error passes (the Ladder), or none.",
    )
    max_changed_decisions: float = Field(
        0.05, ge=0, le=1, description="Largest share of decisions that casing, punctuation or full width may change."
    )
    min_changed_pairs: int = Field(
        100, ge=1, description="A change that applies to fewer test pairs is reported, not judged."
    )
    golden_pairs: Path | None = Field(None, description="CSV of text_a,text_b,label that must all stay right.")
    disabled: tuple[str, ...] = Field((), description="Names of gates that are off; the report shows them as off.")
