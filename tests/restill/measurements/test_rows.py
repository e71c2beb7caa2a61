import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from restill.errors import MeasurementFailed
from restill.measurements.rows import lexical_overlap, read_rows
from restill.pairs import PAIR_SCHEMA
from restill.snapshots import Snapshot


def _snapshot(root, **batches):
    """A data version of test pairs: batch → (text_a, text_b, label, language, source) each."""
    for batch, rows in batches.items():
        file = root / f"batch={batch}" / "part-0.parquet"
        file.parent.mkdir(parents=True)
        facts = [
            {
                "pair_id": f"{batch}{number:031d}"[:32],
                "text_a": a,
                "text_b": b,
                "label": label,
                "source": source,
                "language": language,
                "created_at": None,
                "group": f"{batch}{number // 2}",
                "split": "test",
                "row": number + 1,
            }
            for number, (a, b, label, language, source) in enumerate(rows)
        ]
        pq.write_table(pa.Table.from_pylist(facts, PAIR_SCHEMA), file)
    return Snapshot("v" * 32, root, tuple(batches), {"test": sum(len(rows) for rows in batches.values())})


ENGLISH = [(f"light number {n} on", "lamp on", float(n % 2), "en", "app") for n in range(30)]
CHINESE = [("打开灯", "开灯", 1.0, "zh", None)] * 10 + [("打开灯", "关灯", None, "zh", None)] * 7


def test_slices_are_of_language_source_batch_length_and_overlap(tmp_path):
    rows = read_rows(_snapshot(tmp_path, a=ENGLISH, b=CHINESE), "test", new_batches=frozenset("b"))
    sizes = {name: int(members.sum()) for name, members in rows.slices.items()}
    assert len(rows.labels) == 40
    assert (sizes["language=en"], sizes["language=zh"]) == (30, 10)
    assert (sizes["source=app"], sizes["source=none"]) == (30, 10)
    assert (sizes["batch=new"], sizes["batch=earlier"]) == (10, 30)
    assert sum(size for name, size in sizes.items() if name.startswith("length=")) == 40
    assert sum(size for name, size in sizes.items() if name.startswith("overlap=")) == 40
    assert rows.unlabelled["batch=new"] == 7


def test_a_slice_without_a_label_is_there_and_empty(tmp_path):
    unlabelled = [("打开灯", "关灯", None, "zh", None)] * 5
    rows = read_rows(_snapshot(tmp_path, a=ENGLISH, b=unlabelled), "test", new_batches=frozenset("b"))
    assert not rows.slices["language=zh"].any()
    assert rows.unlabelled["language=zh"] == 5


def test_graded_labels_are_a_slice_and_positive_from_one_half(tmp_path):
    graded = [(f"word {n}", "word", grade, "en", "app") for n, grade in enumerate([0.2, 0.5, 0.7] * 5)]
    rows = read_rows(_snapshot(tmp_path, a=ENGLISH, b=graded), "test")
    assert rows.graded
    assert int(rows.slices["label=graded"].sum()) == 15
    assert rows.labels[30:33].tolist() == [False, True, True]
    assert not read_rows(_snapshot(tmp_path / "plain", a=ENGLISH), "test").graded


def test_a_split_of_one_kind_has_no_slice_of_everything(tmp_path):
    rows = read_rows(_snapshot(tmp_path, a=ENGLISH), "test")
    assert not [name for name in rows.slices if name.startswith(("language", "source", "batch", "label"))]


def test_many_sources_are_notes_and_no_slices(tmp_path):
    noted = [(a, b, label, language, f"ticket {n}") for n, (a, b, label, language, _) in enumerate(ENGLISH)]
    rows = read_rows(_snapshot(tmp_path, a=noted), "test")
    assert not [name for name in rows.slices if name.startswith("source")]


def test_a_few_labels_measure_nothing(tmp_path):
    with pytest.raises(MeasurementFailed, match="10 labelled"):
        read_rows(_snapshot(tmp_path, a=CHINESE), "test")


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("abc", "abc", 1.0),
        ("abc", "xyz", 0.0),
        ("ab", "abc", 0.5),
        ("ABC", "abc", 1.0),
        ("灯", "灯", 1.0),
        ("a", "b", 0.0),
    ],
)
def test_lexical_overlap_worked_by_hand(a, b, expected):
    """`ab` has the pair ab, `abc` has ab and bc: one of two."""
    assert lexical_overlap(a, b) == expected
    assert np.isclose(lexical_overlap(a, b), lexical_overlap(b, a))
