"""Object storage: one door to S3, and an S3 server of our own where none is configured."""

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

from restill.errors import ConfigurationError
from restill.files import write_whole
from restill.settings import StorageSettings
from restill.storage.objects import Connection, ObjectInfo, ObjectNotFound, ObjectStore

__all__ = ["Connection", "ObjectInfo", "ObjectNotFound", "ObjectStore", "configured", "connect", "connect_uri"]

AWS = "aws"


def connect(storage: StorageSettings, state_dir: Path, *, for_reading: bool = False) -> ObjectStore:
    """Return the configured store, ready for writing: bucket there, conditional writes proven once a machine.

    Without an endpoint the embedded server under `state_dir` is started, or found running.

    Args:
        storage: where it is.
        state_dir: the folder of the embedded server and of what was proven.
        for_reading: nothing is created or proven: a reader's key may not write.

    Raises: StorageUnreachable; StorageUnsuitable; ConfigurationError if this platform has no embedded server.
    """
    if storage.endpoint_url is None:
        from restill.storage.embedded import EmbeddedServer  # late: serving has neither psutil nor filelock

        server = EmbeddedServer(state_dir, bucket=storage.bucket, prefix=storage.prefix, region=storage.region)
        store = ObjectStore(server.start())
    else:
        store = ObjectStore(configured(storage))
    if for_reading:
        return store
    place = f"{store.connection.endpoint_url} {store.connection.bucket} {store.connection.prefix}"
    proven = state_dir / "cache" / "proven-stores" / hashlib.sha256(place.encode()).hexdigest()[:16]
    if not proven.is_file():  # once a machine: a command that only reads must not write
        store.ensure_bucket()
        store.probe_conditional_writes()
        write_whole(proven, place.encode())
    return store


def connect_uri(
    uri: str,
    *,
    endpoint_url: str | None = None,
    region: str = "us-east-1",
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
) -> ObjectStore:
    """Return the store at `s3://bucket/prefix` for a reader: nothing is written, created or probed.

    Without keys boto3's own chain finds them (AWS_… variables, profile, role).

    Raises: ConfigurationError if `uri` is not an s3:// address.
    """
    parts = urlsplit(uri)
    if parts.scheme != "s3" or not parts.netloc:
        raise ConfigurationError(f"Not an S3 address: {uri!r}.", hint="Write s3://bucket or s3://bucket/prefix.")
    return ObjectStore(
        Connection(
            endpoint_url=None if endpoint_url == AWS else endpoint_url,
            region=region,
            bucket=parts.netloc,
            prefix=parts.path.strip("/"),
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
        )
    )


def configured(storage: StorageSettings) -> Connection:
    """Return how the configured endpoint is reached, without asking it anything."""
    key, secret = storage.access_key_id, storage.secret_access_key
    return Connection(
        endpoint_url=None if storage.endpoint_url == AWS else storage.endpoint_url,
        region=storage.region,
        bucket=storage.bucket,
        prefix=storage.prefix.strip("/"),
        access_key_id=key.get_secret_value() if key else None,
        secret_access_key=secret.get_secret_value() if secret else None,
    )
