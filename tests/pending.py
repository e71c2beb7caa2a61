"""What is left of uploads in parts."""

import boto3


def pending(store):
    """Return the keys of the uploads in parts that were begun and neither ended nor given up."""
    connection = store.connection
    client = boto3.client(
        "s3",
        endpoint_url=connection.endpoint_url,
        region_name=connection.region,
        aws_access_key_id=connection.access_key_id,
        aws_secret_access_key=connection.secret_access_key,
    )
    found = client.list_multipart_uploads(Bucket=connection.bucket, Prefix=connection.prefix)
    return [upload["Key"] for upload in found.get("Uploads", [])]
