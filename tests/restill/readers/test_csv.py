"""CSV and TSV: dialects, encodings, places of errors, bounded memory."""

import csv
import gzip
import io
import time

import psutil
import pyarrow as pa
import pytest
from pydantic import ValidationError
from reading import PAIR, csv_bytes, json_bytes, many_rows, parquet_bytes, read_bytes, read_file, refusal, texts, zstd

from restill import readers
from restill.errors import DataRejected
from restill.settings import ColumnSettings, FormatSettings

HEADER = b"text_a,text_b,label\n"
NUMBERED = ColumnSettings(text_a="1", text_b="2", label="3")


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd])
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_and_compression_gives_the_same_rows(tmp_path, kind, pack):
    """A newline, a quote and a separator inside a text survive; an empty label stays empty."""
    rows = [{"text_a": 'a "b", c\nd', "text_b": "转账\t吗", "label": "1"}, {"text_a": "e", "text_b": "f", "label": ""}]
    if kind in ("csv", "tsv"):
        table = [list(rows[0]), *(list(row.values()) for row in rows)]
        content = b"\xef\xbb\xbf" + csv_bytes(table, delimiter="\t" if kind == "tsv" else ",")
    else:
        content = json_bytes(rows) if kind == "jsonl" else parquet_bytes(pa.Table.from_pylist(rows))
    suffix = {bytes: "", gzip.compress: ".gz", zstd: ".zst"}[pack]
    got = read_bytes(tmp_path, f"p.{kind}{suffix}", pack(content))
    assert got.schema == readers.RAW_SCHEMA
    assert got.select(["text_a", "text_b", "label"]).to_pylist() == rows
    assert got["row"].to_pylist() == [1, 2]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.csv", b"", "no rows"),
        ("p.csv", HEADER, "no rows"),
        ("p.csv", b"\xef\xbb\xbf", "no rows"),
        ("p.csv", HEADER + b"a,b,1\nc,d\n", "line 3: the row that begins here has 2 fields"),
        ("p.csv", HEADER + b'a,"b\nb",1\nc,d,1,x\n', "line 4: the row that begins here has 4 fields"),
        ("p.csv", HEADER + b"\n\n   \na,b,1\n", "line 4: the row that begins here has 1 field"),
        ("p.csv", HEADER + b'a,b,1\na,"b,1\nc,d,1\n', "line 3: the row that begins here cannot be read"),
        ("p.csv", HEADER + b'a,"b"c,1\n', "line 2: the row that begins here cannot be read"),
        ("p.csv", HEADER + b"a,b\rc,1\n", "line 2: the row that begins here has 2 fields"),
        ("p.csv", HEADER + b"a,b\0,1\n", "line 2: byte 23 is NUL"),
        ("p.csv", HEADER + b"a,\xe9t\xe9,1\n", "line 2: byte 22 (0xe9) is not UTF-8; it looks like cp1252"),
        ("p.csv", HEADER + "a,é".encode()[:-1], "line 2: byte 22 (0xc3) is not UTF-8"),
        ("p.csv", HEADER + b"a,\xed\xa0\x80,1\n", "line 2: byte 22 (0xed) is not UTF-8"),
        ("p.csv", "text_a,text_b\na,b\n".encode("utf-16-le"), "byte 1 is NUL; it looks like utf-16-le"),
        ("p.csv", "text_a,text_b\na,b\n".encode("utf-16")[:-1], "is not UTF-16-LE"),
        ("p.csv", b"a,b\nc,d\n", "there is no column 'text_a' or 'text_b'. Its columns with ','"),
        ("p.csv", b"text_a:text_b\nc:d\n", "(tried: ',' ';' tab '|'): 'text_a:text_b'"),
        ("p.csv", b"text_a,text_b,z;text_a;text_b\n1,2,3;4;5\n", "with ',' and also with ';' between fields"),
        ("p.csv", b"text_a,text_b,label,label\na,b,1,0\n", "'label' names 2 columns"),
        ("p.csv", gzip.compress(HEADER, mtime=0), "those of another format, gzip"),
        ("p.csv", b"PK\x03\x04", "a zip archive"),
        ("p.txt", b"a", "its name says no known format"),
        ("p.csv.zip", b"PK", "its name says no known format"),
        ("p.csv.gz", gzip.compress(HEADER + b"a,b,1\n" * 999, mtime=0)[:-12], "cannot be read"),
        ("p.csv.gz", gzip.compress(HEADER + b"a,b,1\n", mtime=0) + b"garbage", "cannot be read"),
        ("p.csv.gz", HEADER + b"a,b,1\n", "Not a gzipped file"),
        ("p.csv.zst", zstd(HEADER + b"a,b,1\n" * 999)[:-4], "cannot be read"),
        ("p.csv.zst", zstd(HEADER + b"a,b,1\n") + b"garbage", "cannot be read"),
        ("p.csv.zst", zstd(HEADER + b"a,b,1\n") + zstd(b"a,b,1\n")[:5], "cannot be read"),
    ],
)
def test_an_unreadable_file_is_refused_with_its_place(tmp_path, name, content, said):
    with pytest.raises(DataRejected, match=name) as refused:
        read_bytes(tmp_path, name, content)
    assert said in str(refused.value)
    assert refused.value.hint


