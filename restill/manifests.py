"""What a version is made of and what a promotion says: frozen records and their canonical JSON. Pure.

Records of a newer minor schema keep the fields this code does not know; a newer major schema is refused.
"""

import hashlib
import itertools
import json
import re
import unicodedata
from collections.abc import Iterable
from datetime import datetime
from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from restill.errors import ConfigurationError, IntegrityError

SCHEMA_VERSION = "1.0"
SHORT = 12  # characters of a version that people are shown
WITH_SERVED = ("tokenizer", "calibration")  # roles that are loaded beside the served artifact

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def canonical_json(value: Any) -> bytes:
    """Return the one JSON form of `value`: sorted keys, no spaces, UTF-8.

    Raises: ValueError for NaN and infinities, which JSON does not have; TypeError for what is no JSON value.
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8")


def digest_json(value: Any) -> str:
    """Return the hex SHA-256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def require_name(name: str, what: str) -> str:
    """Return `name` if it can be a folder of the registry.

    Raises: ConfigurationError saying what a name may look like.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} cannot be the name of {what}.",
            hint="Use lower-case letters, digits and dashes, at most 63, beginning with a letter or digit.",
        )
    return name


def require_text(text: str, what: str) -> str:
    """Return `text` if it can be stored.

    Raises: ConfigurationError if it holds bytes that a terminal or program sent in another encoding than it said.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"{what} is no valid Unicode text: {text!a}.", hint="Write it in UTF-8.") from error
    return text


def _safe_path(path: str) -> str:
    """Refuse whatever could leave the folder that a version is unpacked into, on any system."""
    parts = path.split("/")
    if (
        not path
        or any(part in ("", ".", "..") for part in parts)
        or any(unicodedata.category(character) == "Cc" for character in path)
        or "\\" in path
        or PurePosixPath(path).is_absolute()
        or PureWindowsPath(path).drive
    ):
        raise ValueError(f"not a plain relative path: {path!r}")
    return path


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
RelativePath = Annotated[str, AfterValidator(_safe_path)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)


class FileEntry(_Record):
    """One file of a version; its bytes are stored under its digest."""

    path: RelativePath
    sha256: Sha256
    bytes: int = Field(ge=0)
    role: str = Field(min_length=1)


class Lineage(_Record):
    """What a version was made from and where."""

    git_commit: str | None
    git_dirty: bool | None
    data_version: str
    batches: tuple[str, ...]
    teacher_fingerprint: str
    training_key: str
    config_digest: str
    seed: int
    dependency_lock_sha256: str | None
    restill_version: str
    hardware: str
    flow_run_id: str | None
    parent: str | None  # version of the champion at the time
    # Of the data version's record: what validation kept and quarantined of each batch, and the digests of what it kept.
    data_record_sha256: str | None = None  # None: there was no record, or an earlier Restill did not keep it
    teacher_scores_sha256: str | None = None  # of the float32 scores that it learned from and was validated on
    config: dict[str, JsonValue] | None = None  # what config_digest is of; None: an earlier Restill kept only that


class Calibration(_Record):
    """From cosine to probability, and the probability from which a pair is the same.

    P = σ(scale · (cosine - bias)); with `knots`, (cosine, P) in rising order, P is interpolated between them instead.
    """

    scale: float
    bias: float
    threshold: float = Field(ge=0, le=1)
    knots: tuple[tuple[float, float], ...] = ()

    def probabilities(self, cosines: ArrayLike) -> NDArray[np.float64]:
        """Return P(same meaning) for each cosine, in the shape given."""
        values = np.asarray(cosines, np.float64)
        if self.knots:
            places, heights = np.array(self.knots).T
            interpolated: NDArray[np.float64] = np.interp(values, places, heights)
            return interpolated
        result: NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * self.scale * (values - self.bias)))  # no overflow
        return result

    @model_validator(mode="after")
    def _rising(self) -> Self:
        for before, after in itertools.pairwise(self.knots):
            if not (after[0] > before[0] and 0 <= before[1] <= after[1] <= 1):
                raise ValueError("knots must rise, from 0 to 1 at most")
        return self


