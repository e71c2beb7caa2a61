"""The S3 client: a few operations, each either done or refused with a message for a person.

Every commit record of Restill is one conditional PUT (`If-None-Match: *`), so that is the one write there is. Digests
are our own SHA-256: an ETag is not a content digest. Light imports only, because serving loads this module.
"""

import contextlib
import hashlib
import http
import ipaddress
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast
from urllib.parse import urlsplit

import boto3
import botocore.exceptions
from botocore.config import Config

from restill.errors import (
    AccessDenied,
    ConfigurationError,
    IntegrityError,
    StorageUnreachable,
    StorageUnsuitable,
    VersionNotFound,
)
from restill.storage.denials import denied

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.literals import BucketLocationConstraintType
    from mypy_boto3_s3.type_defs import ListObjectsV2RequestPaginateTypeDef

MAX_SINGLE_PUT_BYTES = 5 * 1024**3  # S3's limit; multipart uploads are not conditional on every server
CHUNK_BYTES = 1024**2
CONFLICT_ATTEMPTS = 8
DOWNLOAD_ATTEMPTS = 3
LONGEST_LINK_SECONDS = 7 * 24 * 60 * 60  # that S3 presigns for
WRITE, CREATE_BUCKET = "write", "create the bucket"  # operations whose refusals have a meaning of their own
FULL_DISK_SHARE = 0.015  # the embedded server refuses writes when less than 1 % of its disk is free


class ObjectNotFound(VersionNotFound):
    """No object under that key. A kind of VersionNotFound, so the command line reports both alike."""


@dataclass(frozen=True)
class Connection:
    """Where objects are and how to sign requests for them."""

    endpoint_url: str | None  # None: Amazon's own, from the region
    region: str
    bucket: str
    prefix: str  # without slashes at the ends; empty for none
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    data_dir: Path | None = None  # the embedded server's folder, to tell a full disk from other refusals


@dataclass(frozen=True)
class ObjectInfo:
    """One stored object, by its key without the store's prefix."""

    key: str
    size: int
    modified: datetime  # UTC, whole seconds
    etag: str = ""  # changes with the content; it is no digest of it


