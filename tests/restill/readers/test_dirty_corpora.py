"""Collections of dirty files that others made: csv-spectrum, frictionless, and the big list of naughty strings."""

import base64
import gzip
import itertools
import json
import re

import pyarrow as pa
import pytest
from reading import (
    DIRTY,
    SHARED,
    csv_bytes,
    json_bytes,
    parquet_bytes,
    plain_pairs,
    plain_rows,
    read_bytes,
    read_file,
    texts,
)

from restill import readers
from restill.errors import DataRejected
from restill.settings import ColumnSettings

SPECTRUM = sorted((DIRTY / "csv-spectrum" / "csvs").glob("*.csv"))
FRICTIONLESS = sorted(path for path in (DIRTY / "frictionless").glob("*") if path.is_file())
PLACE = re.compile(r"line [\d,]+|byte [\d,]+|header|its name says|no rows|cannot be read: ")

pytestmark = pytest.mark.skipif(not DIRTY.is_dir(), reason=f"the shared dirty files are not in {DIRTY}")


@pytest.mark.parametrize("path", SPECTRUM, ids=lambda path: path.stem)
def test_csv_spectrum_gives_what_its_json_says(path):
    expected = json.loads((path.parent.parent / "json" / f"{path.stem}.json").read_text("utf-8"))
    if path.stem == "location_coordinates":  # its JSON is one object and holds another telephone number than its CSV
        expected = [expected | {"Contact Phone Number": "2095257564"}]
    for a, b in itertools.permutations(expected[0], 2):
        got = texts(read_file(path, ColumnSettings(text_a=a, text_b=b)))
        assert got == [(row[a], row[b]) for row in expected], (a, b)


@pytest.mark.parametrize("path", FRICTIONLESS, ids=lambda path: path.name)
def test_a_frictionless_file_is_read_as_the_oracle_reads_it_or_refused_once(path):
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if path.suffix in (".jsonl", ".ndjson"):
        a, b = "name", "name"
        expected = [(row["name"], row["name"]) for row in map(json.loads, content.decode().splitlines())]
    else:
        # Where rows are ragged or bytes are no UTF-8 the oracle has none, but a header there is.
        first = content.decode("latin-1").removeprefix("ï»¿").splitlines()[:1]
        headers = {d: (plain_rows(first[0].encode("latin-1"), d) or [[]])[0] if first else [] for d in ",;\t|"}
        delimiter = max(headers, key=lambda d: len(headers[d]))
        a, b = headers[delimiter][:2] if len(headers[delimiter]) > 1 else ("text_a", "text_b")
        expected = plain_pairs(content, delimiter, a, b) if readers.is_known(path.name) and a != b else None
    if expected is not None:
        assert texts(read_file(path, ColumnSettings(text_a=a, text_b=b))) == expected
        return
    with pytest.raises(DataRejected) as refused:
        read_file(path, ColumnSettings(text_a=a, text_b=b))
    assert path.name in str(refused.value)
    assert PLACE.search(str(refused.value))
    assert refused.value.hint


def test_most_frictionless_files_are_read():
    """So that the test above is not passed by refusing everything: 79 of 109, and no zip."""
    read = 0
    for path in FRICTIONLESS:
        rows = [plain_rows(path.read_bytes(), d) for d in ",;\t|"] if path.suffix == ".csv" else []
        read += any(found is not None and len(found) > 1 and len(found[0]) > 1 for found in rows)
    assert read > 70


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_naughty_strings_come_back_unchanged(tmp_path, kind):
    strings = json.loads((DIRTY / "blns" / "blns.json").read_text("utf-8"))
    for encoded in json.loads((DIRTY / "blns" / "blns.base64.json").read_text("utf-8")):
        strings.append(base64.b64decode(encoded).decode("utf-8", "replace"))
    strings = [text for text in strings if "\0" not in text]
    pairs = list(zip(strings, reversed(strings), strict=True))
    named = [{"text_a": a, "text_b": b} for a, b in pairs]
    if kind in ("csv", "tsv"):
        content = csv_bytes([("text_a", "text_b"), *pairs], delimiter="," if kind == "csv" else "\t")
    else:
        content = (
            json_bytes(named, ensure_ascii=False) if kind == "jsonl" else parquet_bytes(pa.Table.from_pylist(named))
        )
    assert texts(read_bytes(tmp_path, f"p.{kind}", content)) == pairs
    assert len(pairs) > 1000


def test_the_raw_list_of_naughty_strings_is_refused_not_misread():
    """A text file under a CSV name is no table."""
    content = (DIRTY / "blns" / "blns.txt").read_bytes()
    assert plain_pairs(content) is None


@pytest.mark.parametrize("name", ["zh/lcqmc_dev", "en/qqp_dev", "zh/afqmc", "en/banking77"])
def test_real_pairs_are_read_as_the_oracle_reads_them(name):
    path = SHARED / f"{name}.csv.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    expected = plain_pairs(gzip.decompress(path.read_bytes()))
    assert expected is not None  # they all have these columns
    assert texts(read_file(path)) == expected
