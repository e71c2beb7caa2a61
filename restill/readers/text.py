"""Bytes to lines of text: decoded strictly, in bounded memory, and with the place of whatever is wrong."""

import codecs
import io
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import IO

from restill.errors import DataRejected
from restill.readers.refusals import refusal
from restill.settings import FormatSettings

BLOCK_BYTES = 256 * 1024
MAX_LINE_BYTES = 16 * 1024**2  # a longer line is no sentence pair; reading on would fill the memory
SAMPLE_BYTES = 32 * 1024  # enough to tell one legacy encoding from another

# UTF-32 before UTF-16: its little-endian mark begins with the other's.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
# First bytes that no text has, and what they say a file is.
_MAGIC = {
    b"\x1f\x8b": "gzip: .gz belongs behind its name",
    b"\x28\xb5\x2f\xfd": "zstd: .zst belongs behind its name",
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"PAR1\x15": "Parquet",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\xfd7zXZ\0": "xz",
    b"BZh91AY&SY": "bzip2",
}
# What files of sentences are written in; of all that Python knows, short texts look like the oddest.
_LEGACY = ("gb18030", "big5", "cp932", "euc_jp", "euc_kr", "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1256")
_EAST_ASIAN = _LEGACY[:5]
SHOWN_SIGNS = 12


class Text:
    """The text of a file, in whole lines. A line ends in LF, CRLF or CR, and keeps its end.

    Attributes:
        encoding: for a person, such as "UTF-8 with byte order mark".
        first: the lines of the first block.
        bytes_read: how many, after unpacking.
        row_start: the line that the current row begins in, from 1. A reader whose rows span lines keeps it, and a row
            that never ends is then refused like a line that never ends.
    """

    def __init__(self, file: IO[bytes], name: str, settings: FormatSettings) -> None:
        """Read the first block.

        Raises: DataRejected if it is no text in the encoding; what reading the file raises.
        """
        self.name = name
        self.row_start: int | None = None
        self.bytes_read = 0
        self._file = file
        self._head: bytes | None = file.read(BLOCK_BYTES)
        for magic, kind in _MAGIC.items():
            if self._head.startswith(magic):
                raise refusal(name, "byte 0", f"its first bytes are those of another format, {kind}", "text")
        self._codec, self.encoding = _find_encoding(self._head, settings.encoding, name)
        self._marked = self._head.startswith(tuple(_MARKS))
        self._declared = settings.encoding != "auto"
        self._lines = 0  # how many are given out
        blocks = self._blocks()
        self.first = next(blocks, "")
        self._rest = blocks

    def lines(self) -> Iterator[str]:
        """Yield every line; once only.

        Raises: DataRejected at a byte that is not in the encoding, a NUL, or a line or row that does not end.
        """
        return chain.from_iterable(map(self._split, chain((self.first,), self._rest)))

    def refusal(self, line: int, found: str, expected: str) -> DataRejected:
        """Return the refusal of this file for one of its lines, from 1."""
        return refusal(self.name, f"line {line:,}", found, expected)

    def _split(self, block: str) -> list[str]:
        lines = list(split_lines(block))
        self._lines += len(lines)
        return lines

    def _blocks(self) -> Iterator[str]:
        """Yield text in whole lines, a block's worth at a time."""
        decoder = codecs.getincrementaldecoder(self._codec)("strict")
        pending: list[str] = []  # a line that has begun
        pending_bytes = 0
        row_start, row_bytes = self.row_start, 0  # where the current row begins, and what was read since
        fresh = True  # nothing was decoded yet, so a byte order mark may come
        held = ""  # a CR at the end of a block: an LF may follow
        while True:
            block = self._file.read(BLOCK_BYTES) if self._head is None else self._head
            self._head = None
            state = decoder.getstate()
            try:
                text = decoder.decode(block, not block)
                nul = b"\0" in block and "\0" in text  # in most encodings the bytes tell, and fast
            except UnicodeDecodeError:
                nul = True
            if nul:
                raise self._misfit(block, state, "".join(pending) + held)
            self.bytes_read += len(block)
            if fresh and text:
                text = text.removeprefix("\ufeff")
                fresh = False
            text = held + text
            held = ""
            if block and text.endswith("\r"):
                text, held = text[:-1], "\r"
            row_bytes = row_bytes + len(block) if row_start and row_start == self.row_start else 0
            row_start = self.row_start
            cut = max(text.rfind("\n"), text.rfind("\r")) + 1
            pending_bytes = len(block) if cut else pending_bytes + len(block)
            if row_bytes > MAX_LINE_BYTES or pending_bytes > MAX_LINE_BYTES:
                raise self.refusal(
                    row_start or self._lines + 1,
                    f"what begins here is longer than {MAX_LINE_BYTES:,} bytes",
                    "one pair in a row; look for a missing line end, or a quote that is not closed",
                )
            if cut:
                yield "".join([*pending, text[:cut]])
                pending = []
            if cut < len(text):
                pending.append(text[cut:])
            if not block:
                break
        if pending:
            yield "".join(pending)

    def _misfit(self, block: bytes, state: tuple[bytes, int], line: str) -> DataRejected:
        """Return the refusal for what is wrong in a block, found by decoding it again byte by byte.

        `state` is the decoder's before the block, `line` the part of the line that came before it.
        """
        decoder = codecs.getincrementaldecoder(self._codec)("strict")
        decoder.setstate(state)
        seen = [line]
        after = self.bytes_read - len(state[0])  # the byte after the last whole character
        for read in range(1, max(len(block), 1) + 1):  # the last block is empty: then the end itself is wrong
            fed = block[read - 1 : read]
            try:
                text = decoder.decode(fed, not fed)
            except UnicodeDecodeError as error:
                # The decoder's object also holds the bytes that it had kept back.
                byte = min(self.bytes_read + read, self.bytes_read + len(block)) - len(error.object) + error.start
                found = f"byte {byte:,} (0x{error.object[error.start]:02x}) is not {self._shown}"
                break
            if "\0" in text:
                byte = after
                found = f"byte {byte:,} is NUL"
                break
            seen.append(text)
            if text:
                after = self.bytes_read + read
        else:
            raise AssertionError(f"{self.name}: a block did not decode, and on a second look did")
        text = "".join(seen)
        number = self._lines + text.count("\n") + text.count("\r") - text.count("\r\n") + 1
        return self._no_such_text(number, found, block, byte - self.bytes_read)

    def _no_such_text(self, line: int, found: str, block: bytes, at: int) -> DataRejected:
        if self._declared:
            return self.refusal(line, found, f"text in {self._shown}, as declared, without NUL bytes")
        looks = [] if self._marked else _suggestions(block, at)
        if not looks:
            return self.refusal(line, found, f"text in {self._shown} without NUL bytes, or its encoding declared")
        said = " or ".join(f"{codec} (“{text}”)" if text else codec for codec, text in looks)
        codec = looks[0][0]
        return DataRejected(
            f"{self.name}, line {line:,}: {found}; it looks like {said}.",
            hint=f"Expected: text in {self._shown}. No encoding is guessed: a wrong guess garbles text unseen. "
            f'If it is {codec}, say so: --encoding {codec}, or data.format.encoding = "{codec}" in restill.toml.',
        )

    @property
    def _shown(self) -> str:
        return _shown_encoding(self._codec)


