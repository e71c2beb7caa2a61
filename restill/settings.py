"""Every knob, with its unit and its reason; the only reader of the environment.

Values come from, first found wins: arguments, `RESTILL_…` environment variables, `restill.toml`, the defaults below.
"""

import codecs
import os
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from restill.errors import ConfigurationError

CONFIG_FILE = "restill.toml"

# Codecs for host names, source code and protocols: Python knows them, no file of pairs is written in them.
_NO_FILE_ENCODINGS = {"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape", "utf-7", "mbcs", "oem"}


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ColumnSettings(_Section):
    """Names of the columns in incoming files; optional columns may be absent from a file."""

    text_a: str = Field("text_a", description="Column with the first sentence.")
    text_b: str = Field("text_b", description="Column with the second sentence.")
    label: str = Field("label", description="Column with 0, 1, a score in [0, 1], or nothing (unlabelled).")
    source: str = Field("source", description="Optional column that says where a pair comes from.")
    language: str = Field("language", description="Optional column with a language tag such as en or zh.")
    created_at: str = Field("created_at", description="Optional column that says when a pair was made.")
    split: str = Field("split", description="Optional column that says which split a pair belongs to.")


class FormatSettings(_Section):
    """How text files are written: `encoding` is for CSV, TSV and JSON Lines, the rest for CSV and TSV."""

    encoding: str = Field(
        "auto", description="Codec such as gb18030; auto: what the byte order mark says, else UTF-8. Never guessed."
    )
    delimiter: str = Field(
        "auto",
        description="One character between fields; auto: a tab in .tsv, in .csv the one of , ; tab | under which the "
        "header holds the columns, and a comma if there is no header.",
    )
    quote: str = Field('"', description="One character around fields; empty: no field is quoted.")
    escape: str = Field("", description="One character that makes the next one literal; empty: quotes are doubled.")
    header: bool = Field(True, description="Whether the first row names the columns; if not, they are 1, 2, 3 …")

    @field_validator("encoding")
    @classmethod
    def _known_codec(cls, name: str) -> str:
        if name == "auto":
            return name
        try:
            codec = codecs.lookup(name)
        except (LookupError, ValueError) as error:  # ValueError: a NUL in the name
            raise ValueError(f"{name!r} is no encoding that Python knows, such as utf-8, gb18030 or cp1252") from error
        if not codec._is_text_encoding or codec.incrementaldecoder is None or codec.name in _NO_FILE_ENCODINGS:
            raise ValueError(f"{name!r} is not an encoding of text files; utf-8, gb18030 or cp1252 would be")
        return name

    @model_validator(mode="after")
    def _distinct_characters(self) -> Self:
        delimiter = "" if self.delimiter == "auto" else self.delimiter
        if self.delimiter == "":
            raise ValueError("delimiter must be one character or auto, and it is empty")
        for field, value in (("delimiter", delimiter), ("quote", self.quote), ("escape", self.escape)):
            if len(value) > 1 or value in ("\r", "\n", "\0"):
                raise ValueError(
                    f"{field} must be one character that ends no line, and it is {value!r} (a tab in a shell: $'\\t')"
                )
        used = [value for value in (delimiter, self.quote, self.escape) if value]
        if len(set(used)) < len(used):
            raise ValueError(f"delimiter, quote and escape must be different characters, and they are {used}")
        return self


class RowRuleSettings(_Section):
    """What a row must satisfy; the others are kept out of the data set and beside the report."""

    max_characters: int = Field(512, ge=1, description="Longest sentence accepted, in characters.")
    labels: dict[str, float] = Field(
        {}, description="Further spellings of labels in any case, such as { yes = 1, no = 0 }; each in [0, 1]."
    )
    off: tuple[Literal["too_long", "bad_created_at", "identical_sides_with_label_0"], ...] = Field(
        (), description="Row rules that are off. The others cannot be: nothing after them could cope."
    )

    @field_validator("labels")
    @classmethod
    def _in_range(cls, labels: dict[str, float]) -> dict[str, float]:
        if wrong := [name for name, value in labels.items() if not 0 <= value <= 1]:
            raise ValueError(f"a label is in [0, 1]; these are not: {', '.join(wrong)}")
        return labels


