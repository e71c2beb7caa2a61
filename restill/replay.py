"""Decide again on a past challenger, under other limits: from what is stored beside its version, without its model."""

import tomllib
from pathlib import Path

from pydantic import ValidationError

from restill import evaluation, gates
from restill.errors import ConfigurationError, IntegrityError, VersionNotFound
from restill.gates import Verdict
from restill.measurements import predictions
from restill.measurements.latency.records import Timings
from restill.measurements.latency.summary import summarise_again
from restill.registry import Registry
from restill.settings import GateSettings
from restill.verdicts import stored_verdicts


def read_limits(path: Path) -> GateSettings:
    """Read limits from a TOML file: the table `[gates]`, or the keys alone.

    Raises: ConfigurationError if it cannot be read or names what is no limit.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
        return GateSettings.model_validate(document.get("gates", document))
    except OSError as error:
        raise ConfigurationError(f"The limits in {path} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ConfigurationError(
            f"The limits in {path} are not valid: {wrong}.", hint="All limits: restill gates list."
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}.") from error


def last_verdict(registry: Registry, version: str) -> Verdict:
    """Return the newest stored verdict on a version.

    Raises: VersionNotFound if there is no such version, or it was never judged.
    """
    manifest = registry.manifest(version)
    found = stored_verdicts(registry, manifest.version)
    if not found:
        raise VersionNotFound(
            f"Version {manifest.short} was never judged.", hint="Only what a retrain has judged can be judged again."
        )
    return found[-1]


def replay(verdict: Verdict, registry: Registry, limits: GateSettings) -> Verdict:
    """Return what would have been decided under other limits. Nothing is stored.

    Intervals are computed anew from the stored predictions and timings, since confidence, margins and which slices are
    large enough are limits too. Golden pairs, swapped sides and changed pairs are taken as they were measured.

    Raises: VersionNotFound if the verdict is older than the storing of predictions; IntegrityError.
    """
    measured = verdict.measurements
    version = measured.challenger
    if measured.predictions_sha256 is None or measured.timings_sha256 is None or measured.latency is None:
        raise VersionNotFound(
            f"Nothing is stored that the verdict on {version[:12]} could be computed from again.",
            hint="It was judged by an earlier Restill. Judge it anew: restill retrain --force.",
        )
    content = registry.evidence(version, "predictions", measured.predictions_sha256)
    rows, answers = predictions.from_parquet(content, f"The predictions of version {version[:12]}")
    try:
        timings = Timings.parse(registry.evidence(version, "timings", measured.timings_sha256))
    except ValueError as error:
        raise IntegrityError(
            f"The timings of version {version[:12]} are none: {error}", hint="Restore the object from a backup."
        ) from error
    again = measured.model_copy(
        update={
            **evaluation.quality(rows, answers, limits),
            "latency": summarise_again(timings, measured.latency, confidence=limits.confidence),
        }
    )
    return gates.judge(again, limits)