def test_a_missing_file_or_a_folder_is_refused(tmp_path):
    with pytest.raises(DataRejected, match="There is no file"):
        read_file(tmp_path / "p.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataRejected, match=r"folder\.csv cannot be read: Is a directory"):
        read_file(tmp_path / "folder.csv")


def test_a_column_that_was_named_must_be_there(tmp_path):
    """A wrong name for the label must not quietly make every pair unlabelled."""
    with pytest.raises(DataRejected, match="no column 'score'"):
        read_bytes(tmp_path, "p.csv", HEADER + b"a,b,1\n", ColumnSettings(label="score"))


def test_a_refusal_stays_short_whatever_the_header(tmp_path):
    assert len(refusal(tmp_path, "p.csv", b"a" * 2_000_000)) < 300
    many = refusal(tmp_path, "p.csv", b",".join(b"%d" % number for number in range(200_000)))
    assert "'29' and 199,970 more" in many


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "UTF-8"),
        ("utf-8-sig", "UTF-8 with byte order mark"),
        ("utf-16", "UTF-16-LE with byte order mark"),
        ("utf-32", "UTF-32-LE with byte order mark"),
    ],
)
def test_delimiter_mark_and_line_ends_are_found(tmp_path, delimiter, end, encoding, shown):
    """The header is quoted, blank lines are no rows, and a line end inside quotes is text."""
    rows = [("text_a", "text_b", "split"), ("a\nb", "é", "test"), ("转", "", "train")]
    content = csv_bytes(rows, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL).decode()
    blank = end + content.replace(f"{end}{rows[2][0]}", f"{end}{end}{rows[2][0]}") + end
    path = tmp_path / "p.csv"
    path.write_bytes(blank.encode(encoding))
    with readers.open_file(path, ColumnSettings(), FormatSettings()) as reading:
        (batch,) = reading
    found = reading.detected
    assert batch.select(["text_a", "text_b", "split"]).to_pylist() == [
        dict(zip(rows[0], row, strict=True)) for row in rows[1:]
    ]
    assert batch["row"].to_pylist() == [1, 2]
    assert (found.encoding, found.delimiter, found.columns, found.declared) == (shown, delimiter, rows[0], ())
    assert found.line_end == {"\n": "LF", "\r\n": "CRLF", "\r": "CR"}[end]


def test_what_was_found_is_said_in_a_sentence(tmp_path):
    def sentence(name: str, content: bytes, columns: ColumnSettings = PAIR, **options) -> str:
        (tmp_path / name).write_bytes(content)
        with readers.open_file(tmp_path / name, columns, FormatSettings(**options)) as reading:
            return reading.detected.sentence

    rows = b"text_a;text_b\r\na;b\n"
    assert sentence("p.csv", rows) == "CSV, UTF-8, ';' between fields (detected), mixed"
    assert sentence("p.csv.gz", gzip.compress(b"\xef\xbb\xbf" + rows[:15], mtime=0)) == (
        "CSV, gzip, UTF-8 with byte order mark, ';' between fields (detected), CRLF"
    )
    assert sentence("p.tsv", b"text_a\ttext_b\na\tb") == "TSV, UTF-8, tab between fields, LF"
    assert sentence("p.csv", b"a|b", NUMBERED.model_copy(update={"label": "label"}), delimiter="|", header=False) == (
        "CSV, UTF-8, '|' between fields (declared), no header (declared)"
    )
    assert sentence("p.csv", rows[:13] + b"\n", encoding="latin-1", quote="", escape="\\") == (
        "CSV, latin-1 (declared), ';' between fields (detected), "
        "nothing around fields (declared), escaped characters (declared), LF"
    )


