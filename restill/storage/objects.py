"""The S3 client: a few operations, each either done or refused with a message for a person.

Every commit record of Restill is one conditional PUT (`create`). What else writes (`replace`, `copy`, `touch`) is for
what can be made again, or writes the bytes that are there. Digests are our own SHA-256: an ETag is no content digest.
Light imports only, because serving loads this module.
"""

import base64
import contextlib
import functools
import hashlib
import http
import ipaddress
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast
from urllib.parse import urlsplit

import boto3
import botocore.exceptions
import botocore.session
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.loaders import Loader

from restill.errors import AccessDenied, ConfigurationError, IntegrityError, StorageUnreachable
from restill.storage import transfers
from restill.storage.fence import ExpiringDelete
from restill.storage.refusals import (
    CREATE_BUCKET,
    WRITE,
    AnswerBroken,
    Busy,
    Connection,
    ObjectNotFound,
    Refusals,
    Taken,
)
from restill.storage.transfers import Parts

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.literals import BucketLocationConstraintType
    from mypy_boto3_s3.type_defs import ListObjectsV2RequestPaginateTypeDef

__all__ = ["Connection", "ObjectInfo", "ObjectNotFound", "ObjectStore"]

MAX_SINGLE_BYTES = 5 * 1024**3  # S3's limit for one PUT or copy; uploads in parts are not conditional everywhere
CHUNK_BYTES = 1024**2
CONFLICT_ATTEMPTS = 8
READ_ATTEMPTS = 3
PARTS = Parts()
LONGEST_LINK_SECONDS = 7 * 24 * 60 * 60  # that S3 presigns for


@dataclass(frozen=True)
class ObjectInfo:
    """One stored object, by its key without the store's prefix."""

    key: str
    size: int
    modified: datetime  # UTC, whole seconds
    etag: str = ""  # changes with the content; it is no digest of it


@functools.cache
def _descriptions() -> Loader:
    """Return what reads the descriptions of AWS's services and keeps them: read anew, a client takes 0.1 s to make."""
    return cast("Loader", botocore.session.get_session().get_component("data_loader"))


