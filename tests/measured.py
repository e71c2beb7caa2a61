"""Measurements and verdicts for tests: of a challenger that passes everything, with the changes a test makes."""

from restill.measurements import (
    Accuracy,
    Interval,
    Invariance,
    Latency,
    LatencyArm,
    Measurements,
    SliceComparison,
    SplitUse,
)


def interval(estimate, half=0.0):
    return Interval(estimate=estimate, lower=estimate - half, upper=estimate + half)


def accuracy(value=0.9, error=0.02):
    return Accuracy(
        pairs=2000,
        accuracy=value,
        precision=value,
        recall=value,
        f1=value,
        roc_auc=value,
        average_precision=value,
        calibration_error=error,
    )


def latency(
    p50=1.0,
    p99=2.0,
    p50_ratio=1.0,
    p99_ratio=1.0,
    half=0.01,
    disturbance=0.05,
    control=1.0,
    control_half=0.01,
    champion_p99=2.0,
    cold_start=2000.0,
    memory=100.0,
):
    arm = LatencyArm(
        requests=1500,
        p50_ms=interval(p50, half),
        p99_ms=interval(p99, half),
        cold_start_ms=cold_start,
        peak_memory_mb=memory,
    )
    return Latency(
        challenger=arm,
        champion=arm.model_copy(update={"p99_ms": interval(champion_p99, half)}),
        p50_ratio=interval(p50_ratio, half),
        p99_ratio=interval(p99_ratio, half),
        disturbance=disturbance,
        threads=1,
        hardware="test",
        control_p50_ratio=interval(control, control_half),
        control_p99_ratio=interval(control, control_half),
        disturbed_by="two processes with the same artifact",
    )


def changed(share, pairs=900):
    return Invariance(name="casing", pairs=pairs, largest_change=0.5, changed_decisions=share)


def measurements(**changes):
    """A challenger that passes everything, with the changes a test makes."""
    values = {
        "challenger": "c" * 64,
        "champion": "d" * 64,
        "data_version": "e" * 32,
        "accuracy": {"challenger": accuracy(), "champion": accuracy(0.89), "teacher": accuracy(0.92)},
        "difference": interval(0.01, 0.01),
        "slices": (
            SliceComparison(name="language=en", pairs=900, clusters=90, difference=interval(0.01, 0.01), p_value=0.001),
        ),
        "golden_failures": None,
        "latency": latency(),
        "artifact_mb": 3.0,
        "difference_error": 0.006,
        "swap_difference": 0.0,
        "invariances": (Invariance(name="casing", pairs=900, largest_change=0.1, changed_decisions=0.01),),
        "test_split": SplitUse(version="f" * 12, decisions=3),
    }
    return Measurements(**(values | changes))
