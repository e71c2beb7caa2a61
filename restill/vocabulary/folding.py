"""One writing for what reads the same: full-width and half-width, upper and lower case, invisible characters."""

import re

from tokenizers import Regex, Tokenizer, normalizers

# Scripts that write no spaces between words.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"

MARK = "▁"  # stands before and after a word of a script with spaces

# Dropped: variation selectors, which only say whether an emoji is in colour, and the mark, so that no text spells it.
# BertNormalizer drops control and format characters, the joiners of emoji among them.
_INVISIBLE = rf"[\x{{FE00}}-\x{{FE0F}}{MARK}]"

_FIRST = rf"[[\p{{L}}\p{{N}}_]&&[^{UNSPACED}]]"
_INNER = rf"[[\p{{L}}\p{{M}}\p{{N}}_]&&[^{UNSPACED}]]"


def folding() -> normalizers.Normalizer:
    """Return the normaliser of the `char` tokens: NFKC, lower case, nothing invisible."""
    return normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Replace(Regex(_INVISIBLE), ""),
            normalizers.BertNormalizer(handle_chinese_chars=False, strip_accents=False),  # cleans and lower-cases
        ]
    )


def marking() -> normalizers.Normalizer:
    """Return the normaliser of the `word` tokens: as `folding`, with a mark on both ends of words that have ends.

    `Turn on花呗!` becomes `▁turn▁ ▁on▁花呗!`: a run of letters and digits of a script with spaces is a word, and no
    other piece can then match inside it. Text without spaces and punctuation stay unmarked.
    """
    return normalizers.Sequence(
        [
            folding(),
            normalizers.Replace(Regex(rf"(?<!{_INNER})(?={_FIRST})|(?<={_INNER})(?!{_INNER})"), MARK),
        ]
    )


def any_width(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy that reads full-width and half-width forms alike (NFKC): BERT's tokenizers do not know the one."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.normalizer = normalizers.Sequence([normalizers.NFKC(), *filter(None, [copy.normalizer])])
    return copy


_FOLDING, _MARKING = folding(), marking()
_WORD = re.compile(r"[A-Za-z0-9]+")  # nearly all lines of a file of vectors are one of these two,
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]+")  # and the normalisers take ten times as long to say the same


def fold(text: str) -> str:
    """Return the text as `char` tokens read it."""
    if _WORD.fullmatch(text):
        return text.lower()
    return text if _HAN.fullmatch(text) else _FOLDING.normalize_str(text)


def mark(text: str) -> str:
    """Return the text as `word` tokens read it, marks included."""
    if _WORD.fullmatch(text):
        return f"{MARK}{text.lower()}{MARK}"
    return text if _HAN.fullmatch(text) else _MARKING.normalize_str(text)
