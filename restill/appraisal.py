"""How well a registered version, and the champion beside it, answer the test split of any version of the data set."""

from dataclasses import dataclass

from restill import evaluation, snapshots
from restill.evaluation import Appraisal, Candidate
from restill.manifests import Manifest
from restill.measurements import Interval
from restill.measurements.rows import read_rows
from restill.registry import Registry
from restill.settings import GateSettings, Settings
from restill.snapshots import Snapshot


@dataclass(frozen=True)
class Appraised:
    """What was measured, of which versions, on which data."""

    manifests: dict[str, Manifest]  # "version", and "champion" if that is another one
    snapshot: Snapshot
    found: Appraisal

    @property
    def rows(self) -> list[dict[str, str | int | float | None]]:
        """Return a line for each version; None: not measurable."""
        return [
            {
                "": name,
                "version": self.manifests[name].short,
                "pairs": taken.pairs,
                "accuracy": taken.accuracy,
                "F1": taken.f1,
                "ROC-AUC": taken.roc_auc,
                "calibration error": taken.calibration_error,
            }
            for name, taken in self.found.accuracy.items()
        ]

    @property
    def difference(self) -> Interval | None:
        """Return the version's accuracy minus the champion's; None if there is nothing to compare."""
        return self.found.comparison.difference if self.found.comparison else None

    def compared(self, limits: GateSettings) -> str | None:
        """Return the same in a sentence."""
        found = self.difference
        if found is None:
            return None
        return (
            f"Accuracy against the champion: {100 * found.estimate:+.2f} points, {limits.confidence:.0%} bounds "
            f"{100 * found.lower:+.2f} and {100 * found.upper:+.2f}."
        )


def appraise(
    registry: Registry, version: str, data_version: str, limits: GateSettings, settings: Settings
) -> Appraised:
    """Measure a version and the champion; nothing is decided or stored.

    Args:
        registry: where both are.
        version: full id or unique beginning.
        data_version: of the data set, or its beginning.
        limits: confidence and resamples of the comparison.
        settings: where this machine keeps what it downloads, and which alias is the champion.
    Raises: VersionNotFound, IntegrityError, StorageUnreachable; DataMissing if the data cannot be had.
    """
    manifest = registry.manifest(version)
    live = registry.champion(settings.registry.alias)
    manifests = {"version": manifest}
    if live is not None and live.version != manifest.version:
        manifests["champion"] = registry.manifest(live.version)
    snapshot = snapshots.open_version(settings.root, registry.store, data_version)
    cache = settings.state_dir / "cache" / "versions"
    candidates = {name: Candidate(found, registry.fetch(found, cache)) for name, found in manifests.items()}
    return Appraised(manifests, snapshot, evaluation.appraise(candidates, read_rows(snapshot, "test"), limits))
