"""DVC and its working copy: what the versions in `restill.snapshots` are made with. Callers hold the lock."""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import filelock
from botocore.exceptions import BotoCoreError, ClientError

from restill.errors import DataMissing, IntegrityError, RestillError, StorageUnreachable
from restill.files import write_whole
from restill.snapshots import contents
from restill.snapshots.contents import FileRecord
from restill.storage.objects import ObjectStore

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.repo import Repo

POINTER = "data.dvc"
DATA = Path("data")
PAIRS = DATA / "pairs"

# What .dvc/ holds in a project; it is written where it is missing.
DVC_CONFIG = """\
[core]
    remote = restill
    analytics = false
    check_update = false
['remote "restill"']
    url = s3://restill/dvc
"""
DVC_IGNORED = "/config.local\n/tmp\n/cache\n"

REMOTE = "restill"
REMOTE_KEY = "dvc"
LOCK_SECONDS = 60 * 60  # a second ingestion queues behind the first
REQUESTS_AT_ONCE = 8
FEW_OBJECTS = 32  # up to so many are asked for one by one; a listing answers for 1,000 at once


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Let one process at a time change the data set; others queue. A thread may nest it.

    Raises: RestillError after an hour.
    """
    path = root / ".restill" / "data.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path, is_singleton=True)
    try:
        with lock.acquire(timeout=LOCK_SECONDS):
            yield
    except filelock.Timeout as error:
        raise RestillError(
            f"Another process has been changing the data set for {LOCK_SECONDS // 60} minutes (it holds {path}).",
            hint="Look for another restill process; end it if it hangs. Nothing was changed.",
        ) from error


def named_version(root: Path) -> str | None:
    """Return the version that data.dvc names; None if there is no data.dvc.

    Raises: IntegrityError if data.dvc is not a pointer to one folder, for example in a merge conflict.
    """
    path = root / POINTER
    try:
        return pointed_version(path.read_bytes(), path)
    except FileNotFoundError:
        return None


def pointed_version(pointer: bytes, where: object) -> str:
    """Return the version that the content of a data.dvc names.

    Args:
        where: what to call it in the error.
    Raises: IntegrityError if it is not a pointer to one folder, for example in a merge conflict.
    """
    text = pointer.decode("utf-8", "replace")
    found = re.findall(r"^[\s-]*md5:\s*['\"]?([0-9a-f]{32})\.dir['\"]?\s*$", text, re.MULTILINE)
    if len(found) != 1:
        raise IntegrityError(
            f"{where} names {len(found)} data versions instead of one.",
            hint=f"Resolve the merge conflict, or bring it back: git checkout {POINTER}",
        )
    return str(found[0])


def pointed_number(pointer: bytes, name: str, where: object) -> int:
    """Return `size` or `nfiles` of the content of a data.dvc.

    Raises: IntegrityError if it has none.
    """
    found = re.search(rf"^[\s-]*{name}:\s*(\d+)\s*$", pointer.decode("utf-8", "replace"), re.MULTILINE)
    if found is None:
        raise IntegrityError(f"{where} has no {name}.", hint="It was not written by DVC.")
    return int(found[1])


def configure_remote(root: Path, store: ObjectStore) -> None:
    """Point DVC's remote at the object store, for this machine only: .dvc/config.local, readable by its owner."""
    connection = store.connection
    remote: dict[str, Any] = {"url": store.uri(REMOTE_KEY), "region": connection.region, "verify": True}
    if connection.endpoint_url is not None:
        remote["endpointurl"] = connection.endpoint_url
    if connection.access_key_id is not None:
        remote["access_key_id"] = connection.access_key_id
    if connection.secret_access_key is not None:
        remote["secret_access_key"] = connection.secret_access_key
    folder = root / ".dvc"
    for name, content in (("config", DVC_CONFIG), (".gitignore", DVC_IGNORED)):
        if not (folder / name).is_file():
            write_whole(folder / name, content.encode())
    path = folder / "config.local"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    path.chmod(0o600)  # one that was there before may have been readable by others
    from dvc.config import Config

    config = Config(str(folder))
    if config.load_one("local").get("remote", {}).get(REMOTE) != remote:
        with config.edit("local") as local:
            local.setdefault("remote", {})[REMOTE] = remote