@pytest.mark.parametrize("encoding", ["gb18030", "big5", "cp932", "euc_kr", "cp1252", "utf-16-be", "utf-32-le", "hz"])
def test_a_declared_encoding_is_honoured_strictly(tmp_path, encoding):
    text = {"cp1252": "café au lait", "euc_kr": "송금하는 방법"}.get(
        encoding, "転帳方法" if encoding == "cp932" else "方法"
    )
    content = f"text_a,text_b\n{text},x\n".encode(encoding)
    declared = FormatSettings(encoding=encoding)
    assert texts(read_bytes(tmp_path, "p.csv", content, file_format=declared)) == [(text, "x")]
    said = refusal(tmp_path, "p.csv", content + b"\x81", encoding=encoding)  # undefined, or half a character
    assert f"line 3: byte {len(content)} (0x81) is not {encoding}" in said.lower()


def test_an_undeclared_encoding_is_suggested_and_never_used(tmp_path):
    rows = "".join(f"怎么转账给朋友{number},如何把钱转给别人{number},1\n" for number in range(20))
    with pytest.raises(DataRejected, match=r"line 2: byte 20 .0xd4. is not UTF-8; it looks like gb18030") as refused:
        read_bytes(tmp_path, "p.csv", HEADER + rows.encode("gb18030"))
    assert "--encoding gb18030" in refused.value.hint


def test_a_mark_that_contradicts_the_declaration_is_refused(tmp_path):
    content = "text_a,text_b\na,b\n".encode("utf-8-sig")
    assert "it begins with the byte order mark of UTF-8" in refusal(tmp_path, "p.csv", content, encoding="gb18030")
    assert refusal(tmp_path, "p.csv", content, encoding="utf8") is None
    assert refusal(tmp_path, "p.csv", "text_a,text_b\na,b\n".encode("utf-16"), encoding="utf-16") is None


def test_quote_escape_and_missing_header_can_be_declared(tmp_path):
    def read(content: bytes, **options):
        return texts(read_bytes(tmp_path, "p.csv", content, NUMBERED, FormatSettings(header=False, **options)))

    assert read(b'a\\,a,"b\\"b""c",1\n', escape="\\") == [("a,a", 'b"b"c')]
    assert read(b"'a,b','it''s',1\n", quote="'") == [("a,b", "it's")]
    assert read(b'"a,5" screen,1\n', quote="") == [('"a', '5" screen')]
    assert read(b"a;b;1\nc;d;1\n", delimiter=";") == [("a", "b"), ("c", "d")]
    assert refusal(tmp_path, "p.csv", b"a,b\nc,d\n", header=False).endswith("Its columns: '1', '2'.")
    assert "line 2: the row that begins here has 2 fields" in refusal(
        tmp_path, "p.csv", b"a,b,1\nc,d\n", NUMBERED, header=False
    )
    with pytest.raises(DataRejected) as refused:
        read(b"a,b,1\nc,d\n")
    assert "3 fields, as in the first row" in refused.value.hint


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"encoding": "nope"}, "no encoding that Python knows"),
        ({"encoding": "rot13"}, "not an encoding of text files"),
        ({"encoding": "unicode_escape"}, "not an encoding of text files"),
        ({"delimiter": ""}, "it is empty"),
        ({"delimiter": "||"}, "must be one character"),
        ({"quote": "\n"}, "must be one character"),
        ({"delimiter": ";", "escape": ";"}, "must be different characters"),
    ],
)
def test_a_format_that_cannot_be_is_refused(options, said):
    with pytest.raises(ValidationError, match=said):
        FormatSettings(**options)


# Places


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (b"a,b\n", "the row that begins here has 2 fields"),
        (b'a,"b\nb"x,1\n', "the row that begins here cannot be read"),
        (b'a,"b\nb,1\n', "the row that begins here cannot be read"),
        (b"a,\0b,1\n", "byte {byte:,} is NUL"),
        (b"a,\xffb,1\n", "byte {byte:,} (0xff) is not UTF-8"),
        (b"a,\xe8\xbd", "byte {byte:,} (0xe8) is not UTF-8"),
    ],
)
def test_a_place_far_inside_a_file_is_exact(tmp_path, wrong, said, end, pack):
    """Over several blocks and chunks, behind fields of two lines and characters of three bytes."""
    before = "".join(["text_a,text_b,label", end, *many_rows(70_000, end)])
    size = len(before.encode())
    after = b"" if wrong[-1:] != b"\n" else b"c,d,1\n" * 9
    found = refusal(
        tmp_path,
        {bytes: "p.csv", gzip.compress: "p.csv.gz", zstd: "p.csv.zst"}[pack],
        pack(before.encode() + wrong + after),
    )
    assert f"line {2 + 2 * 70_000:,}: " + said.format(byte=size + 2) in found


