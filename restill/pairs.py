"""Sentence pairs: what a stored pair is, and the row rules that each incoming row must keep.

Labels are 0, 1, 0.0, 1.0, a graded score in [0, 1], true or false in any case, or nothing (unlabelled). Anything else
is a bad label, `nan` and `null` included.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

RULES_VERSION = 1  # raise it when the same file would give other accepted rows

SPLITS = ("train", "validation", "test")
PAIR_SCHEMA = pa.schema(
    [
        pa.field("pair_id", pa.string(), nullable=False),  # 32 hex digits, the same for (a, b) and (b, a)
        pa.field("text_a", pa.string(), nullable=False),  # Unicode NFC, no outer white space
        pa.field("text_b", pa.string(), nullable=False),
        pa.field("label", pa.float32()),  # in [0, 1]; null: unlabelled
        pa.field("source", pa.string()),
        pa.field("language", pa.string(), nullable=False),  # lower case; und: not known
        pa.field("group", pa.string(), nullable=False),  # 16 hex digits: pairs connected by shared sentences
        pa.field("split", pa.string(), nullable=False),  # one of SPLITS
        pa.field("row", pa.int64(), nullable=False),  # in the source file; 1 is the first after the header
    ]
)

CHINESE = "zh"
UNKNOWN = "und"

EMPTY_TEXT = "empty_text"
TOO_LONG = "too_long"
BAD_LABEL = "bad_label"
INVALID_UNICODE = "invalid_unicode"
IDENTICAL = "identical_sides_with_label_0"
DUPLICATE = "duplicate"
CONTRADICTORY = "contradictory"
JOINS_TWO_SPLITS = "joins_two_splits"  # found when the batch is split, not a fault of the row
REASONS = {
    EMPTY_TEXT: "a side is empty or has nothing visible",
    TOO_LONG: "a side has more characters than data.max_characters",
    BAD_LABEL: "the label is no number in [0, 1], not true or false, and not empty",
    INVALID_UNICODE: "a side has a replacement, control or non-character: text was damaged on its way",
    IDENTICAL: "both sides are the same, yet the label says they differ",
    DUPLICATE: "the same pair, also swapped, came before with this label, or occurs with a label",
    CONTRADICTORY: "the same pair, also swapped, has different labels in this file; all of them are kept out",
    JOINS_TWO_SPLITS: "its two sentences belong to different splits",
}

_INVISIBLE = r"^[\s\p{Z}\p{Cc}\p{Cf}]*$"
_DAMAGED = r"[\x00-\x08\x0B\x0C\x0E-\x1F\x7F-\x9F\x{FFFD}\x{FFFE}\x{FFFF}]"  # tab and line ends are fine
_WITHOUT = "\0"  # stands between hashed texts: no accepted text holds it


@dataclass(frozen=True)
class Checked:
    """The rows of one file, each either accepted or quarantined with one reason."""

    accepted: pl.DataFrame  # pair_id, text_a, text_b, label, source, language, row; in the file's order
    quarantined: pl.DataFrame  # text_a, text_b, label, source, language as they came, row, reason

    @property
    def rows_in(self) -> int:
        """Return the number of rows of the file."""
        return self.accepted.height + self.quarantined.height


def check_rows(raw: pa.Table, *, max_characters: int) -> Checked:
    """Apply the row rules to what `readers.read_file` gave; each row gets its first matching reason.

    Texts are brought to Unicode NFC and lose outer white space before anything is judged. A language that the file
    does not tell is `zh` for a pair with Han characters, else `und`.
    """
    came = pl.DataFrame(pl.from_arrow(raw))
    judged = _judge(_normalised(came), max_characters)
    quarantined = came.join(judged.select("row", "reason").filter(pl.col("reason").is_not_null()), on="row")
    rows = judged.filter(pl.col("reason").is_null())
    accepted = rows.select(
        pl.Series("pair_id", pair_ids(rows["text_a"], rows["text_b"]), pl.String),
        "text_a",
        "text_b",
        "label",
        "source",
        "language",
        "row",
    )
    checked = Checked(accepted, quarantined.sort("row"))
    if checked.rows_in != came.height:
        raise AssertionError(f"{came.height} rows came, {checked.rows_in} were judged")
    return checked


def pair_ids(text_a: Iterable[str], text_b: Iterable[str]) -> list[str]:
    """Return an id for each pair: 32 hex digits of the SHA-256 of both texts, whichever comes first."""
    return [
        hashlib.sha256(f"{a}{_WITHOUT}{b}".encode() if a <= b else f"{b}{_WITHOUT}{a}".encode()).hexdigest()[:32]
        for a, b in zip(text_a, text_b, strict=True)
    ]


def content_digest(accepted: pl.DataFrame) -> str:
    """Return the SHA-256 (hex) of the rows' content, whatever their order and row numbers."""
    columns = (accepted[name].cast(pl.String).fill_null("") for name in ("text_a", "text_b", "label", "source"))
    digests = sorted(
        hashlib.sha256(_WITHOUT.join(values).encode()).digest()
        for values in zip(*columns, accepted["language"], strict=True)
    )
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _normalised(came: pl.DataFrame) -> pl.DataFrame:
    """Return the columns as they would be stored, and `bad_label`."""
    label = pl.col("label").fill_null("").str.strip_chars().str.to_lowercase()
    number = label.replace({"true": "1", "false": "0"}).cast(pl.Float64, strict=False)
    texts = [pl.col(name).fill_null("").str.normalize("NFC").str.strip_chars() for name in ("text_a", "text_b")]
    frame = came.select(
        "row",
        *texts,
        pl.when(number.is_between(0, 1)).then(number).cast(pl.Float32).alias("label"),
        ((label != "") & ~number.is_between(0, 1).fill_null(False)).alias("bad_label"),
        _filled("source"),
        _filled("language").str.to_lowercase(),
    )
    has_han = pl.any_horizontal(pl.col("text_a", "text_b").str.contains(r"\p{Han}"))
    guessed = pl.when(has_han).then(pl.lit(CHINESE)).otherwise(pl.lit(UNKNOWN))
    return frame.with_columns(pl.col("language").fill_null(guessed))