# The batch rules that can be a warning or off. That the rows to be stored are well formed is none of them.
RuleName = Literal[
    "row-count",
    "quarantine-share",
    "positive-share",
    "mean-length-ratio",
    "language-shift",
    "new-characters",
    "new-words",
    "test-overlap",
    "repeated-pairs",
    "contradicting-pairs",
    "leaked-sentences",
    "giant-groups",
]
Severity = Literal["refuse", "warn", "off"]


class BatchRuleSettings(_Section):
    """What a new batch must satisfy before it may enter the data set."""

    severity: dict[RuleName, Severity] = Field(
        default_factory=dict,
        description="By rule: refuse the batch, warn, or off. Unset: each rule's own, warn for new-words, "
        "repeated-pairs and giant-groups, else refuse. The report shows what is off.",
    )

    min_rows: int = Field(20, ge=1, description="Fewest accepted rows in a batch.")
    max_rows: int = Field(10_000_000, ge=1, description="Most rows in a batch.")
    max_quarantine_share: float = Field(0.2, ge=0, le=1, description="Largest share of rows that row rules may reject.")
    max_label_shift: float = Field(
        0.1, ge=0, le=1, description="Largest difference of the positive share to the data set's, in shares."
    )
    max_length_ratio: float = Field(
        3.0, gt=1, description="Mean sentence length may differ from the data set's by at most this factor."
    )
    max_language_shift: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Largest total-variation distance between the batch's and the data set's languages.",
    )
    max_new_characters: float = Field(
        0.2, ge=0, le=1, description="Largest share of characters that the data set has never shown."
    )
    max_test_overlap: float = Field(
        0.05, ge=0, le=1, description="Largest share of rows that repeat a sentence of the frozen test split."
    )
    max_new_words: float = Field(
        0.3,
        ge=0,
        le=1,
        description="Largest share of words that the data set has never shown. More of the same gives up to 0.05, "
        "another domain up to 0.28, another language 0.94.",
    )
    max_repeated_share: float = Field(
        0.5, ge=0, le=1, description="Largest share of rows that the data set holds already, with the same label."
    )
    max_contradicting_share: float = Field(
        0.02, ge=0, le=1, description="Largest share of rows that the data set holds with another label."
    )
    max_giant_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Largest share of pairs in groups of connected sentences so large that they are divided.",
    )


class GitSettings(_Section):
    """Whether data.dvc is committed and pushed when a version of the data set is published; nothing else ever is."""

    commit: bool = Field(False, description="Commit data.dvc, and only it, on the branch that is checked out.")
    push: bool = Field(False, description="Commit it and push it.")
    remote: str = Field("origin", min_length=1, description="Git remote that is pushed to.")
    branch: str | None = Field(
        None, min_length=1, description="Branch of that remote; unset: the one checked out here."
    )
    author_name: str = Field("Restill", min_length=1, description="Author of these commits.")
    author_email: str = Field("restill@localhost", min_length=1, description="And their e-mail address.")
    attempts: int = Field(5, ge=1, description="Times a push is tried when others push at the same time.")


class DataSettings(_Section):
    """Where pair data comes from and what a row and a batch must satisfy."""

    incoming: str = Field("incoming", description="Folder, or s3:// address, that retrain takes new files from.")
    columns: ColumnSettings = ColumnSettings()
    format: FormatSettings = FormatSettings()
    honour_split: bool = Field(
        False,
        description="Take the split from the column data.columns.split instead of drawing it. What leaks is reported.",
    )
    freeze_test: bool = Field(
        False, description="Let the test split grow no further: new pairs go to training and validation only."
    )
    test_share: float = Field(0.2, gt=0, lt=0.5, description="Share of sentence groups that go to the test split.")
    validation_share: float = Field(0.1, gt=0, lt=0.5, description="Share that goes to the validation split.")
    row_rules: RowRuleSettings = RowRuleSettings()
    batch_rules: BatchRuleSettings = BatchRuleSettings()
    git: GitSettings = GitSettings()