@contextmanager
def opened(root: Path, store: ObjectStore | None = None) -> "Iterator[Repo]":
    """Open the DVC repository: quietly, its caches inside the project, waiting for other DVC processes.

    Git is left alone (`no_scm`): nothing here needs it, and DVC would else rewrite .gitignore.
    """
    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    from dvc.repo import Repo, lock_repo

    for name in ("dvc", "dvc_data", "dvc_objects"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters comes as an exception
    core = {"site_cache_dir": str(root / ".restill" / "cache" / "dvc"), "no_scm": True}
    with (
        _reached_directly(store),
        Repo(str(root), config={"core": core}, _wait_for_lock=True) as repo,
        lock_repo(repo),
    ):
        yield repo


@contextmanager
def _reached_directly(store: ObjectStore | None) -> Iterator[None]:
    """Keep DVC from sending requests for this machine itself to a proxy named in the environment."""
    host = urlsplit(store.connection.endpoint_url or "").hostname if store else None
    before = {name: os.environ.get(name) for name in ("NO_PROXY", "no_proxy")}
    if host in ("127.0.0.1", "localhost", "::1"):
        for name, value in before.items():
            os.environ[name] = f"{value},{host}" if value else host
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def stage_of(repo: "Repo") -> Any:
    """Return DVC's stage of data.dvc; a new one, nowhere written yet, if there is none."""
    path = Path(repo.root_dir) / POINTER
    if path.is_file():
        return repo.stage.load_one(str(path))
    return repo.stage.create(
        single_stage=True, validate=False, fname=str(path), wdir=repo.root_dir, outs=[str(DATA)], force=True
    )


def named_output(repo: "Repo") -> "Output":
    """Return the data folder as data.dvc names it."""
    (out,) = stage_of(repo).outs
    return out


def write_pointer(root: Path, stage: Any) -> None:
    """Write data.dvc in DVC's own form, but whole or not at all."""
    from dvc.stage.serialize import to_single_stage_file
    from dvc.utils.serialize import dumps_yaml

    content = dumps_yaml(to_single_stage_file(stage)).encode()
    path = root / POINTER
    if not path.is_file() or path.read_bytes() != content:
        write_whole(path, content)


def point(out: "Output", version: str, *, size: int, nfiles: int) -> None:
    """Make `out` name a version; nothing is written."""
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.meta import Meta

    out.obj = out.files = None
    out.hash_info = HashInfo("md5", f"{version}.dir")
    out.meta = Meta(size=size, nfiles=nfiles, isdir=True)


def take_in(repo: "Repo", out: "Output", files: Sequence[FileRecord]) -> None:
    """Make `out` name exactly these files of the working copy, all of them in DVC's local cache.

    As `dvc add`, but only what is new is touched: DVC looks at every stored file, several times.
    """
    from dvc_data.hashfile.db import add_update_tree
    from dvc_data.hashfile.tree import Tree

    cache = repo.cache.local
    lacking: dict[str, str] = {}
    for file in files:
        held = cached(repo, file.md5)
        if not held.is_file() or held.stat().st_size != file.bytes:
            held.unlink(missing_ok=True)
            lacking[file.md5] = out.fs.join(out.fs_path, file.path)
    if lacking:
        cache.add(list(lacking.values()), out.fs, list(lacking), hardlink=False, check_exists=False)
    tree = Tree.from_list(json.loads(contents.listing(files)), hash_name="md5")
    tree.digest()
    version = contents.version_of(files)
    if tree.oid != f"{version}.dir":
        raise AssertionError(f"DVC calls these files {tree.oid}, Restill {version}")
    point(out, version, size=sum(file.bytes for file in files), nfiles=len(files))
    out.obj = add_update_tree(cache, tree)


def cached(repo: "Repo", digest: str) -> Path:
    """Return where DVC's local cache keeps an object, whether it is there or not."""
    return Path(repo.cache.local.oid_to_path(digest))


def digests(out: "Output") -> dict[str, str]:
    """Return the digest of every file of a version, by its path in the data folder; the folder's must be here."""
    return {"/".join(key): entry.value for key, _, entry in out.get_obj()}


def fetch(repo: "Repo", out: "Output", store: ObjectStore) -> None:
    """Bring what DVC's local cache lacks of a version from the remote.

    Raises: DataMissing, StorageUnreachable.
    """
    from dvc_data.hashfile.hash_info import HashInfo

    def bring(wanted: set[str]) -> None:
        lacking = {digest for digest in wanted if not cached(repo, digest).is_file()}
        if not lacking:
            return
        absent = [digest for digest, size in _sizes(store, lacking).items() if size is None]
        if not absent:
            with translated(f"data version {out.hash_info.value}"):
                _forget_remote(repo)
                # DVC reads the remote's objects back against their names (`verify`) and drops the ones that lie.
                repo.cloud.pull({HashInfo("md5", digest) for digest in lacking})
            absent = [digest for digest in lacking if not cached(repo, digest).is_file()]
        if absent:
            raise DataMissing(
                f"{len(absent)} of {len(wanted)} objects of data version {out.hash_info.value[:12]} are neither on "
                f"this machine nor whole in the DVC remote, for example {store.uri(key(absent[0]))}.",
                hint="Is storage configured as it was when the data was pushed? An older version may be complete: "
                f"git log -- {POINTER}",
            )

    bring({out.hash_info.value})
    bring(set(digests(out).values()))


def put_back(repo: "Repo", out: "Output") -> None:
    """Make the working copy what `out` names; all of that must be in DVC's local cache.

    Raises: IntegrityError if the cache holds something else under an object's name.
    """
    root = Path(repo.root_dir)
    set_aside(root, repo, digests(out))
    with translated(f"data version {out.hash_info.value}"):
        out.checkout(force=True)
    found = f"{contents.version_of(scan(root))}.dir"
    if found != out.hash_info.value:
        raise IntegrityError(
            f"The working copy came out as {found} instead of {out.hash_info.value}: DVC's local cache is damaged.",
            hint=f"Delete {Path(repo.cache.local.path)} and run again: it is fetched anew from the remote.",
        )


def scan(root: Path) -> tuple[FileRecord, ...]:
    """Return the files of the working copy; only those that changed since the last time are read."""
    return contents.scan(root / DATA, memory=root / ".restill" / "cache" / "data-files.json")


def set_aside(root: Path, repo: "Repo | None", named: dict[str, str]) -> None:
    """Clear the working copy of files that are not named; what DVC has no copy of is moved, not deleted."""
    top = root / (DATA if named else PAIRS)
    for path in sorted(top.rglob("*"), reverse=True):  # folders come after what is in them
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
            continue
        relative = path.relative_to(root / DATA)
        digest = _md5(path) if path.is_file() else ""
        if digest and named.get(relative.as_posix()) == digest:
            continue
        if repo is not None and digest and cached(repo, digest).is_file():
            path.unlink()
            continue
        aside = root / ".restill" / "set-aside" / relative
        aside.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, aside)


