"""The verdicts that are stored beside a version."""

from restill.gates import Verdict
from restill.manifests import SHORT
from restill.registry import Registry


def stored_verdicts(registry: Registry, version: str) -> list[Verdict]:
    """Return the verdicts on a version, oldest first.

    Raises: IntegrityError if one is not what was stored; ConfigurationError if a newer Restill wrote it.
    """
    return [parse_verdict(document, version) for document in registry.verdicts(version)]


def parse_verdict(document: bytes, version: str) -> Verdict:
    """Return a verdict on a version from what was stored.

    Raises: IntegrityError if it is none; ConfigurationError if a newer Restill wrote it.
    """
    return Verdict.parse(document, f"A verdict on version {version[:SHORT]}")
