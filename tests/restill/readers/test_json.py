"""JSON Lines."""

import pytest
from reading import json_bytes, read_bytes, refusal, texts

from restill import readers
from restill.errors import DataRejected
from restill.settings import ColumnSettings, FormatSettings

PAIR = b'{"text_a": "a", "text_b": "b"}\n'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\n \n", "no rows"),
        (PAIR + b'{"text_a": "a"\n', "line 2: not valid JSON: Expecting ',' delimiter, at character 15"),
        (b'{"text_a": "a", "text_b": "b", "text_a": "c"}\n', "a name occurs twice"),
        (b'{"text_a": "a", "text_b": ["b"]}\n', "'text_b' is a JSON list"),
        (PAIR + b'\n{"text_a": 1, "text_b": "b"}\n', "line 3: 'text_a' is a JSON number"),
        (b'{"text_a": "a", "text_b": "b", "split": true}\n', "'split' is a JSON boolean"),
        (b'{"text_a": "a", "text_b": "b", "created_at": 20240101}\n', "'created_at' is a JSON number"),
        (PAIR + b'{"text_a": "a"}\n', "line 2: there is no column 'text_b'"),
        (b'["a", "b"]\n', "line 1: found a JSON list"),
        (b'  {"text_a" 1}\n', "line 1: not valid JSON: Expecting ':' delimiter, at character 13"),
        (b"null\n", "line 1: found a JSON null"),
        (b"[" * 100_000 + b"\n", "line 1: not valid JSON"),
        (b'{"text_a": "a", "text_b": "b", "label": ' + b"1" * 5000 + b"}\n", "line 1: not valid JSON"),
        (b'{\n "text_a": "a",\n "text_b": "b"\n}\n', "line 1: not valid JSON"),
        (PAIR[:-1] + PAIR, "line 1: not valid JSON: more than one value, at character 31"),
        (PAIR + b'{"text_a": "a\xff", "text_b": "b"}\n', "line 2: byte 44 (0xff) is not UTF-8"),
        (PAIR + b'{"text_a": "a\0", "text_b": "b"}\n', "line 2: byte 44 is NUL"),
        (PAIR + "\u3000\n".encode(), "line 2: not valid JSON"),
    ],
)
def test_what_is_no_object_a_line_is_refused_with_its_line(tmp_path, content, said):
    assert said in refusal(tmp_path, "p.jsonl", content)


def test_one_json_array_is_told_what_json_lines_is(tmp_path):
    for content in (b"[" + PAIR + b"]", b"[\n" + PAIR + b"]\n"):
        with pytest.raises(DataRejected, match=r"p\.jsonl, line 1") as refused:
            read_bytes(tmp_path, "p.jsonl", content)
        assert "one JSON object in each line, as JSON Lines has it, and no array" in refused.value.hint


def test_labels_become_text_and_absent_values_null(tmp_path):
    labels = [0, 1, True, 0.5, "x", None, float("nan")]
    rows = [{"text_a": "a", "text_b": None, "label": label, "more": {"a": [1]}} for label in labels]
    table = read_bytes(tmp_path, "p.ndjson", json_bytes([*rows, {"text_a": "", "text_b": "b"}]))
    assert table["label"].to_pylist() == ["0", "1", "True", "0.5", "x", None, "nan", None]
    assert texts(table) == [("a", None)] * 7 + [("", "b")]
    assert table["row"].to_pylist() == list(range(1, 9))


def test_a_named_column_must_occur_once_at_least(tmp_path):
    content = PAIR + b'{"text_a": "a", "text_b": "b", "score": 1}\n'
    assert read_bytes(tmp_path, "p.jsonl", content, ColumnSettings(label="score"))["label"].to_pylist() == [None, "1"]
    assert "all lines: there is no column 'score'" in refusal(
        tmp_path, "p.jsonl", PAIR * 3, ColumnSettings(label="score")
    )


def test_lone_surrogates_become_replacement_characters(tmp_path):
    """In text, where the row rules find them, and in names, where nobody looks."""
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'{"text_a": "a\\ud800", "text_b": "\\ud83d\\ude00", "\\udfff": 1}\n')
    with readers.open_file(path, ColumnSettings(), FormatSettings()) as reading:
        (batch,) = reading
    assert (batch["text_a"].to_pylist(), batch["text_b"].to_pylist()) == (["a\ufffd"], ["\U0001f600"])
    assert reading.detected.columns == ("text_a", "text_b", "\ufffd")


def test_encodings_and_line_ends_are_as_for_csv(tmp_path):
    for end in (b"\n", b"\r\n", b"\r"):
        content = (PAIR.strip() + end + end + PAIR.strip() + end).decode()
        for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
            assert texts(read_bytes(tmp_path, "p.jsonl", content.encode(encoding))) == [("a", "b")] * 2
    chinese = '{"text_a": "转账", "text_b": "汇款"}\n'.encode("gb18030")
    assert texts(read_bytes(tmp_path, "p.jsonl", chinese, file_format=FormatSettings(encoding="gbk"))) == [
        ("转账", "汇款")
    ]
    assert "is not UTF-8" in refusal(tmp_path, "p.jsonl", chinese)


def test_a_long_file_comes_in_chunks_and_keeps_its_line_numbers(tmp_path):
    assert read_bytes(tmp_path, "p.jsonl", PAIR * 70_000).num_rows == 70_000
    assert "line 70,001: found a JSON number" in refusal(tmp_path, "p.jsonl", PAIR * 70_000 + b"1\n")
    endless = b'{"text_a": "' + b"a" * 17 * 1024**2
    assert "line 1: what begins here is longer" in refusal(tmp_path, "p.jsonl", endless)