class TeacherSettings(_Section):
    """The frozen encoder that students are distilled from."""

    path: Path | None = Field(
        None, description="Hugging Face BERT directory; unset: all-MiniLM-L6-v2 from its Python package."
    )
    prompt: str = Field("", description="Put before every sentence, e.g. 'query: ' for E5 models.")
    pooling: Literal["mean", "cls"] | None = Field(
        None, description="Unset: what the directory's 1_Pooling says, else mean."
    )
    max_tokens: int = Field(64, ge=8, le=512, description="Longest input in tokens; longer sentences are cut.")
    batch_tokens: int = Field(4096, ge=64, description="Padded tokens per encoder batch.")
    shard_sentences: int = Field(
        1024, ge=1, description="Sentences per stored shard: what a killed worker loses at most."
    )


class StudentSettings(_Section):
    """The small two-tower model that will be served."""

    kind: Literal["siamese-lstm"] = Field("siamese-lstm", description="Architecture.")
    embedding_size: int = Field(96, ge=4, description="Width of the token embeddings.")
    hidden_size: int = Field(96, ge=4, description="LSTM units per direction.")
    max_tokens: int = Field(32, ge=4, le=512, description="Longest input in tokens; longer sentences are cut.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Share of embedding values dropped in training.")
    artifact: Literal["litert", "litert_int8"] = Field("litert", description="The export that is judged and served.")


class DistillationSettings(_Section):
    """How the student learns from the teacher's scores and the human labels."""

    alpha: float = Field(0.3, ge=0, le=1, description="Weight of the soft loss; labels get 1 - alpha.")
    temperature: float = Field(2.0, gt=0, description="Softens teacher and student alike.")
    hard_loss: Literal["bce", "contrastive"] = Field("bce", description="Loss against the labels.")
    soft_loss: Literal["kd", "mse"] = Field("kd", description="Loss against the teacher.")
    learning_rate: float = Field(2e-3, gt=0, description="Adam's step size.")
    batch_pairs: int = Field(128, ge=2, description="Pairs per step.")
    epochs: int = Field(8, ge=1, description="Most passes over the training split.")
    patience: int = Field(2, ge=1, description="Epochs without a better validation score before training stops.")
    seed: int = Field(7, ge=0, description="Seed of initial weights, order and dropout.")
    deterministic: bool = Field(False, description="Slower; the same inputs give the same bytes on one machine type.")


class LatencySettings(_Section):
    """How the exported artifact is timed."""

    threads: int = Field(1, ge=1, description="Interpreter threads, as in serving.")
    requests: int = Field(1500, ge=700, description="Timed single-pair requests per arm; p99 needs at least 662.")
    warmup: int = Field(100, ge=1, description="Requests before the clock counts.")


class GateSettings(_Section):
    """Limits a challenger must keep. Unset limits are not silently passed: turn a gate off under `disabled`."""

    min_accuracy: float = Field(0.7, ge=0, le=1, description="Floor of test accuracy.")
    min_f1: float = Field(0.65, ge=0, le=1, description="Floor of test F1.")
    min_roc_auc: float = Field(0.75, ge=0, le=1, description="Floor of test ROC-AUC.")
    max_accuracy_loss: float = Field(
        0.005, ge=0, le=1, description="Non-inferiority margin to the champion, in accuracy."
    )
    max_slice_loss: float = Field(0.02, ge=0, le=1, description="The same margin on every slice.")
    min_slice_pairs: int = Field(500, ge=2, description="Smaller slices are reported, not judged.")
    min_clusters: int = Field(
        20, ge=2, description="Fewest groups of connected test sentences from which an interval is computed."
    )
    min_teacher_retention: float = Field(0.95, ge=0, description="Least challenger accuracy divided by the teacher's.")
    max_calibration_error: float = Field(0.05, ge=0, le=1, description="Largest expected calibration error.")
    max_p99_latency_ms: float = Field(10.0, gt=0, description="Budget for p99 of one pair, milliseconds.")
    max_latency_ratio: float = Field(1.10, gt=0, description="Largest p50 and p99 relative to the champion's.")
    max_artifact_mb: float = Field(50.0, gt=0, description="Largest served artifact with tokenizer, megabytes.")
    max_disturbance: float = Field(
        0.2,
        gt=0,
        description="A latency run in which the machine changed by more than this share decides nothing.",
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="One-sided confidence of every interval.")
    resamples: int = Field(10_000, ge=1000, description="Bootstrap resamples.")
    attempts: int = Field(4, ge=1, description="Measurements taken before an inconclusive answer is final.")
    require_superiority: bool = Field(
        False, description="Also demand that the challenger is better, not just no worse."
    )
    golden_pairs: Path | None = Field(None, description="CSV of text_a,text_b,label that must all stay right.")
    disabled: tuple[str, ...] = Field((), description="Names of gates that are off; the report shows them as off.")


