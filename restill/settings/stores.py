"""Which registry, and where objects are kept."""

from pathlib import Path

from pydantic import Field, SecretStr

from restill.settings.section import Section


class RegistrySettings(Section):
    """Which model in the registry."""

    model: str = Field(
        "default", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Model name: the registry's folder."
    )
    alias: str = Field("champion", pattern=r"^[a-z][a-z0-9-]{0,62}$", description="Alias that promotion moves.")
    signing_key: Path | None = Field(
        None, description="PEM file with the Ed25519 private key that promotions are signed with. Unset: unsigned."
    )
    trusted_keys: tuple[Path, ...] = Field(
        (), description="PEM files with public keys; if set, what none of them signed is not served or judged against."
    )


class StorageSettings(Section):
    """Object store. Without an endpoint the embedded server is started on this machine."""

    endpoint_url: str | None = Field(
        None, description="S3 address. Unset: embedded server. 'aws': Amazon's own, from the region."
    )
    region: str = Field("us-east-1", description="S3 region.")
    bucket: str = Field("restill", description="Bucket for everything Restill stores.")
    prefix: str = Field("", description="Key prefix inside the bucket, without slashes at the ends.")
    access_key_id: SecretStr | None = Field(
        None, description="Unset: boto3's own chain (AWS_… variables, profile, role)."
    )
    secret_access_key: SecretStr | None = Field(None, description="Secret of that key.")
