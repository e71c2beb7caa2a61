"""Where everything of one model lies in the registry: names of keys, and nothing else.

registry/<model>/blobs/sha256/<digest>                           files, by content
registry/<model>/versions/<version>/manifest.json                what makes a version; last write
registry/<model>/versions/<version>/retired.json                 it is going to be removed, or was
registry/<model>/versions/<version>/verdicts|predictions|timings|reports/…
registry/<model>/test-splits/<test version>/<version>.json       on what a test split has decided
registry/<model>/aliases/<alias>/<20-digit sequence>.json        the truth about what is live
registry/<model>/approvals/<alias>/requests|decisions/…          what waits for a person, and what they decided
registry/<model>/gc/<id>.json                                    a removal is under way
registry/<model>/<alias>.json                                    derived: pointer for shell scripts
serving/<model>/<sequence>/…                                     derived: for TensorFlow Serving
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from restill.manifests import require_name

DEFAULT_ALIAS = "champion"
EVIDENCE = {"predictions": "parquet", "timings": "json"}
_VERSION = re.compile(r"[0-9a-f]{64}")
_ENTRY = re.compile(r"\d{20}\.json")


@dataclass(frozen=True)
class Layout:
    """The keys of one model."""

    model: str

    @property
    def root(self) -> str:
        """Return the folder that holds everything but what is derived for other programs."""
        return f"registry/{self.model}"

    @property
    def blobs(self) -> str:
        """Return the folder of files by content."""
        return f"{self.root}/blobs/sha256/"

    @property
    def versions(self) -> str:
        """Return the folder of versions."""
        return f"{self.root}/versions/"

    @property
    def aliases(self) -> str:
        """Return the folder of aliases."""
        return f"{self.root}/aliases/"

    @property
    def removals(self) -> str:
        """Return the folder of marks of removals that are under way."""
        return f"{self.root}/gc/"

    def blob(self, digest: str) -> str:
        """Return the key of a file's bytes."""
        return f"{self.blobs}{digest}"

    def version(self, version: str) -> str:
        """Return the folder of a version, without the slash."""
        return f"{self.versions}{version}"

    def manifest(self, version: str) -> str:
        """Return the key of a version's manifest."""
        return f"{self.version(version)}/manifest.json"

    def retired(self, version: str) -> str:
        """Return the key of the mark that a version is going to be removed, or was."""
        return f"{self.version(version)}/retired.json"

    def verdict(self, version: str, digest: str) -> str:
        """Return the key of a verdict."""
        return f"{self.verdict_folder(version)}{digest}.json"

    def verdict_folder(self, version: str) -> str:
        """Return the folder of a version's verdicts."""
        return f"{self.version(version)}/verdicts/"

    def evidence(self, version: str, name: str, digest: str) -> str:
        """Return the key of what a verdict was computed from."""
        return f"{self.version(version)}/{name}/{digest}.{EVIDENCE[name]}"

    def report(self, version: str, verdict: str, suffix: str) -> str:
        """Return the key of a verdict's report."""
        return f"{self.version(version)}/reports/{verdict}.{suffix}"

    def test_split(self, test_version: str) -> str:
        """Return the folder of what a test split has decided on."""
        return f"{self.root}/test-splits/{test_version or 'none'}/"

    def alias(self, alias: str) -> str:
        """Return the folder of an alias's history.

        Raises: ConfigurationError for what cannot be an alias.
        """
        return f"{self.aliases}{require_name(alias, 'an alias')}/"

    def entry(self, alias: str, sequence: int) -> str:
        """Return the key of one line of a history."""
        return f"{self.alias(alias)}{sequence:020d}.json"

    def approval_requests(self, alias: str, version: str = "") -> str:
        """Return the folder of what waits or waited for a person to decide, of a version or of all."""
        folder = f"{self.root}/approvals/{require_name(alias, 'an alias')}/requests/"
        return f"{folder}{version}/" if version else folder

    def approval_request(self, alias: str, version: str, verdict: str) -> str:
        """Return the key of a request for approval."""
        return f"{self.approval_requests(alias, version)}{verdict}.json"

    def approval_decision(self, alias: str, version: str, verdict: str) -> str:
        """Return the key of what was decided on a request."""
        return f"{self.root}/approvals/{require_name(alias, 'an alias')}/decisions/{version}/{verdict}.json"

    def pointer(self, alias: str) -> str:
        """Return the key of the derived pointer of an alias."""
        return f"{self.root}/{require_name(alias, 'an alias')}.json"

    def serving(self, alias: str) -> str:
        """Return the folder of numbered directories of an alias; `@` is in no model's name."""
        return f"serving/{self.model}{'' if alias == DEFAULT_ALIAS else f'@{alias}'}/"

    def version_of(self, key: str) -> str | None:
        """Return the version that a key under `versions` belongs to."""
        name = key.removeprefix(self.versions).split("/")[0]
        return name if key.startswith(self.versions) and _VERSION.fullmatch(name) else None

    def is_entry(self, key: str) -> bool:
        """Return whether a key can be a line of a history."""
        return key.startswith(self.aliases) and _ENTRY.fullmatch(PurePosixPath(key).name) is not None