def split_lines(text: str) -> Iterable[str]:
    """Split at LF, CRLF and CR, and translate none, as the csv module wants it; str.splitlines knows eight more."""
    return io.StringIO(text, newline="")


def line_end(lines: Iterable[str]) -> str | None:
    """Return how lines end, LF, CRLF, CR or mixed; None if none of them does."""
    ends = {"CRLF" if line.endswith("\r\n") else {"\n": "LF", "\r": "CR"}.get(line[-1:]) for line in lines} - {None}
    return "mixed" if len(ends) > 1 else next(iter(ends), None)


def _find_encoding(head: bytes, declared: str, name: str) -> tuple[str, str]:
    """Return the codec, and the encoding for a person."""
    marked = next((codec for mark, codec in _MARKS.items() if head.startswith(mark)), None)
    if declared == "auto":
        codec = marked or "utf-8"
        return codec, _shown_encoding(codec) + (" with byte order mark" if marked else "")
    codec = codecs.lookup(declared).name
    codec = "utf-8" if codec == "utf-8-sig" else codec
    if marked and marked not in (codec, f"{codec}-le", f"{codec}-be"):
        raise refusal(
            name,
            "byte 0",
            f"it begins with the byte order mark of {_shown_encoding(marked)}",
            f"text in {declared}, as declared; leave data.format.encoding at auto to follow the mark",
        )
    return marked or codec, declared


def _shown_encoding(codec: str) -> str:
    return codec.upper() if codec.startswith("utf-") else codec


def _suggestions(block: bytes, at: int) -> list[tuple[str, str]]:
    """Return the encodings that a block looks like, the likeliest first, and how the text at fault would read in each.

    Args:
        block: bytes of the file.
        at: a byte that is no UTF-8.
    """
    from charset_normalizer import from_bytes  # 40 ms that only a refusal pays

    if block[at : at + 1] == b"\0":
        # In UTF-16 each second byte of the header is NUL: the upper half of an ASCII character.
        uppers = {"utf-16-be": block[:64:2], "utf-16-le": block[1:64:2]}
        return [(codec, "") for codec, half in uppers.items() if half.count(0) > len(half) // 2][:1]
    start = max(block.rfind(b"\n", 0, max(at, 0)) + 1, at - SAMPLE_BYTES, 0)
    sample = block[start : start + SAMPLE_BYTES]
    sample = sample[: sample.rfind(b"\n") + 1] or sample
    best = from_bytes(sample, cp_isolation=list(_LEGACY)).best() if sample else None
    if best is None:
        return []
    readings = {codec: sample.decode(codec, "replace") for codec in _LEGACY}
    # Several may give the same text, as é has one byte in most of Europe: then the most usual one.
    likeliest = next(codec for codec in _LEGACY if readings[codec] == sample.decode(best.encoding, "replace"))
    # Of the encodings of East Asia a short text fits several: whoever can read it sees which.
    others = [codec for codec in _EAST_ASIAN if codec != likeliest and "\ufffd" not in readings[codec]]
    chosen = [likeliest, *others[:1]] if likeliest in _EAST_ASIAN else [likeliest]
    return [(codec, _excerpt(readings[codec])) for codec in chosen]


def _excerpt(text: str) -> str:
    """Return the first words of a text that are not ASCII, as can be shown."""
    found = re.search(r"\w*[^\W\x00-\x7f]\w*", text)
    return "".join(sign for sign in found[0][:SHOWN_SIGNS] if sign.isprintable()) if found else ""