def _filled(column: str) -> pl.Expr:
    """Return a text column without outer white space, null where nothing is left."""
    stripped = pl.col(column).str.normalize("NFC").str.strip_chars()
    return pl.when(stripped != "").then(stripped).alias(column)


def _judge(frame: pl.DataFrame, max_characters: int) -> pl.DataFrame:
    """Return the frame with `reason`, null for accepted rows."""
    texts = pl.col("text_a", "text_b")
    alone = (
        pl.when(pl.any_horizontal(texts.str.contains(_INVISIBLE)))
        .then(pl.lit(EMPTY_TEXT))
        .when(pl.any_horizontal(texts.str.len_chars() > max_characters))
        .then(pl.lit(TOO_LONG))
        .when("bad_label")
        .then(pl.lit(BAD_LABEL))
        .when(pl.any_horizontal(texts.str.contains(_DAMAGED)))
        .then(pl.lit(INVALID_UNICODE))
        .when((pl.col("text_a") == pl.col("text_b")) & (pl.col("label") == 0))
        .then(pl.lit(IDENTICAL))
    )
    frame = frame.with_columns(alone.alias("reason"))
    # Rows that failed alone neither repeat nor contradict anything.
    sound = frame.filter(pl.col("reason").is_null()).select(
        "row",
        "label",
        pl.min_horizontal("text_a", "text_b").alias("first"),
        pl.max_horizontal("text_a", "text_b").alias("second"),
    )
    pair = ["first", "second"]
    labels = pl.col("label").drop_nulls().n_unique().over(pair)
    unlabelled_too = pl.col("label").is_null() & (labels > 0)
    repeated = pl.col("row") != pl.col("row").min().over([*pair, "label"])
    among = sound.select(
        "row",
        pl.when(repeated | unlabelled_too)
        .then(pl.lit(DUPLICATE))
        .when(labels > 1)
        .then(pl.lit(CONTRADICTORY))
        .alias("among"),
    )
    return frame.join(among, on="row", how="left", maintain_order="left").with_columns(
        pl.coalesce("reason", "among").alias("reason")
    )