def test_a_place_in_utf16_counts_its_bytes(tmp_path):
    before = "".join(["text_a,text_b,label\n", *many_rows(20_000, "\n")])
    found = refusal(tmp_path, "p.csv", (before + "a\0").encode("utf-16"))
    assert f"line {2 + 40_000:,}: byte {2 + 2 * (len(before) + 1):,} is NUL" in found


# Memory


def test_memory_does_not_grow_with_the_file(tmp_path):
    """300 MB flow through; what is held is a chunk."""
    path = tmp_path / "p.csv"
    block = csv_bytes([("转" * 1500, "b" * 1500, "1")] * 50)
    with path.open("wb") as file:
        file.write(HEADER)
        for _ in range(300_000_000 // len(block)):
            file.write(block)
    process = psutil.Process()
    with readers.open_file(path, ColumnSettings(), FormatSettings()) as reading:
        batches = iter(reading)
        rows = next(batches).num_rows
        before = process.memory_info().rss
        most = 0
        for batch in batches:
            rows += batch.num_rows
            most = max(most, process.memory_info().rss - before)
    assert rows == 50 * (300_000_000 // len(block))
    assert most < 120e6


@pytest.mark.parametrize("quote", [b"", b'"'])
def test_a_line_or_a_row_without_end_is_refused_early(tmp_path, quote):
    """A gzip bomb of one line, or of one quote that is never closed, is left long before its end."""
    member = gzip.compress((b"x" * 99 + (b"\n" if quote else b"x")) * 100_000, 1)
    process = psutil.Process()
    before = process.memory_info().rss
    started = time.monotonic()
    found = refusal(tmp_path, "p.csv.gz", gzip.compress(HEADER + b"a," + quote, mtime=0) + member * 200)
    assert "line 2: what begins here is longer than 16,777,216 bytes" in found
    assert time.monotonic() - started < 10
    assert process.memory_info().rss - before < 400e6


def test_a_row_as_long_as_is_allowed_is_read(tmp_path):
    """A long text is a row to quarantine, not an unreadable file."""
    long = "x" * 16_000_000
    assert texts(read_bytes(tmp_path, "p.csv", HEADER + f"{long},b,1\n".encode() * 2)) == [(long, "b")] * 2


def test_chunks_are_bounded_in_rows_and_in_bytes(tmp_path):
    path = tmp_path / "p.csv"
    path.write_bytes(HEADER + b"a,b,1\n" * 150_000)
    with readers.open_file(path, ColumnSettings(), FormatSettings()) as reading:
        assert [batch.num_rows for batch in reading] == [65_536, 65_536, 18_928]
    path.write_bytes(HEADER + b"a" * 1_000_000 + b",b,1\n" + (b"a" * 1_000_000 + b",b,1\n") * 60)
    with readers.open_file(path, ColumnSettings(), FormatSettings()) as reading:
        assert max(batch.num_rows for batch in reading) < 30


def test_an_error_of_the_caller_is_not_the_files(tmp_path):
    path = tmp_path / "p.csv.gz"
    path.write_bytes(gzip.compress(HEADER + b"a,b,1\n", mtime=0))

    def write() -> None:
        with readers.open_file(path, ColumnSettings(), FormatSettings()) as reading:
            for _ in reading:
                raise OSError(28, "disk full")

    with pytest.raises(OSError, match="disk full"):
        write()


def test_names_of_known_formats():
    known = ["a.csv", "A.CSV.GZ", "a.tsv.zst", "a.jsonl", "a.ndjson", "a.parquet", "a.b.csv"]
    assert all(map(readers.is_known, known))
    assert not any(map(readers.is_known, ["a", "a.gz", "a.txt", "a.csv.zip", "csv", ".csv~", "a.csv.partial"]))


def test_the_csv_module_may_be_used_beside(tmp_path):
    """Reading sets the process's field limit; it is never smaller than csv's own."""
    read_bytes(tmp_path, "p.csv", HEADER + b"a,b,1\n")
    assert next(csv.reader(io.StringIO("a" * 200_000))) == ["a" * 200_000]