class RegistrySettings(_Section):
    """Which model in the registry."""

    model: str = Field(
        "default", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Model name: the registry's folder."
    )
    alias: str = Field("champion", pattern=r"^[a-z][a-z0-9-]{0,62}$", description="Alias that promotion moves.")


class StorageSettings(_Section):
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


class Settings(BaseSettings):
    """The whole configuration of one project folder."""

    model_config = SettingsConfigDict(
        env_prefix="RESTILL_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
    )

    root: Path = Field(default_factory=Path.cwd, description="Project folder: holds restill.toml, data.dvc and data/.")
    data: DataSettings = DataSettings()
    teacher: TeacherSettings = TeacherSettings()
    student: StudentSettings = StudentSettings()
    distillation: DistillationSettings = DistillationSettings()
    latency: LatencySettings = LatencySettings()
    gates: GateSettings = GateSettings()
    registry: RegistrySettings = RegistrySettings()
    storage: StorageSettings = StorageSettings()

    @property
    def state_dir(self) -> Path:
        """Return the folder for what this machine keeps: embedded server, caches, checkpoints, reports."""
        return self.root / ".restill"

    @property
    def sample_dir(self) -> Path:
        """Return the folder that sample files are written to: the incoming one, if it is on this machine."""
        is_elsewhere = self.data.incoming.startswith("s3://")
        return self.state_dir / "sample" if is_elsewhere else self.root / self.data.incoming

    @property
    def digest_cache(self) -> Path:
        """Return the file that remembers digests of large local files."""
        return self.state_dir / "cache" / "digests.json"

    @property
    def logits_cache(self) -> Path:
        """Return the local mirror of the teacher scores."""
        return self.state_dir / "cache" / "logits"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments, then environment, then the project's restill.toml."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, find_root() / CONFIG_FILE)


def find_root() -> Path:
    """Return `RESTILL_ROOT`, else the nearest folder upward that holds restill.toml, else the current folder."""
    if named := os.environ.get("RESTILL_ROOT"):
        return Path(named).resolve()
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / CONFIG_FILE).is_file()), here)


def load_settings() -> Settings:
    """Read the configuration of the project around the current folder.

    Raises: ConfigurationError naming each wrong key or value and where it belongs.
    """
    try:
        settings = Settings(root=find_root())
        if settings.teacher.path is not None:  # relative to the project, wherever the command is called
            teacher = settings.teacher.model_copy(update={"path": settings.root / settings.teacher.path})
            return settings.model_copy(update={"teacher": teacher})
        return settings
    except ValidationError as error:
        lines = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]
        raise ConfigurationError(
            f"The configuration is not valid: {'; '.join(lines)}.",
            hint=f"Correct {find_root() / CONFIG_FILE} or the RESTILL_… variable. All keys: restill config show.",
        ) from error
    except ValueError as error:  # tomllib's own error: the file is not TOML
        raise ConfigurationError(f"{find_root() / CONFIG_FILE} is not valid TOML: {error}.") from error
