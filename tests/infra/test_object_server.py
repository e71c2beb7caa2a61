"""The S3 server of infra/compose.yaml, with its command and its identities, as a plain process."""

import secrets

import boto3
import httpx
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from composed import COMPOSE, command, config
from plain_processes import Processes, free_port

from restill.storage.embedded import find_binary

KEYS = {name: secrets.token_hex(12) for name in ("S3_ACCESS_KEY", "S3_SECRET_KEY")}
READER = {name: secrets.token_hex(12) for name in ("S3_READER_ACCESS_KEY", "S3_READER_SECRET_KEY")}
PORTS = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("objects")
    (folder / "data").mkdir()
    identities = folder / "identities.json"
    identities.write_text(config("identities", {**KEYS, **READER}))
    here = {"/data": str(folder / "data"), "/etc/identities.json": str(identities)}
    line = [flag.partition("=") for flag in command("objects", {})]
    ports = {name: free_port() for name in PORTS}
    processes = Processes(folder)
    try:
        processes.start(
            "objects",
            [
                find_binary(),
                *(f"{name}{equal}{here.get(value, value)}" for name, equal, value in line),
                *(f"-{name}={port}" for name, port in ports.items()),
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",  # the last one counts
            ],
            environment={"PATH": "", "HOME": str(folder)},
        )
        address = f"http://127.0.0.1:{ports['s3.port']}"
        checked = COMPOSE["services"]["objects"]["healthcheck"]["test"][-1]
        assert checked.endswith("http://127.0.0.1:8333/healthz")
        processes.wait_for("objects", lambda: httpx.get(f"{address}/healthz", timeout=5).is_success, seconds=120)
        yield address
    finally:
        processes.end()


def client(address, keys=None):
    access, secret = keys.values() if keys else (None, None)
    return boto3.client(
        "s3",
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id=access,
        aws_secret_access_key=secret,
        config=Config(
            signature_version=None if keys else UNSIGNED,
            s3={"addressing_style": "path"},
            retries={"mode": "standard", "max_attempts": 10},  # its first write waits for a volume
        ),
    )


def refused(asked, **what):
    with pytest.raises(ClientError) as refusal:
        asked(Bucket="restill", **what)
    return refusal.value.response["ResponseMetadata"]["HTTPStatusCode"]


def test_each_key_may_do_what_it_is_for(address):
    writer, reader, nobody = client(address, KEYS), client(address, READER), client(address)
    writer.create_bucket(Bucket="restill")
    writer.put_object(Bucket="restill", Key="registry/a", Body=b"1", IfNoneMatch="*")
    assert refused(writer.put_object, Key="registry/a", Body=b"2", IfNoneMatch="*") == 412
    assert reader.get_object(Bucket="restill", Key="registry/a")["Body"].read() == b"1"
    assert reader.list_objects_v2(Bucket="restill")["KeyCount"] == 1
    assert refused(reader.put_object, Key="registry/b", Body=b"1") == 403
    assert refused(reader.delete_object, Key="registry/a") == 403
    assert refused(nobody.get_object, Key="registry/a") == 403