class ObjectStore:
    """One bucket and prefix. Safe to share between threads; not between processes (make one in each)."""

    copying = TransferConfig(multipart_threshold=MAX_SINGLE_BYTES, multipart_chunksize=1024**3)

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._refusals = Refusals(connection)
        endpoint = connection.endpoint_url
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 3},
            connect_timeout=3,
            read_timeout=60,
            max_pool_connections=32,
            # Old and small servers do not know boto3's newer default checksums. Content-MD5
            # protects uploads, which every server knows, and our own SHA-256 protects downloads.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            signature_version="s3v4",  # also for presigned addresses: newer servers know no other
            s3={"payload_signing_enabled": True, "addressing_style": "path" if endpoint else "auto"},
            # botocore would send even loopback requests to a proxy named in the environment.
            proxies={} if endpoint and _is_loopback(endpoint) else None,
        )
        with self._refusals.translated("connect"), _plain_endpoint(endpoint):
            session = botocore.session.get_session()
            session.register_component("data_loader", descriptions := _descriptions())
            # boto3 adds its own folder to them for every client, and a process may make clients for years.
            descriptions.search_paths[:] = dict.fromkeys(descriptions.search_paths)
            self._client: S3Client = boto3.session.Session(botocore_session=session).client(
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
        return self.get_tagged(key)[0]

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        """Return the bytes of a small object and the ETag by which `replace` knows that it is still the same.

        Raises: ObjectNotFound; StorageUnreachable.
        """
        for attempt in range(1, READ_ATTEMPTS + 1):
            try:
                with self._refusals.translated("read", key):
                    answer = self._client.get_object(Bucket=self.connection.bucket, Key=self._full(key))
                    return answer["Body"].read(), answer["ETag"]
            except AnswerBroken:
                if attempt == READ_ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def download(
        self,
        key: str,
        path: Path,
        *,
        sha256: str | None = None,
        size: int | None = None,
        progress: Callable[[int], None] | None = None,
        parts: Parts = PARTS,
    ) -> None:
        """Stream an object to `path`, which appears whole or not at all; a broken stream is resumed.

        Args:
            sha256: hex digest the bytes must have.
            size: bytes, where known: a large object then comes in several streams at once.
            progress: called with the number of bytes of each chunk that arrived, from several threads.
            parts: from what size on, and how many streams.
        Raises: IntegrityError naming key, expected and found digest; ObjectNotFound; StorageUnreachable.
        """
        tell = progress or (lambda moved: None)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
        try:
            if size is not None and size > parts.threshold_bytes:
                found = self._download_parts(key, partial, size, tell, parts)
            else:
                digest = hashlib.sha256()
                with partial.open("wb") as file:
                    for chunk in self._chunks(key):
                        digest.update(chunk)
                        file.write(chunk)
                        tell(len(chunk))
                found = digest.hexdigest()
            if sha256 is not None and found != sha256:
                raise IntegrityError(
                    f"{self.uri(key)} does not hold the promised bytes: expected SHA-256 {sha256}, found {found}.",
                    hint="The stored object was damaged or replaced. Restore it, or promote another version.",
                )
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def _download_parts(self, key: str, path: Path, size: int, tell: Callable[[int], None], parts: Parts) -> str:
        """Write an object of a known size to a new file, and return the hex SHA-256 of what the file then holds."""
        stored = self.head(key)
        if stored is not None and stored.size != size:  # what is missing would else be a range that nobody can serve
            raise IntegrityError(
                f"{self.uri(key)} does not hold the promised bytes: expected {size:,}, found {stored.size:,}.",
                hint="The stored object was damaged or replaced. Restore it, or promote another version.",
            )
        path.touch(exist_ok=False)

        def bring(start: int) -> None:
            with path.open("r+b") as file:
                file.seek(start)
                for chunk in self._chunks(key, start=start, end=min(start + parts.part_bytes, size)):
                    file.write(chunk)
                    tell(len(chunk))

        digest = hashlib.sha256()
        with ThreadPoolExecutor(max_workers=parts.parallel) as pool, path.open("rb") as file:
            coming = [pool.submit(bring, start) for start in range(0, size, parts.part_bytes)]
            try:
                for part in coming:
                    part.result()
                    digest.update(file.read(parts.part_bytes))  # while later ones arrive
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return digest.hexdigest()

    def digest(self, key: str) -> str:
        """Return the hex SHA-256 of a stored object's bytes, read as a stream.

        Raises: ObjectNotFound; StorageUnreachable.
        """
        digest = hashlib.sha256()
        for chunk in self._chunks(key):
            digest.update(chunk)
        return digest.hexdigest()

    def create(
        self,
        key: str,
        body: bytes | Path,
        *,
        content_type: str = "application/octet-stream",
        sha256: str | None = None,
    ) -> bool:
        """Write an object unless its key is taken (one PUT with `If-None-Match: *`); the server checks its MD5.

        Args:
            sha256: hex digest that a file must still have.

        Returns: True if this call is known to have created it, False if it was there. A write whose answer
        was lost on the way also gives False, because boto3's own retry finds the key taken: whoever must know
        reads the object back and looks for a mark of its own.
        Raises: ConfigurationError for a file above S3's 5 GB for one PUT; IntegrityError if the file was changed;
            StorageUnsuitable if the server does not know the condition; StorageUnreachable.
        """
        size = body.stat().st_size if isinstance(body, Path) else len(body)
        if size > MAX_SINGLE_BYTES:
            raise ConfigurationError(
                f"{body if isinstance(body, Path) else key} has {size:,} bytes; "
                f"one conditional write takes at most {MAX_SINGLE_BYTES:,}.",
                hint="Split the file.",
            )

        def put() -> None:
            with _opened(body, sha256) as (content, md5):
                self._client.put_object(
                    Bucket=self.connection.bucket,
                    Key=self._full(key),
                    Body=content,
                    ContentType=content_type,
                    ContentMD5=md5,
                    IfNoneMatch="*",
                )

        return self._unless_taken(key, put)

    def create_blob(self, key: str, path: Path, *, sha256: str, parts: Parts = PARTS) -> bool:
        """Write a file of any size whose key names its bytes, unless the key is taken; a large one goes in parts.

        Like `create`, but a server may ignore the condition for parts: not for records.

        Args:
            sha256: hex digest that the file must still have.
        Raises: IntegrityError if the file was changed; StorageUnsuitable; StorageUnreachable. Nothing is stored then.
        """
        if path.stat().st_size <= parts.threshold_bytes:
            return self.create(key, path, sha256=sha256)
        bucket, full = self.connection.bucket, self._full(key)
        try:
            return self._unless_taken(
                key, lambda: transfers.send(self._client, bucket, full, path, sha256=sha256, parts=parts)
            )
        except ObjectNotFound as error:  # the upload has ended: by us, and the answer was lost, or by somebody else
            if self.head(key) is not None:
                return False
            raise StorageUnreachable(
                f"The upload to {self.uri(key)} was given up by somebody else.",
                hint="Run it again; a lifecycle rule that ends uploads must give them a day.",
            ) from error

    def _unless_taken(self, key: str, write: Callable[[], None]) -> bool:
        """Do a conditional write and return whether it is known to have created the object."""
        for attempt in range(CONFLICT_ATTEMPTS):
            try:
                with self._refusals.translated(WRITE, key):
                    write()
                return True
            except Taken:
                return False
            except Busy:  # 409: a write to the same key was under way; S3 asks for another try
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
            with self._refusals.translated("look up", key):
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
        with self._refusals.translated("list", prefix):
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
        with self._refusals.translated("delete", key):
            self._client.delete_object(Bucket=self.connection.bucket, Key=self._full(key))

    def replace(self, key: str, body: bytes, *, etag: str | None, content_type: str) -> bool:
        """Write a small object that can be made again, if it still is as it was read (`If-Match`).

        Args:
            etag: what `get_tagged` gave; None if there was no object.
        Returns: whether it is known to be written; after a lost answer also False though it was. Read it back.
        Raises: StorageUnreachable.
        """
        if etag is None:
            return self.create(key, body, content_type=content_type)
        try:
            with self._refusals.translated(WRITE, key):
                self._client.put_object(
                    Bucket=self.connection.bucket,
                    Key=self._full(key),
                    Body=body,
                    ContentType=content_type,
                    ContentMD5=_md5(body),
                    IfMatch=etag,
                )
        except (Taken, Busy, ObjectNotFound):  # changed meanwhile; being written; gone
            return False
        return True

    def copy(self, source: str, target: str) -> None:
        """Copy an object inside the server over whatever is at `target`; no bytes come here.

        Raises: ObjectNotFound if there is no source; StorageUnreachable.
        """
        bucket = self.connection.bucket
        with self._refusals.translated("copy to", target):
            self._client.copy(
                {"Bucket": bucket, "Key": self._full(source)}, bucket, self._full(target), Config=self.copying
            )

    def touch(self, key: str) -> bool:
        """Make an object's time the present by copying it onto itself; its bytes stay. Returns whether it is there.

        Raises: StorageUnreachable.
        """
        bucket = self.connection.bucket
        try:
            with self._refusals.translated("touch", key):
                self._client.copy(
                    {"Bucket": bucket, "Key": self._full(key)},
                    bucket,
                    self._full(key),
                    # Without a change S3 refuses to copy an object onto itself.
                    ExtraArgs={"MetadataDirective": "REPLACE", "Metadata": {"touched": secrets.token_hex(4)}},
                    Config=self.copying,
                )
        except ObjectNotFound:
            return False
        return True

    def clock(self) -> datetime:
        """Return the server's time (UTC, whole seconds), which the times of its objects are in.

        Raises: StorageUnreachable.
        """
        with self._refusals.translated("ask for the time"):
            try:
                headers = self._client.head_bucket(Bucket=self.connection.bucket)["ResponseMetadata"]["HTTPHeaders"]
            except botocore.exceptions.ClientError as error:
                refused = error.response["ResponseMetadata"]
                headers = refused["HTTPHeaders"]
                # A role that may list only below its prefix is refused, by a server that says when.
                if refused["HTTPStatusCode"] != http.HTTPStatus.FORBIDDEN or "date" not in headers:
                    raise
            return parsedate_to_datetime(headers["date"])

    def expiring_delete(self, key: str, *, seconds: int) -> ExpiringDelete:
        """Return a deletion signed now: the server itself refuses it when `seconds` have passed.

        Raises: StorageUnreachable if there are no credentials to sign with.
        """
        with self._refusals.translated("presign", key):
            address = self._client.generate_presigned_url(
                "delete_object", Params={"Bucket": self.connection.bucket, "Key": self._full(key)}, ExpiresIn=seconds
            )
        return ExpiringDelete(address, self.uri(key), direct=_is_loopback(address))

    def presign(self, key: str, *, seconds: int) -> str:
        """Return a web address that reads `key` without credentials for that many seconds.

        Raises: StorageUnreachable if there are no credentials to sign with.
        """
        with self._refusals.translated("presign", key):
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
            with self._refusals.translated("find the bucket"):
                self._client.head_bucket(Bucket=bucket)
            return
        except AccessDenied:  # a role that may list only below its prefix: the first read or write tells
            return
        except ObjectNotFound:
            pass
        try:
            with self._refusals.translated(CREATE_BUCKET):
                if self.connection.endpoint_url is None and self.connection.region != "us-east-1":
                    region = cast("BucketLocationConstraintType", self.connection.region)
                    self._client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": region})
                else:
                    self._client.create_bucket(Bucket=bucket)
        except Taken:
            return  # another process was quicker

    def probe_conditional_writes(self) -> None:
        """Write real probe objects and require that a taken key is refused, one after the other and at once.

        Raises: StorageUnsuitable if a second write, or several of eight at once, are accepted; StorageUnreachable.
        """
        one_by_one, at_once = (f".probe/{secrets.token_hex(16)}" for _ in range(2))
        try:
            self.create(one_by_one, b"first")
            if self.create(one_by_one, b"second"):
                raise self._refusals.unsuitable("it replaced an object that a conditional write must not replace")
            with ThreadPoolExecutor(max_workers=8) as pool:
                winners = sum(pool.map(lambda number: self.create(at_once, b"%d" % number), range(8)))
            if winners > 1:
                raise self._refusals.unsuitable(f"of eight conditional writes at once it let {winners} win")
        finally:
            # A failure here must not hide the answer above; a few bytes under .probe/ do no harm.
            with contextlib.suppress(StorageUnreachable):
                self.delete(one_by_one)
                self.delete(at_once)

    def _full(self, key: str) -> str:
        return f"{self.connection.prefix}/{key}" if self.connection.prefix else key

    def _chunks(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield an object's bytes, up to `end` if that is given; a stream that breaks is taken up where it broke."""
        offset, attempts = start, 0
        while True:
            before = offset
            try:
                for chunk in self._stream(key, offset, end):
                    offset += len(chunk)
                    yield chunk
                return
            except AnswerBroken:
                attempts = 0 if offset > before else attempts + 1  # a large file may meet more breaks than that
                if attempts == READ_ATTEMPTS:
                    raise

    def _stream(self, key: str, start: int, end: int | None) -> Iterator[bytes]:
        bucket, full = self.connection.bucket, self._full(key)
        with self._refusals.translated("read", key):
            if start or end is not None:
                wanted = f"bytes={start}-{'' if end is None else end - 1}"
                answer = self._client.get_object(Bucket=bucket, Key=full, Range=wanted)
            else:
                answer = self._client.get_object(Bucket=bucket, Key=full)
            body: StreamingBody = answer["Body"]
            with contextlib.closing(body):
                yield from body.iter_chunks(CHUNK_BYTES)


def _whole(time: datetime) -> datetime:
    """Return a time as HEAD tells it: a listing may have fractions of a second, a header has none."""
    return time.replace(microsecond=0)


@contextlib.contextmanager
def _opened(body: bytes | Path, sha256: str | None) -> Iterator[tuple[bytes | IO[bytes], str]]:
    """Yield what boto3 takes as a body and its MD5; a file is read as it is sent, never held in memory."""
    if isinstance(body, bytes):
        yield body, _md5(body)
        return
    with body.open("rb") as file:
        md5, own = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        while chunk := file.read(CHUNK_BYTES):
            md5.update(chunk)
            own.update(chunk)
        if sha256 is not None and own.hexdigest() != sha256:
            raise IntegrityError(
                f"{body} was changed while it was stored: expected SHA-256 {sha256}, found {own.hexdigest()}.",
                hint="Let nothing write there, then run it again.",
            )
        file.seek(0)
        yield file, base64.b64encode(md5.digest()).decode()


def _md5(body: bytes) -> str:
    """Return the MD5 that a server checks what arrived against. Not all of them check the signed payload hash."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


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