class Document(_Record):
    """A record stored as an object of its own."""

    schema_version: str = SCHEMA_VERSION

    def document(self) -> bytes:
        """Return the canonical JSON that is stored and digested."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def parse(cls, body: bytes, where: str) -> Self:
        """Read a stored document; `where` is named in errors.

        Raises: ConfigurationError if a newer major schema wrote it; IntegrityError if it is not such a
        document.
        """
        try:
            content = json.loads(body)
            major = int(str(content["schema_version"]).split(".")[0])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise IntegrityError(
                f"{where} is not a {cls.__name__} document: {error!r}.", hint="Restore the object from a backup."
            ) from error
        if major > int(SCHEMA_VERSION.split(".")[0]):
            raise ConfigurationError(
                f"{where} has schema {content['schema_version']}; this Restill reads up to {SCHEMA_VERSION}'s major.",
                hint="Upgrade Restill on this machine.",
            )
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            raise IntegrityError(
                f"{where} is not a valid {cls.__name__}: {wrong}.", hint="Restore the object from a backup."
            ) from error


class Manifest(Document):
    """One immutable version: its files, how to call it, and what it was made from."""

    model: str
    version: Sha256
    created_at: AwareDatetime
    artifact_role: str  # the role whose file is judged and served
    files: tuple[FileEntry, ...]
    signature: dict[str, JsonValue]
    calibration: Calibration
    lineage: Lineage
    training: dict[str, float | int | str | None]  # final metrics

    @model_validator(mode="after")
    def _check(self) -> Self:
        # As a file system sees them that counts neither case nor the spelling of accents.
        paths = sorted(unicodedata.normalize("NFC", file.path).casefold() + "/" for file in self.files)
        if any(later.startswith(earlier) for earlier, later in itertools.pairwise(paths)):
            raise ValueError("two files have one path, or one is the folder of another")
        if not any(file.role == self.artifact_role for file in self.files):
            raise ValueError(f"no file has the served role {self.artifact_role!r}")
        if self.version != version_id(
            self.model, self.files, self.artifact_role, self.signature, self.calibration, self.lineage
        ):
            raise ValueError("the version is not the digest of what the manifest names")
        return self

    @property
    def short(self) -> str:
        """Return the version as people are shown it."""
        return self.version[:SHORT]

    @property
    def served_path(self) -> str:
        """Return the path of the file that is judged and served (the first by name, if the role has several)."""
        return min(file.path for file in self.files if file.role == self.artifact_role)

    @property
    def served_bytes(self) -> int:
        """Return the size of what a search service loads: the served artifact, tokenizer and calibration."""
        roles = (self.artifact_role, *WITH_SERVED)
        return sum(file.bytes for file in self.files if file.role in roles)


class EntrySignature(_Record):
    """Who vouches for an entry: over a prefix and the entry's document without this field (`restill/signing.py`)."""

    key_id: Sha256  # of the public key's DER form
    algorithm: str
    value: str  # hexadecimal


class PromotionEntry(Document):
    """One line of an alias's history: which version became live, directly after which, and why."""

    model: str
    alias: str
    sequence: int = Field(ge=1)
    version: Sha256
    manifest_sha256: Sha256
    promotion_id: str = Field(min_length=1)  # by which a promoter recognises its own entry
    action: Literal["promote", "rollback"]
    reason: str
    promoted_by: str
    at: AwareDatetime
    replaces_sequence: int | None
    previous_entry_sha256: Sha256 | None  # over the stored bytes: the history is a hash chain
    verdict_sha256: Sha256 | None
    forced: bool = False  # a person promoted it though no verdict passed it
    signature: EntrySignature | None = None  # an entry without one is stored without the field

    def document(self) -> bytes:
        """Return the canonical JSON that is stored and digested."""
        return canonical_json(self.model_dump(mode="json", exclude=None if self.signature else {"signature"}))


class Retirement(Document):
    """The mark that a version is going to be removed, or was; of a former champion it stays for ever."""

    model: str
    version: Sha256
    manifest_sha256: Sha256
    at: AwareDatetime
    why: str


class ApprovalRequest(Document):
    """A version passed every gate, and a person is to decide; the reasons are the verdict's."""

    model: str
    alias: str
    version: Sha256
    verdict_sha256: Sha256
    at: AwareDatetime
    expires_at: AwareDatetime  # nobody who decides later makes it live


class ApprovalDecision(Document):
    """What a person decided on a request; the first one to decide has decided."""

    model: str
    alias: str
    version: Sha256
    verdict_sha256: Sha256
    decision: Literal["approve", "reject"]
    decision_id: str = Field(min_length=1)  # of the promotion that follows, too: whoever finishes it writes one entry
    by: str
    reason: str
    at: AwareDatetime


def version_id(
    model: str,
    files: Iterable[FileEntry],
    artifact_role: str,
    signature: dict[str, JsonValue],
    calibration: Calibration,
    lineage: Lineage,
) -> str:
    """Return the digest that names a version: what it computes and what it was trained from, not when or where."""
    return digest_json(
        {
            "model": model,
            "files": sorted(
                ({"path": f.path, "sha256": f.sha256, "bytes": f.bytes, "role": f.role} for f in files),
                key=lambda file: str(file["path"]),
            ),
            "artifact_role": artifact_role,
            "signature": signature,
            "calibration": {
                "scale": calibration.scale,
                "bias": calibration.bias,
                "threshold": calibration.threshold,
                **({"knots": calibration.knots} if calibration.knots else {}),
            },
            "training_key": lineage.training_key,
            "data_version": lineage.data_version,
            "teacher_fingerprint": lineage.teacher_fingerprint,
        }
    )


def make_manifest(
    *,
    model: str,
    created_at: datetime,
    artifact_role: str,
    files: Iterable[FileEntry],
    signature: dict[str, JsonValue],
    calibration: Calibration,
    lineage: Lineage,
    training: dict[str, float | int | str | None],
) -> Manifest:
    """Return the manifest of these files, with the version that follows from them.

    Raises: ConfigurationError if the files do not make a version.
    """
    entries = tuple(sorted(files, key=lambda file: file.path))
    try:
        return Manifest(
            model=model,
            version=version_id(model, entries, artifact_role, signature, calibration, lineage),
            created_at=created_at,
            artifact_role=artifact_role,
            files=entries,
            signature=signature,
            calibration=calibration,
            lineage=lineage,
            training=training,
        )
    except ValidationError as error:
        raise ConfigurationError(
            "These files do not make a version: " + "; ".join(item["msg"] for item in error.errors()) + "."
        ) from error
