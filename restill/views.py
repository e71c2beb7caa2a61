"""What is derived from a history for other programs, and can always be made again from it.

`<alias>.json` points shell scripts to the champion; `serving/<model>/<sequence>/` is TensorFlow Serving's layout. Both
are written after the log entry. They are the only objects that are overwritten, and that is safe: nothing in Restill
reads them, a numbered directory always gets the same bytes, and the pointer only moves on. It is read before the log
is, and replaced only if it still is what was read (`If-Match`): who was overtaken cannot put it back.
"""

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from restill.errors import StorageUnreachable
from restill.manifests import FileEntry, Manifest, PromotionEntry, canonical_json
from restill.storage.objects import ObjectNotFound

if TYPE_CHECKING:
    from restill.registry import Registry

SAVED_MODEL = "saved_model"  # role
COMPLETE = "saved_model.pb"  # servers take this file as the sign that a directory is whole: copied last, removed first
ATTEMPTS = 8
KEPT = 2  # numbered directories: the champion's, and the one that a server may still be loading


def rebuild(registry: "Registry", alias: str, *, thorough: bool = False) -> list[str]:
    """Make the derived views of an alias what its history says; returns what was written or removed.

    Args:
        thorough: also hash what is there, and remove what does not belong there.
    Raises: IntegrityError if what they are made from is damaged; StorageUnreachable.
    """
    # Listed before the history is read: a directory of a number above its end is then really nobody's.
    listed = _directories(registry, alias) if thorough else {}
    pointed, done = _point(registry, alias)
    if pointed is None:
        return done
    entry, manifest = pointed
    done += _serve(registry, entry, manifest, thorough=thorough)
    for number in sorted(listed):
        if number > entry.sequence:
            done += _remove(registry, listed[number])
    return done


def outdated(registry: "Registry", alias: str) -> list[str]:
    """Return the keys of numbered directories that no server needs any more, each directory's sign first."""
    numbers = _directories(registry, alias)
    entry = registry.champion(alias)
    old = [number for number in sorted(numbers) if entry is not None and number <= entry.sequence - KEPT]
    return [key for number in old for key in _sign_first(numbers[number])]


def pointer(registry: "Registry", entry: PromotionEntry, manifest: Manifest) -> bytes:
    """Return the pointer to an entry's version; it follows from the log alone."""
    served = next(file for file in manifest.files if file.path == manifest.served_path)
    return canonical_json(
        {
            "model": entry.model,
            "alias": entry.alias,
            "sequence": entry.sequence,
            "version": entry.version,
            "promoted_at": entry.at.isoformat(),
            "manifest": registry.layout.manifest(entry.version),
            "manifest_sha256": entry.manifest_sha256,
            "served": {"key": registry.layout.blob(served.sha256), "sha256": served.sha256, "path": served.path},
        }
    )


def _point(registry: "Registry", alias: str) -> tuple[tuple[PromotionEntry, Manifest] | None, list[str]]:
    key = registry.layout.pointer(alias)
    done: list[str] = []
    manifest: Manifest | None = None
    for _ in range(ATTEMPTS):
        try:
            stored, etag = registry.store.get_tagged(key)
        except ObjectNotFound:
            stored, etag = None, None
        entry = registry.champion(alias)  # after the pointer was read: see above
        if entry is None:
            return None, _remove(registry, [key]) if stored is not None else done
        if manifest is None or manifest.version != entry.version:
            manifest = registry.manifest(entry.version, sha256=entry.manifest_sha256)
        wanted = pointer(registry, entry, manifest)
        if stored == wanted:
            return (entry, manifest), done
        registry.store.replace(key, wanted, etag=etag, content_type="application/json")
        done = [key]
    raise StorageUnreachable(
        f"{registry.store.uri(key)} could not be brought up to date in {ATTEMPTS} attempts.",
        hint="Either promotions follow each other closely, or the server does not know If-Match. The history is whole.",
    )


def _serve(registry: "Registry", entry: PromotionEntry, manifest: Manifest, *, thorough: bool) -> list[str]:
    store = registry.store
    folder = f"{registry.layout.serving(entry.alias)}{entry.sequence}/"
    wanted = {folder + path: file for path, file in _saved_model(manifest).items()}
    stored = {item.key: item.size for item in store.list(folder)}
    wrong = [
        key
        for key, file in wanted.items()
        if stored.get(key) != file.bytes or (thorough and store.digest(key) != file.sha256)
    ]
    stray = [key for key in stored if key not in wanted] if thorough else []
    sign = folder + COMPLETE
    done: list[str] = []
    if sign in stored and (wrong or stray):
        done += _remove(registry, [sign])
        wrong = list(dict.fromkeys([*wrong, sign])) if sign in wanted else wrong
    done += _remove(registry, stray)
    for key in sorted(wrong, key=lambda name: name == sign):
        source = registry.layout.blob(wanted[key].sha256)
        if thorough and (found := store.digest(source)) != wanted[key].sha256:
            raise registry.wrong(source, wanted[key].sha256, found)
        store.copy(source, key)
    return list(dict.fromkeys([*done, *wrong]))


def _saved_model(manifest: Manifest) -> dict[str, FileEntry]:
    """Return the files of a version's SavedModel by their path in its folder; empty if it holds none."""
    files = [file for file in manifest.files if file.role == SAVED_MODEL]
    roots = [PurePosixPath(file.path).parent for file in files if PurePosixPath(file.path).name == COMPLETE]
    return {
        PurePosixPath(file.path).relative_to(root).as_posix(): file
        for root in roots[:1]
        for file in files
        if PurePosixPath(file.path).is_relative_to(root)
    }


def _directories(registry: "Registry", alias: str) -> dict[int, list[str]]:
    """Return the stored keys of each numbered directory."""
    start = registry.layout.serving(alias)
    found: dict[int, list[str]] = {}
    for item in registry.store.list(start):
        number = item.key.removeprefix(start).split("/")[0]
        if number.isdecimal():
            found.setdefault(int(number), []).append(item.key)
    return found


def _sign_first(keys: list[str]) -> list[str]:
    return sorted(keys, key=lambda key: PurePosixPath(key).name != COMPLETE)


def _remove(registry: "Registry", keys: list[str]) -> list[str]:
    for key in _sign_first(keys):
        registry.store.delete(key)
    return keys
