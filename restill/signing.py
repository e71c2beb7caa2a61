"""Who may say what is live: promotion entries are signed with Ed25519, and entries without a trusted signature refused.

An entry names its manifest's digest and the manifest those of its files, so one signature covers all that is loaded.
The cryptography is that of the package `cryptography`, which is imported only where keys are configured.
"""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Self

from restill.errors import ConfigurationError, IntegrityError
from restill.manifests import SHORT, EntrySignature, PromotionEntry, canonical_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ALGORITHM = "ed25519"
DOMAIN = b"restill promotion entry v1\n"  # a signature of anything else made with this key is none of an entry
MAKE_ONE = "Make one: openssl genpkey -algorithm ed25519 -out signing.pem (docs/registry.md)."


@dataclass(frozen=True)
class Signer:
    """A private key, and the id of the public key that belongs to it."""

    key_id: str
    _sign: Callable[[bytes], bytes] = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a PEM file with an Ed25519 private key, not encrypted and not open to others on this machine.

        Raises: ConfigurationError saying what is wrong with it.
        """
        _require_library()
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        pem = _read(path, "registry.signing_key")
        if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXO | stat.S_IWGRP):
            raise ConfigurationError(
                f"registry.signing_key {path} can be read by others, or written by its group.",
                hint=f"chmod 600 {path}; if others may have read it, replace it (docs/registry.md).",
            )
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it is encrypted
            # The library's own words stay out: nothing of this file belongs into a log.
            raise ConfigurationError(
                f"registry.signing_key {path} is no PEM private key, or is encrypted.", hint=MAKE_ONE
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigurationError(f"registry.signing_key {path} is no Ed25519 key.", hint=MAKE_ONE)
        return cls(key_id(key.public_key()), key.sign)

    def sign(self, entry: PromotionEntry) -> PromotionEntry:
        """Return an unsigned entry with its signature: over what would be stored without it."""
        value = self._sign(DOMAIN + entry.document()).hex()
        signature = EntrySignature(key_id=self.key_id, algorithm=ALGORITHM, value=value)
        return entry.model_copy(update={"signature": signature})


@dataclass(frozen=True)
class Trusted:
    """The public keys whose promotions are believed; plain bytes, so threads and forked processes may share it."""

    keys: Mapping[str, bytes]  # key id → the key's 32 bytes

    @classmethod
    def read(cls, paths: Iterable[Path]) -> Self:
        """Read PEM files with an Ed25519 public key each.

        Raises: ConfigurationError saying what is wrong with which, or if there is none.
        """
        _require_library()
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        keys = {}
        for path in paths:
            try:
                key = load_pem_public_key(_read(path, "registry.trusted_keys:"))
            except (ValueError, UnsupportedAlgorithm) as error:
                raise ConfigurationError(
                    f"registry.trusted_keys: {path} is no PEM public key.",
                    hint="Make it from the private one: openssl pkey -in signing.pem -pubout -out trusted.pem.",
                ) from error
            if not isinstance(key, Ed25519PublicKey):
                raise ConfigurationError(f"registry.trusted_keys: {path} is no Ed25519 key.", hint=MAKE_ONE)
            keys[key_id(key)] = key.public_bytes_raw()
        if not keys:
            raise ConfigurationError("registry.trusted_keys names no file.", hint="Name one, or leave it unset.")
        return cls(keys)

    def knows(self, entry: PromotionEntry) -> bool:
        """Return whether an entry claims to be signed with one of these keys."""
        return entry.signature is not None and entry.signature.key_id in self.keys

    def problem(self, entry: PromotionEntry, body: bytes) -> str | None:
        """Return why an entry, stored as `body`, is not to be believed; None if its signature is good."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        what = f"number {entry.sequence} of {entry.alias} of {entry.model}"
        if entry.signature is None:
            return f"{what} is not signed"
        who = entry.signature.key_id[:SHORT]
        if not self.knows(entry):
            return f"{what} is signed with key {who}, which is not trusted here"
        try:
            content = json.loads(body)
            # One form only: no second field of a name, nothing that two readers could take for different things.
            canonical = canonical_json(content) == body
            del content["signature"]
            value = bytes.fromhex(entry.signature.value)
            if canonical and entry.signature.algorithm == ALGORITHM:
                key = Ed25519PublicKey.from_public_bytes(self.keys[entry.signature.key_id])
                key.verify(value, DOMAIN + canonical_json(content))
                return None
        except (ValueError, InvalidSignature):
            pass  # said below
        return f"{what} is not what key {who} signed"

    def check(self, entry: PromotionEntry, body: bytes, where: str) -> None:
        """Believe an entry, stored as `body` at `where`.

        Raises: IntegrityError if none of these keys signed it.
        """
        if problem := self.problem(entry, body):
            raise IntegrityError(
                f"Not loaded: {problem} ({where}). Trusted: {', '.join(sorted(key[:SHORT] for key in self.keys))}.",
                hint="If you expect that key, add it to registry.trusted_keys. If not, somebody writes to the registry "
                "who may not: shut them out, then go back with `restill registry rollback`, which is signed.",
            )


def key_id(key: "Ed25519PublicKey") -> str:
    """Return what a public key is called: the SHA-256 of its DER form, as `openssl pkey -pubin -outform DER` writes."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _read(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{setting} {path} cannot be read: {error.strerror}.") from error


def _require_library() -> None:
    if find_spec("cryptography") is None:
        raise ConfigurationError(
            "registry.signing_key or registry.trusted_keys is set, and the package `cryptography` is not installed.",
            hint="pip install 'restill[signing]'.",
        )
