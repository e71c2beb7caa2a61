"""What a person calls a version: `champion`, `previous`, `#3` of the history, or the beginning of its id."""

import re

from restill.errors import VersionNotFound
from restill.manifests import Manifest
from restill.registry import Registry

_NUMBER = re.compile(r"#0*([1-9]\d{0,19})")


def find(registry: Registry, alias: str, name: str) -> Manifest:
    """Return the manifest of the version that a person means.

    Args:
        registry: where it is.
        alias: whose history `champion`, `previous` and numbers are of; its own name stands for its live version too.
        name: `champion`, `previous` (what was live directly before), `#` and a number of the history, or a full id or
            unique beginning.
    Raises: VersionNotFound; IntegrityError, also if the promoted manifest is not the stored one.
    """
    wanted = name.strip()
    number = _NUMBER.fullmatch(wanted)
    if wanted not in (alias, "champion", "previous") and number is None:
        return registry.manifest(wanted)
    history = registry.history(alias)
    if not history:
        raise VersionNotFound(
            f"{registry.model} has no {alias} yet, so {wanted} names nothing.", hint="Name a version by its id."
        )
    if number is not None:
        fitting = [entry for entry in history if entry.sequence == int(number[1])]
    elif wanted == "previous":
        fitting = [entry for entry in history if entry.version != history[-1].version][-1:]
    else:
        fitting = history[-1:]
    if not fitting:
        raise VersionNotFound(
            f"The history of {alias} has no {wanted}: {len(history)} entries, the last with number "
            f"{history[-1].sequence}.",
            hint="See it: restill registry history.",
        )
    return registry.manifest(fitting[0].version, sha256=fitting[0].manifest_sha256)
