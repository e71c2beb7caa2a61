"""Sentence pairs: what a stored pair is, and the row rules that each incoming row must keep.

Labels are 0, 1, 0.0, 1.0, a graded score in [0, 1], true or false in any case, a spelling named in
`data.row_rules.labels`, or nothing (unlabelled). Anything else is a bad label, `nan` and `null` included.
"""

import functools
import unicodedata
from typing import NamedTuple

import polars as pl
import pyarrow as pa

from restill.settings import RowRuleSettings

RULES_VERSION = 2  # raise it when the same file would give other accepted rows

SPLITS = ("train", "validation", "test")
PAIR_SCHEMA = pa.schema(
    [
        pa.field("pair_id", pa.string(), nullable=False),  # 32 hex digits, the same for (a, b) and (b, a)
        pa.field("text_a", pa.string(), nullable=False),  # Unicode NFC, no outer white space
        pa.field("text_b", pa.string(), nullable=False),
        pa.field("label", pa.float32()),  # in [0, 1]; null: unlabelled
        pa.field("source", pa.string()),
        pa.field("language", pa.string(), nullable=False),  # lower case; und: not known
        pa.field("created_at", pa.timestamp("us", tz="UTC")),
        pa.field("group", pa.string(), nullable=False),  # 16 hex digits: pairs connected by shared sentences
        pa.field("split", pa.string(), nullable=False),  # one of SPLITS
        pa.field("row", pa.int64(), nullable=False),  # in the source file; 1 is the first after the header
    ]
)

CHINESE = "zh"
UNKNOWN = "und"


class Reason(NamedTuple):
    """Why a row is kept out."""

    name: str
    meaning: str
    is_fault: bool = True  # of the file; others say nothing of its quality


# A row gets the first that holds. In files, reasons are names; in memory, places in this list, 0 for accepted.
_ALL = (
    Reason("empty_text", "a side is empty or has nothing visible"),
    Reason("too_long", "a side has more characters than data.row_rules.max_characters"),
    Reason("bad_label", "the label is no number in [0, 1], not true or false, and not empty"),
    Reason("invalid_unicode", "a side has a replacement, control or non-character: text was damaged on its way"),
    Reason("bad_language", "the language is no tag such as en or zh-Hans: letters, digits and dashes, at most 35"),
    Reason("bad_source", "the source has more than 200 characters"),
    Reason("bad_created_at", "the time is neither an ISO 8601 date or time nor empty"),
    Reason("bad_split", "the split column is honoured, and this is no split's name"),
    Reason("identical_sides_with_label_0", "both sides are the same, yet the label says they differ"),
    Reason("duplicate", "the same pair, also swapped, came before with this label, or occurs with a label"),
    Reason("contradictory", "the same pair, also swapped, has different labels in this file; all of them are kept out"),
    Reason(
        "forgotten",
        "it was removed on request (restill data forget); what it says is not kept here either",
        is_fault=False,
    ),
    Reason("already_stored", "the data set has this pair, also swapped, with this label or one", is_fault=False),
    Reason("contradicts_stored", "the data set has this pair, also swapped, with another label, which stays"),
    Reason("joins_two_splits", "its two sentences belong to different splits", is_fault=False),
    Reason(
        "frozen_test",
        "it hangs together with a sentence of the test split, which is frozen (data.freeze_test)",
        is_fault=False,
    ),
)
REASONS = {reason.name: reason.meaning for reason in _ALL}
NO_FAULT = frozenset(reason.name for reason in _ALL if not reason.is_fault)
NAMES = ("", *REASONS)
CODES = {name: code for code, name in enumerate(NAMES)}

_INVISIBLE = r"^[\s\p{Z}\p{Cc}\p{Cf}]*$"
_DAMAGED = r"[\x00-\x08\x0B\x0C\x0E-\x1F\x7F-\x9F\x{FFFD}\x{FFFE}\x{FFFF}]"  # tab and line ends are fine
_LANGUAGE = "^[a-z0-9]{1,8}(?:[-_][a-z0-9]{1,8}){0,3}$"
MAX_SOURCE = 200  # characters; a longer one is a text in the wrong column
_SPLIT_NAMES = {"train": 0, "training": 0, "validation": 1, "valid": 1, "val": 1, "dev": 1, "test": 2}
NOT_ASKED = -1