class ObjectStore:
    """One bucket and prefix. Safe to share between threads; not between processes (make one in each)."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        endpoint = connection.endpoint_url
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 3},
            connect_timeout=3,
            read_timeout=60,
            max_pool_connections=32,
            # Old and small servers do not know boto3's newer default checksums. The signed payload hash
            # protects uploads and our own SHA-256 protects downloads.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"payload_signing_enabled": True, "addressing_style": "path" if endpoint else "auto"},
            # botocore would send even loopback requests to a proxy named in the environment.
            proxies={} if endpoint and _is_loopback(endpoint) else None,
        )
        with self._translated("connect"), _plain_endpoint(endpoint):
            self._client: S3Client = boto3.session.Session().client(
                "s3",
                endpoint_url=endpoint,
                region_name=connection.region,
                aws_access_key_id=connection.access_key_id,
                aws_secret_access_key=connection.secret_access_key,
                config=config,
            )

    def uri(self, key: str = "") -> str:
        """Return the s3:// address of `key`, for people and reports."""
        return f"s3://{self.connection.bucket}/{self._full(key)}"

    def get(self, key: str) -> bytes:
        """Return the bytes of a small object.

        Raises: ObjectNotFound; StorageUnreachable.
        """
        with self._translated("read", key):
            answer = self._client.get_object(Bucket=self.connection.bucket, Key=self._full(key))
            return answer["Body"].read()

    def download(
        self,
        key: str,
        path: Path,
        *,
        sha256: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Stream an object to `path`, which appears whole or not at all; a broken stream is resumed.

        Args:
            sha256: hex digest the bytes must have.
            progress: called with the number of bytes of each chunk that arrived.
        Raises: IntegrityError naming key, expected and found digest; ObjectNotFound; StorageUnreachable.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
        digest = hashlib.sha256()
        try:
            with part.open("wb") as file:
                for attempt in range(1, DOWNLOAD_ATTEMPTS + 1):
                    try:
                        for chunk in self._stream(key, offset=file.tell()):
                            file.write(chunk)
                            digest.update(chunk)
                            if progress is not None:
                                progress(len(chunk))
                        break
                    except StorageUnreachable:
                        if attempt == DOWNLOAD_ATTEMPTS or file.tell() == 0:
                            raise  # before the first byte boto3 has already retried by itself
            if sha256 is not None and digest.hexdigest() != sha256:
                raise IntegrityError(
                    f"{self.uri(key)} does not hold the promised bytes: "
                    f"expected SHA-256 {sha256}, found {digest.hexdigest()}.",
                    hint="The stored object was damaged or replaced. Restore it, or promote another version.",
                )
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def digest(self, key: str) -> str:
        """Return the hex SHA-256 of a stored object's bytes, read as a stream.

        Raises: ObjectNotFound; StorageUnreachable.
        """
        digest = hashlib.sha256()
        for chunk in self._stream(key, offset=0):
            digest.update(chunk)
        return digest.hexdigest()

    def create(self, key: str, body: bytes | Path, *, content_type: str = "application/octet-stream") -> bool:
        """Write an object unless its key is taken (one PUT with `If-None-Match: *`).

        Returns: True if this call is known to have created it, False if it was there. A write whose answer
        was lost on the way also gives False, because boto3's own retry finds the key taken: whoever must know
        reads the object back and looks for a mark of its own.
        Raises: ConfigurationError for a file above S3's 5 GB for one PUT; StorageUnsuitable if the server
        does not know the condition; StorageUnreachable.
        """
        size = body.stat().st_size if isinstance(body, Path) else len(body)
        if size > MAX_SINGLE_PUT_BYTES:
            raise ConfigurationError(
                f"{body if isinstance(body, Path) else key} has {size:,} bytes; "
                f"one conditional write takes at most {MAX_SINGLE_PUT_BYTES:,}.",
                hint="Split the file.",
            )
        for attempt in range(CONFLICT_ATTEMPTS):
            try:
                with self._translated(WRITE, key), _opened(body) as content:
                    self._client.put_object(
                        Bucket=self.connection.bucket,
                        Key=self._full(key),
                        Body=content,
                        ContentType=content_type,
                        IfNoneMatch="*",
                    )
                return True
            except _Taken:
                return False
            except _Busy:  # 409: a write to the same key was under way; S3 asks for another try
                time.sleep(min(2.0, 0.05 * 2**attempt))
        raise StorageUnreachable(
            f"{self.uri(key)} answered {CONFLICT_ATTEMPTS} times that another write is under way.",
            hint="Try again later; if it stays so, a broken upload may hold the key.",
        )

    def head(self, key: str) -> ObjectInfo | None:
        """Return size and time of an object, or None if there is none.

        Raises: StorageUnreachable.
        """
        try:
            with self._translated("look up", key):
                answer = self._client.head_object(Bucket=self.connection.bucket, Key=self._full(key))
        except ObjectNotFound:
            return None
        return ObjectInfo(key, answer["ContentLength"], _whole(answer["LastModified"]), answer["ETag"])

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        """Yield every object whose key starts with `prefix`, in the order of their keys' bytes.

        Args:
            after: only keys behind this one; the server skips the others.
        Raises: StorageUnreachable.
        """
        found: list[ObjectInfo] = []
        start = len(self._full(""))
        asked: ListObjectsV2RequestPaginateTypeDef = {"Bucket": self.connection.bucket, "Prefix": self._full(prefix)}
        if after:
            asked["StartAfter"] = self._full(after)
        with self._translated("list", prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(**asked)
            for page in pages:
                found += [
                    ObjectInfo(item["Key"][start:], item["Size"], _whole(item["LastModified"]), item["ETag"])
                    for item in page.get("Contents", [])
                ]
        # Servers that keep folders list `a/x` before `a-b`; S3's own order is by bytes.
        yield from sorted(found, key=lambda item: item.key.encode())

    def delete(self, key: str) -> None:
        """Delete an object; none there is fine.

        Raises: StorageUnreachable.
        """
        with self._translated("delete", key):
            self._client.delete_object(Bucket=self.connection.bucket, Key=self._full(key))

    def presign(self, key: str, *, seconds: int) -> str:
        """Return a web address that reads `key` without credentials for that many seconds.

        Raises: StorageUnreachable if there are no credentials to sign with.
        """
        with self._translated("presign", key):
            return self._client.generate_presigned_url(
                "get_object",
                Params={"Bucket": self.connection.bucket, "Key": self._full(key)},
                ExpiresIn=seconds,
            )

    def ensure_bucket(self) -> None:
        """Create the bucket if it is missing. Where we may not even look for it, it is taken to be there.

        Raises: StorageUnreachable, also if it may not be created.
        """
        bucket = self.connection.bucket
        try:
            with self._translated("find the bucket"):
                self._client.head_bucket(Bucket=bucket)
            return
        except AccessDenied:  # a role that may list only below its prefix: the first read or write tells
            return
        except ObjectNotFound:
            pass
        try:
            with self._translated(CREATE_BUCKET):
                if self.connection.endpoint_url is None and self.connection.region != "us-east-1":
                    region = cast("BucketLocationConstraintType", self.connection.region)
                    self._client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": region})
                else:
                    self._client.create_bucket(Bucket=bucket)
        except _Taken:
            return  # another process was quicker

    def probe_conditional_writes(self) -> None:
        """Write real probe objects and require that a taken key is refused, one after the other and at once.

        Raises: StorageUnsuitable if a second write, or several of eight at once, are accepted; StorageUnreachable.
        """
        one_by_one, at_once = (f".probe/{secrets.token_hex(16)}" for _ in range(2))
        try:
            self.create(one_by_one, b"first")
            if self.create(one_by_one, b"second"):
                raise self._unsuitable("it replaced an object that a conditional write must not replace")
            with ThreadPoolExecutor(max_workers=8) as pool:
                winners = sum(pool.map(lambda number: self.create(at_once, b"%d" % number), range(8)))
            if winners > 1:
                raise self._unsuitable(f"of eight conditional writes at once it let {winners} win")
        finally:
            # A failure here must not hide the answer above; a few bytes under .probe/ do no harm.
            with contextlib.suppress(StorageUnreachable):
                self.delete(one_by_one)
                self.delete(at_once)

    def _unsuitable(self, what: str) -> StorageUnsuitable:
        return StorageUnsuitable(
            f"The object store at {self._place()} ignores conditional writes (If-None-Match): {what}.",
            hint="Promotions could overwrite each other there. Use AWS S3 or a server with conditional PUT.",
        )

    def _full(self, key: str) -> str:
        return f"{self.connection.prefix}/{key}" if self.connection.prefix else key

    def _place(self) -> str:
        return self.connection.endpoint_url or f"AWS S3 ({self.connection.region})"

    def _stream(self, key: str, *, offset: int) -> Iterator[bytes]:
        with self._translated("read", key):
            if offset:
                answer = self._client.get_object(
                    Bucket=self.connection.bucket, Key=self._full(key), Range=f"bytes={offset}-"
                )
            else:
                answer = self._client.get_object(Bucket=self.connection.bucket, Key=self._full(key))
            body: StreamingBody = answer["Body"]
            with contextlib.closing(body):
                yield from body.iter_chunks(CHUNK_BYTES)

    @contextlib.contextmanager
    def _translated(self, operation: str, key: str | None = None) -> Iterator[None]:
        """Turn botocore's errors into ours; nothing of botocore leaves this module."""
        where = f"{self._place()}, bucket {self.connection.bucket}" + (f", key {key}" if key else "")
        try:
            yield
        except botocore.exceptions.ClientError as error:
            raise self._refusal(error, operation, where, key) from error
        except (
            botocore.exceptions.NoCredentialsError,
            botocore.exceptions.PartialCredentialsError,
            botocore.exceptions.CredentialRetrievalError,
            botocore.exceptions.ProfileNotFound,
        ) as error:
            raise StorageUnreachable(
                f"There are no usable credentials to {operation} at {where}: {error}.",
                hint="Set RESTILL_STORAGE__ACCESS_KEY_ID and …__SECRET_ACCESS_KEY, or AWS_… variables.",
            ) from error
        except botocore.exceptions.BotoCoreError as error:
            raise StorageUnreachable(
                f"Could not {operation} at {where}: {str(error).rstrip('.')}.",
                hint="Check storage.endpoint_url, and that the server runs and can be reached from here.",
            ) from error

    def _refusal(
        self, error: botocore.exceptions.ClientError, operation: str, where: str, key: str | None
    ) -> Exception:
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        said = error.response.get("Error", {}).get("Message", "") or code
        if operation == WRITE and status == http.HTTPStatus.PRECONDITION_FAILED:
            return _Taken(said)
        if operation == WRITE and status == http.HTTPStatus.CONFLICT:
            return _Busy(said)
        if operation == CREATE_BUCKET and status == http.HTTPStatus.CONFLICT:
            return _Taken(said)
        if code == "NoSuchBucket" and key is not None:
            return StorageUnreachable(
                f"Could not {operation} at {where}: there is no such bucket.",
                hint="Correct storage.bucket, or create the bucket.",
            )
        if status == http.HTTPStatus.NOT_FOUND:
            return ObjectNotFound(f"There is no object at {where}.")
        if status == http.HTTPStatus.FORBIDDEN and code in ("AccessDenied", "403"):
            return denied(operation, where, key, said)
        if status in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
            return StorageUnreachable(
                f"{where} refused to {operation}: {said.rstrip('.')} ({code}).",
                hint="Check the credentials in RESTILL_STORAGE__… or AWS_… and what their role may do there.",
            )
        if status == http.HTTPStatus.NOT_IMPLEMENTED:
            return self._unsuitable("it answered 'not implemented'")
        if self._disk_is_full():
            return StorageUnreachable(
                f"The disk of {self.connection.data_dir} is full: the embedded S3 server cannot {operation}.",
                hint="Free some space on that disk; the server accepts writes again above 1 % free.",
            )
        return StorageUnreachable(
            f"{where} could not {operation}: {said.rstrip('.')} (HTTP {status}, {code}).",
            hint="Look into the server's log; a full disk is a common reason.",
        )

    def _disk_is_full(self) -> bool:
        if self.connection.data_dir is None:
            return False
        try:
            usage = shutil.disk_usage(self.connection.data_dir)
        except OSError:
            return False
        return usage.free < FULL_DISK_SHARE * usage.total


def _whole(time: datetime) -> datetime:
    """Return a time as HEAD tells it: a listing may have fractions of a second, a header has none."""
    return time.replace(microsecond=0)


class _Taken(Exception):
    """The condition of a write did not hold."""


class _Busy(Exception):
    """Another write to the same key was under way."""


@contextlib.contextmanager
def _opened(body: bytes | Path) -> Iterator[bytes | IO[bytes]]:
    """Yield what boto3 takes as a body; a file is read as it is sent, never held in memory."""
    if isinstance(body, bytes):
        yield body
        return
    with body.open("rb") as file:
        yield file


@contextlib.contextmanager
def _plain_endpoint(endpoint: str | None) -> Iterator[None]:
    """Name the endpoint that boto3 calls no address with a bare ValueError."""
    try:
        yield
    except ValueError as error:
        raise ConfigurationError(
            f"storage.endpoint_url is not an address: {endpoint!r}.", hint="Write it like https://s3.example.com:9000."
        ) from error


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False
