"""Large files to S3 in parts, several at once. boto3 itself, whose transfer manager does this too, can send neither
the condition nor a part's MD5.

For content-addressed objects only. A server may ignore the condition when the parts are put together (Ceph does): there
two uploads at once both win, which is harmless where the key names the bytes, and fatal for a record that somebody else
must not replace. Records are single PUTs (`ObjectStore.create`).
"""

import base64
import contextlib
import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import botocore.exceptions

from restill.errors import IntegrityError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

MAX_PARTS = 10_000  # S3's limit


@dataclass(frozen=True)
class Parts:
    """From what size on, and how, a file is sent in parts. `parallel` + 1 parts are held in memory."""

    threshold_bytes: int = 64 * 1024**2
    part_bytes: int = 16 * 1024**2  # S3 takes no less than 5 MiB
    parallel: int = 4


def send(client: "S3Client", bucket: str, key: str, path: Path, *, sha256: str, parts: Parts) -> None:
    """Upload a file in parts, unless its key is taken; after any error nothing is left of it.

    What is hashed is what is sent, so a file that changes on the way is never stored.

    Args:
        key: whole, with the store's prefix.
        sha256: hex digest that the file must have.
    Raises: IntegrityError if the file has another digest; botocore's errors, 412 if the key is taken.
    """
    upload = client.create_multipart_upload(Bucket=bucket, Key=key, ContentType="application/octet-stream")["UploadId"]

    def put(number: int, part: bytes) -> "CompletedPartTypeDef":
        md5 = base64.b64encode(hashlib.md5(part, usedforsecurity=False).digest()).decode()
        answer = client.upload_part(
            Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=part, ContentMD5=md5
        )
        return {"PartNumber": number, "ETag": answer["ETag"]}

    try:
        digest, stored = hashlib.sha256(), []
        with ThreadPoolExecutor(max_workers=parts.parallel) as pool:
            under_way: deque[Future[CompletedPartTypeDef]] = deque()
            try:
                for number, part in enumerate(_read(path, parts), start=1):
                    under_way.append(pool.submit(put, number, part))
                    digest.update(part)  # while it is sent
                    if len(under_way) > parts.parallel:
                        stored.append(under_way.popleft().result())
                stored += [future.result() for future in under_way]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        if digest.hexdigest() != sha256:
            raise IntegrityError(
                f"{path} was changed while it was stored: expected SHA-256 {sha256}, found {digest.hexdigest()}.",
                hint="Let nothing write there, then run it again.",
            )
        client.complete_multipart_upload(
            Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": stored}, IfNoneMatch="*"
        )
    except BaseException:
        # Here no part is on its way any more: one that arrives after the end of its upload may stay, and cost money.
        # A failure to give up must not hide the error; the bucket's lifecycle rule removes what is left then.
        with contextlib.suppress(botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError):
            client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
        raise


def _read(path: Path, parts: Parts) -> Iterator[bytes]:
    part_bytes = max(parts.part_bytes, -(-path.stat().st_size // MAX_PARTS))
    with path.open("rb") as file:
        while part := file.read(part_bytes):
            yield part
