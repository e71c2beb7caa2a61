"""Where pair data comes from, and what a row and a batch must satisfy."""

import codecs
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from restill.settings.section import Section

# Codecs for host names, source code and protocols: Python knows them, no file of pairs is written in them.
_NO_FILE_ENCODINGS = {"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape", "utf-7", "mbcs", "oem"}


class ColumnSettings(Section):
    """Names of the columns in incoming files; optional columns may be absent from a file."""

    text_a: str = Field("text_a", description="Column with the first sentence.")
    text_b: str = Field("text_b", description="Column with the second sentence.")
    label: str = Field("label", description="Column with 0, 1, a score in [0, 1], or nothing (unlabelled).")
    source: str = Field("source", description="Optional column that says where a pair comes from.")
    language: str = Field("language", description="Optional column with a language tag such as en or zh.")
    created_at: str = Field("created_at", description="Optional column that says when a pair was made.")
    split: str = Field("split", description="Optional column that says which split a pair belongs to.")


class FormatSettings(Section):
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


class RowRuleSettings(Section):
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


class BatchRuleSettings(Section):
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


class GitSettings(Section):
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


class DataSettings(Section):
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
