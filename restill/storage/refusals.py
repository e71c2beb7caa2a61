"""What an object store's refusals mean: botocore's errors as ours, with what to do."""

import contextlib
import http
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import botocore.exceptions

from restill.errors import StorageUnreachable, StorageUnsuitable, VersionNotFound
from restill.storage.denials import denied

WRITE, CREATE_BUCKET = "write", "create the bucket"  # operations whose refusals have a meaning of their own
SKEWED = ("RequestTimeTooSkewed",)
FULL = ("InsufficientStorage", "XMinioStorageFull", "QuotaExceeded")
BUSY = ("SlowDown", "ServiceUnavailable", "Throttling", "RequestLimitExceeded")
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


class AnswerBroken(StorageUnreachable):
    """An answer began and did not end: boto3 repeats requests, but not the reading of an answer."""


class Taken(Exception):
    """The condition of a write did not hold."""


class Busy(Exception):
    """Another write to the same key was under way."""


class Refusals:
    """The refusals of one store."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @contextlib.contextmanager
    def translated(self, operation: str, key: str | None = None) -> Iterator[None]:
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
        except (botocore.exceptions.ResponseStreamingError, botocore.exceptions.IncompleteReadError) as error:
            raise AnswerBroken(
                f"Could not {operation} at {where}: {str(error).rstrip('.')}.",
                hint="The connection breaks again and again: look at the network, or at a proxy on the way.",
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
            return Taken(said)
        if operation == WRITE and status == http.HTTPStatus.CONFLICT:
            return Busy(said)
        if operation == CREATE_BUCKET and status == http.HTTPStatus.CONFLICT:
            return Taken(said)
        if code == "NoSuchBucket" and key is not None:
            return StorageUnreachable(
                f"Could not {operation} at {where}: there is no such bucket.",
                hint="Correct storage.bucket, or create the bucket.",
            )
        if status == http.HTTPStatus.NOT_FOUND:
            return ObjectNotFound(f"There is no object at {where}.")
        if code in SKEWED:
            return StorageUnreachable(
                f"{where} refused to {operation}: {said.rstrip('.')} ({code}).",
                hint="The clock of this machine is wrong, or the server's: S3 allows 15 minutes. Set it right (NTP).",
            )
        if status == http.HTTPStatus.FORBIDDEN and code in ("AccessDenied", "403"):
            return denied(operation, where, key, said)
        if status in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
            return StorageUnreachable(
                f"{where} refused to {operation}: {said.rstrip('.')} ({code}).",
                hint="Check the credentials in RESTILL_STORAGE__… or AWS_… and what their role may do there.",
            )
        if status == http.HTTPStatus.NOT_IMPLEMENTED:
            return self.unsuitable("it answered 'not implemented'")
        if self._disk_is_full():
            return StorageUnreachable(
                f"The disk of {self.connection.data_dir} is full: the embedded S3 server cannot {operation}.",
                hint="Free some space on that disk; the server accepts writes again above 1 % free.",
            )
        if status == http.HTTPStatus.INSUFFICIENT_STORAGE or code in FULL:
            return StorageUnreachable(
                f"{where} has no space left to {operation}: {said.rstrip('.')} (HTTP {status}, {code}).",
                hint="Give the server space or raise the quota; `restill registry gc` removes what nobody needs.",
            )
        if code in BUSY:
            return StorageUnreachable(
                f"{where} is too busy to {operation}: {said.rstrip('.')} (HTTP {status}, {code}).",
                hint="Try again in a minute; nothing was half done.",
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

    def unsuitable(self, what: str) -> StorageUnsuitable:
        """Return the error of a store that cannot hold a registry."""
        return StorageUnsuitable(
            f"The object store at {self._place()} ignores conditional writes (If-None-Match): {what}.",
            hint="Promotions could overwrite each other there. Use AWS S3 or a server with conditional PUT.",
        )

    def _place(self) -> str:
        return self.connection.endpoint_url or f"AWS S3 ({self.connection.region})"