def push(repo: "Repo", out: "Output", store: ObjectStore, *, trusted: AbstractSet[str] = frozenset()) -> None:
    """Push what the remote lacks of a version, the folder's object last, and read back what was pushed.

    Args:
        trusted: objects that are not asked for: the caller knows that the remote holds them.
    Raises: StorageUnreachable; IntegrityError if an object in the remote is not what its name says.
    """
    from dvc_objects.fs.generic import copy

    files = set(digests(out).values())
    remote = repo.cloud.get_remote_odb(REMOTE)
    for wanted in (files - trusted, {out.hash_info.value}):
        lacking = _lacking(repo, store, wanted)
        if not lacking:
            continue
        with translated(f"data version {out.hash_info.value}"):
            # What `dvc push` ends in; before, it would list the remote to find out what is known here.
            ordered = sorted(lacking)
            sources = [str(cached(repo, digest)) for digest in ordered]
            copy(repo.cache.local.fs, sources, remote.fs, [remote.oid_to_path(digest) for digest in ordered])
        if _lacking(repo, store, lacking):
            raise StorageUnreachable(
                f"The DVC remote {store.uri(REMOTE_KEY)} did not take all of {len(lacking)} objects.",
                hint="Check the object store and its free space, then run again. The data set is as before.",
            )
        scratch = Path(repo.root_dir) / ".restill" / "cache" / "read-back"
        for digest in sorted(lacking):
            store.download(key(digest), scratch)
            found = _md5(scratch)
            scratch.unlink()
            if found != digest.removesuffix(".dir"):
                raise IntegrityError(
                    f"The pushed object {store.uri(key(digest))} is damaged: "
                    f"expected MD5 {digest.removesuffix('.dir')}, found {found}.",
                    hint="Delete that object and run again: it is pushed anew.",
                )


def _forget_remote(repo: "Repo") -> None:
    """Drop what DVC and its S3 client remember of the remote: they believe it before they ask, and it may be stale."""
    from dvc_data.hashfile.db import get_index

    odb = repo.cloud.get_remote_odb(REMOTE)
    get_index(odb).clear()
    odb.fs.fs.invalidate_cache()


def _lacking(repo: "Repo", store: ObjectStore, digests: set[str]) -> set[str]:
    """Return which objects the remote does not have.

    Raises: IntegrityError if it has one of another size.
    """
    lacking = set()
    for digest, size in _sizes(store, digests).items():
        expected = cached(repo, digest).stat().st_size
        if size is None:
            lacking.add(digest)
        elif size != expected:
            raise IntegrityError(
                f"{store.uri(key(digest))} has {size:,} bytes instead of {expected:,}.",
                hint="Delete that object and run again: it is pushed anew.",
            )
    return lacking


def _sizes(store: ObjectStore, digests: set[str]) -> dict[str, int | None]:
    """Return the size of each object in the remote, None where there is none."""
    ordered = sorted(digests)
    if len(ordered) > FEW_OBJECTS:
        found = sizes_in_remote(store)
        return {digest: found.get(key(digest)) for digest in ordered}
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        infos = pool.map(lambda digest: store.head(key(digest)), ordered)
        return {digest: info.size if info else None for digest, info in zip(ordered, infos, strict=True)}


def sizes_in_remote(store: ObjectStore) -> dict[str, int]:
    """Return the size of every object in the DVC remote, by its key in the store."""
    return {info.key: info.size for info in store.list(f"{REMOTE_KEY}/files/md5/")}


def key(digest: str) -> str:
    """Return where the DVC remote keeps an object, as a key of the store."""
    return f"{REMOTE_KEY}/files/md5/{digest[:2]}/{digest[2:]}"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn DVC's errors, and what its S3 client lets through, into ours."""
    from dvc.exceptions import DvcException

    try:
        yield
    except (DvcException, BotoCoreError, ClientError, OSError) as error:
        raise StorageUnreachable(
            f"DVC could not store or exchange {what}: {str(error).rstrip('.')}.",
            hint="Check the object store (restill up) and the free space here, then run again. "
            "The data set is as before.",
        ) from error
