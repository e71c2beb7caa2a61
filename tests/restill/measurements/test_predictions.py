import io

import numpy as np
import pyarrow.parquet as pq
import pytest

from restill.errors import IntegrityError
from restill.measurements.accuracy import Predictions
from restill.measurements.predictions import from_parquet, to_parquet
from restill.measurements.rows import Rows

ROWS = Rows(
    pair_ids=["p1", "p2", "p3"],
    text_a=["turn on", "a secret", "开灯"],
    text_b=["switch on", "another", "打开灯"],
    grades=np.array([1.0, 0.0, 0.5]),
    clusters=np.array(["g1", "g1", "g2"]),
    slices={"language=en": np.array([True, True, False]), "batch=new": np.zeros(3, np.bool_)},
    unlabelled={"batch=new": 4},
)
PREDICTIONS = {
    "challenger": Predictions(np.array([0.9, 0.1, 0.7]), np.array([0.95, 0.05, 0.6]), 0.5),
    "teacher": Predictions(np.array([0.8, 0.2, 0.6]), np.array([0.9, 0.1, 0.5]), 0.4),
}


def test_what_was_predicted_is_read_back():
    rows, predictions = from_parquet(to_parquet(ROWS, PREDICTIONS), "here")
    assert rows.pair_ids == ROWS.pair_ids
    assert rows.grades.tolist() == [1.0, 0.0, 0.5]
    assert rows.clusters.tolist() == ["g1", "g1", "g2"]
    assert {name: members.tolist() for name, members in rows.slices.items()} == {
        "language=en": [True, True, False],
        "batch=new": [False, False, False],
    }
    assert rows.unlabelled == {"batch=new": 4}
    for name, found in predictions.items():
        assert found.threshold == PREDICTIONS[name].threshold
        np.testing.assert_array_equal(found.cosines, PREDICTIONS[name].cosines)
        np.testing.assert_array_equal(found.decisions, PREDICTIONS[name].decisions)


def test_no_sentence_is_in_the_file():
    """Predictions outlive sentences that have to be forgotten."""
    content = to_parquet(ROWS, PREDICTIONS)
    table = pq.read_table(io.BytesIO(content))
    assert "secret" not in str(table.to_pylist())
    assert b"secret" not in content


@pytest.mark.parametrize("content", [b"", b"no parquet", to_parquet(ROWS, PREDICTIONS)[:-40]])
def test_a_damaged_file_is_refused(content):
    with pytest.raises(IntegrityError, match="here does not hold predictions"):
        from_parquet(content, "here")


def test_the_same_predictions_are_the_same_bytes():
    assert to_parquet(ROWS, PREDICTIONS) == to_parquet(ROWS, PREDICTIONS)