def judge_rows(came: pl.DataFrame, rules: RowRuleSettings, *, honour_split: bool) -> pl.DataFrame:
    """Judge each row of a chunk by itself; what concerns several rows is found later.

    Texts are brought to Unicode NFC and lose outer white space before anything is judged. A language that the file
    does not tell is `zh` for a pair with Han characters, else `und`.

    Args:
        came: columns of `readers.RAW_SCHEMA`, all text as it came.
        rules: limits, and which rules are off.
        honour_split: whether the split column says where a pair belongs.
    Returns: `row`, `text_a`, `text_b`, `label` (float32), `source`, `language`, `created_at` as they would be stored,
        `asked` (place in SPLITS that the file asks for, or -1), `reason` (uint8, a place in NAMES).
    """
    frame = _normalised(came, rules)
    texts = pl.col("text_a", "text_b")
    broken = {
        "empty_text": pl.any_horizontal(texts.str.contains(_INVISIBLE)),
        "too_long": pl.any_horizontal(texts.str.len_chars() > rules.max_characters),
        "bad_label": pl.col("bad_label"),
        "invalid_unicode": pl.any_horizontal(texts.str.contains(_DAMAGED)),
        "bad_language": ~pl.col("language").str.contains(_LANGUAGE),
        "bad_source": pl.col("source").str.len_chars() > MAX_SOURCE,
        "bad_created_at": pl.col("bad_created_at"),
        "bad_split": (pl.col("asked").is_null() if honour_split else pl.lit(False)),
        "identical_sides_with_label_0": (pl.col("text_a") == pl.col("text_b")) & (pl.col("label") == 0),
    }
    reason = pl.lit(0, pl.UInt8)
    for name, is_broken in reversed(broken.items()):
        if name not in rules.off:
            reason = pl.when(is_broken.fill_null(False)).then(pl.lit(CODES[name], pl.UInt8)).otherwise(reason)
    asked = pl.col("asked").fill_null(NOT_ASKED) if honour_split else pl.lit(NOT_ASKED, pl.Int8)
    return frame.select(
        "row", "text_a", "text_b", "label", "source", "language", "created_at", asked.alias("asked"), reason=reason
    )


def _normalised(came: pl.DataFrame, rules: RowRuleSettings) -> pl.DataFrame:
    """Return the columns as they would be stored, and what is wrong with those that cannot be."""
    label = pl.col("label").fill_null("").str.strip_chars().str.to_lowercase()
    spellings = {"true": "1", "false": "0", **{name.lower(): str(value) for name, value in rules.labels.items()}}
    number = label.replace(spellings).cast(pl.Float64, strict=False)
    texts = [_composed(came[name].fill_null("")).str.strip_chars() for name in ("text_a", "text_b")]
    split = pl.col("split").fill_null("").str.strip_chars().str.to_lowercase()
    frame = came.select(
        "row",
        *texts,
        pl.when(number.is_between(0, 1)).then(number + 0.0).cast(pl.Float32).alias("label"),
        ((label != "") & ~number.is_between(0, 1).fill_null(False)).alias("bad_label"),
        _filled("source"),
        _filled("language").str.to_lowercase(),
        split.replace_strict({**_SPLIT_NAMES, "": NOT_ASKED}, default=None, return_dtype=pl.Int8).alias("asked"),
        *_times(came["created_at"]),
    )
    has_han = pl.any_horizontal(pl.col("text_a", "text_b").str.contains(r"\p{Han}"))
    guessed = pl.when(has_han).then(pl.lit(CHINESE)).otherwise(pl.lit(UNKNOWN))
    return frame.with_columns(pl.col("language").fill_null(guessed))


def _composed(texts: pl.Series) -> pl.Series:
    """Return texts in Unicode NFC. Nearly all are; looking costs a tenth of composing."""
    doubtful = texts.str.contains(_may_not_be_composed())
    if not doubtful.any():
        return texts
    return texts.scatter(doubtful.arg_true(), texts.filter(doubtful).str.normalize("NFC"))


@functools.cache
def _may_not_be_composed() -> str:
    """Return a pattern of the characters without which a text is in NFC (UAX 15, quick check).

    These are the ones that NFC replaces, and those that join a character before them: marks, and the inner letters of
    Hangul syllables.
    """
    codes = (code for code in range(0x30000) if not 0xD800 <= code < 0xE000)  # all planes with such letters
    replaced = [rf"\x{{{code:X}}}" for code in codes if not unicodedata.is_normalized("NFC", chr(code))]
    return r"[\p{M}\x{1161}-\x{1175}\x{11A8}-\x{11C2}" + "".join(replaced) + "]"


def _filled(column: str) -> pl.Expr:
    """Return a text column without outer white space, null where nothing is left."""
    stripped = pl.col(column).str.normalize("NFC").str.strip_chars()
    return pl.when(stripped != "").then(stripped).alias(column)


def _times(came: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return `created_at` in UTC, and `bad_created_at`. A time without a zone is taken for UTC."""
    if came.null_count() == len(came):
        empty = pl.Series("created_at", [None], pl.Datetime("us", "UTC")).new_from_index(0, len(came))
        return empty, pl.Series("bad_created_at", [False]).new_from_index(0, len(came))
    text = came.fill_null("").str.strip_chars().str.replace(r"^(\S+)[Tt]", "$1 ").str.replace(r"[Zz]$", "+00:00")
    zoned = text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%:z", strict=False, time_unit="us", time_zone="UTC")
    plain = text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False, time_unit="us").dt.replace_time_zone("UTC")
    dates = text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    found = pl.select(pl.coalesce(zoned, plain, dates)).to_series()
    return found.alias("created_at"), ((text != "") & found.is_null()).alias("bad_created_at")
