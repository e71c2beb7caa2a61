"""Latency measured on another machine: an order in the object store, and the run that comes back.

    latency/<digest>/order.json    which versions are to be timed, and on which texts
    latency/<digest>/timings.json  what came of it

The digest is over the order with its nonce, so each attempt is a fresh run. Whoever placed an order removes it and its
result: texts are in the object store only while they are needed.
"""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from restill.errors import IntegrityError, MeasurementFailed
from restill.manifests import WITH_SERVED, Manifest, Sha256, digest_json
from restill.measurements.latency.conducting import conduct
from restill.measurements.latency.records import Artifact, Run
from restill.registry import Registry
from restill.storage.objects import ObjectNotFound, ObjectStore

ROOT = "latency/"

_ABANDONED_AFTER = timedelta(days=2)  # longer than any run may take
_JSON = "application/json"


class OrderedVersion(BaseModel):
    """A version, and the digest that its manifest must have: the manifest names what is served, byte by byte."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Sha256
    manifest_sha256: Sha256


class Order(BaseModel):
    """One latency run, as a machine that has no data set can take it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    challenger: OrderedVersion
    champion: OrderedVersion | None
    pairs: tuple[tuple[str, str], ...] = Field(min_length=1)
    requests: int = Field(ge=1)
    warmup: int = Field(ge=1)
    threads: int = Field(ge=1)
    nonce: str

    @property
    def key(self) -> str:
        """Return where the order is."""
        return f"{self._folder}order.json"

    @property
    def run_key(self) -> str:
        """Return where its run is put."""
        return f"{self._folder}timings.json"

    @property
    def _folder(self) -> str:
        return f"{ROOT}{digest_json(self.model_dump(mode='json'))}/"


def place(
    registry: Registry,
    challenger: Manifest,
    champion: Manifest | None,
    pairs: Sequence[tuple[str, str]],
    *,
    requests: int,
    warmup: int,
    threads: int,
) -> Order:
    """Put an order into the registry's object store; what others left there days ago is removed.

    Raises: StorageUnreachable; IntegrityError if a stored manifest is damaged.
    """
    for found in list(registry.store.list(ROOT)):
        if datetime.now(UTC) - found.modified > _ABANDONED_AFTER:
            registry.store.delete(found.key)

    def ordered(manifest: Manifest) -> OrderedVersion:
        return OrderedVersion(version=manifest.version, manifest_sha256=registry.manifest_sha256(manifest.version))

    order = Order(
        model=registry.model,
        challenger=ordered(challenger),
        champion=None if champion is None else ordered(champion),
        pairs=tuple(pairs),
        requests=requests,
        warmup=warmup,
        threads=threads,
        nonce=secrets.token_hex(16),
    )
    registry.store.create(order.key, order.model_dump_json().encode(), content_type=_JSON)
    return order


def fulfil(key: str, store: ObjectStore, cache: Path) -> Run:
    """Fetch what an order names, verified by its manifests' digests; time it, and store the run.

    Args:
        key: of the order.
        store: where order and registry are.
        cache: folder for downloaded versions.
    Raises: MeasurementFailed if there is no such order, or timing fails; IntegrityError, VersionNotFound.
    """
    order = _read(key, store)
    registry = Registry(store, order.model)

    def fetched(ordered: OrderedVersion) -> Artifact:
        manifest = registry.manifest(ordered.version, sha256=ordered.manifest_sha256)
        roles = (manifest.artifact_role, *WITH_SERVED)
        folder = registry.fetch(manifest, cache, roles=roles, manifest_sha256=ordered.manifest_sha256)
        return Artifact(folder, manifest.served_path)

    run = conduct(
        fetched(order.challenger),
        None if order.champion is None else fetched(order.champion),
        order.pairs,
        requests=order.requests,
        warmup=order.warmup,
        threads=order.threads,
    )
    store.create(order.run_key, run.document(), content_type=_JSON)
    return run


def collect(store: ObjectStore, order: Order) -> Run:
    """Return the run that came of an order.

    Raises: MeasurementFailed if there is none, or it is not what was ordered; StorageUnreachable.
    """
    try:
        run = Run.parse(store.get(order.run_key))
        if (run.champion is None) != (order.champion is None) or run.threads != order.threads:
            raise ValueError("it is of another order")
    except ObjectNotFound as error:
        raise MeasurementFailed(
            f"The worker that timed the artifacts has stored nothing under {store.uri(order.run_key)}.",
            hint="See that it uses this object store: the same endpoint, bucket and prefix.",
        ) from error
    except ValueError as error:
        raise MeasurementFailed(
            f"{store.uri(order.run_key)} is not the run of this order: {error}.",
            hint="See that the same Restill is installed here and on the worker.",
        ) from error
    return run


def remove(store: ObjectStore, order: Order) -> None:
    """Remove an order and its run; none there is fine.

    Raises: StorageUnreachable.
    """
    store.delete(order.key)
    store.delete(order.run_key)


def forget(store: ObjectStore) -> None:
    """Remove every order, with its texts. A run that needs one stops, and measuring has to be asked for again.

    Raises: StorageUnreachable.
    """
    for found in list(store.list(ROOT)):
        store.delete(found.key)


def _read(key: str, store: ObjectStore) -> Order:
    try:
        order = Order.model_validate_json(store.get(key))
    except ObjectNotFound as error:
        raise MeasurementFailed(
            f"There is no order {store.uri(key)}.",
            hint="Whoever placed it has given up; or this machine uses another object store.",
        ) from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise IntegrityError(f"{store.uri(key)} is no order: {wrong}.", hint="Run again: it is placed anew.") from error
    if order.key != key:
        raise IntegrityError(
            f"{store.uri(key)} is not the order that it is named for.", hint="Run again: it is placed anew."
        )
    return order
