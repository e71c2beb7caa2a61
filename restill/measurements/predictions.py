"""What every model said of every test pair, as one Parquet file: a verdict can be computed again from it.

It holds ids, labels and answers, and no sentence, so it stays readable when sentences have to be forgotten.
"""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from restill.errors import IntegrityError
from restill.measurements.accuracy import Predictions
from restill.measurements.rows import Rows

FORMAT = "1"


def to_parquet(rows: Rows, predictions: dict[str, Predictions]) -> bytes:
    """Return a Parquet file with a row a test pair: pair_id, label, group, slices, and each model's answers.

    A model's columns are `<model>_cosine` and `<model>_probability`; its threshold is in the file's metadata.
    """
    names = list(rows.slices)
    members = np.array([rows.slices[name] for name in names], np.bool_).reshape(len(names), len(rows.pair_ids))
    columns = {
        "pair_id": pa.array(rows.pair_ids, pa.string()),
        "label": pa.array(rows.grades, pa.float32()),
        "group": pa.array(rows.clusters.tolist(), pa.string()),
        "slices": pa.array(
            [[name for name, inside in zip(names, row, strict=True) if inside] for row in members.T],
            pa.list_(pa.string()),
        ),
    }
    for model, found in predictions.items():
        columns[f"{model}_cosine"] = pa.array(found.cosines, pa.float64())
        columns[f"{model}_probability"] = pa.array(found.probabilities, pa.float64())
    facts = {
        "format": FORMAT,
        "thresholds": {model: found.threshold for model, found in predictions.items()},
        "slices": names,
        "unlabelled": rows.unlabelled,
    }
    table = pa.table(columns).replace_schema_metadata({"restill": json.dumps(facts)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def from_parquet(content: bytes, where: str) -> tuple[Rows, dict[str, Predictions]]:
    """Read the rows, without their sentences, and the predictions.

    Args:
        content: what `to_parquet` returned.
        where: named in errors.
    Raises: IntegrityError if it is no such file.
    """
    try:
        table = pq.read_table(io.BytesIO(content))
        facts = json.loads(table.schema.metadata[b"restill"])
        if facts["format"] != FORMAT:
            raise ValueError(f"its format is {facts['format']}, not {FORMAT}")
        inside = [set(row) for row in table["slices"].to_pylist()]
        nothing = [""] * len(table)
        rows = Rows(
            pair_ids=table["pair_id"].to_pylist(),
            text_a=nothing,
            text_b=nothing,
            grades=table["label"].to_numpy().astype(np.float64),
            clusters=np.array(table["group"].to_pylist()),
            slices={name: np.array([name in row for row in inside], np.bool_) for name in facts["slices"]},
            unlabelled=facts["unlabelled"],
        )
        predictions = {
            model: Predictions(
                table[f"{model}_cosine"].to_numpy(), table[f"{model}_probability"].to_numpy(), float(threshold)
            )
            for model, threshold in facts["thresholds"].items()
        }
    except (pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise IntegrityError(
            f"{where} does not hold predictions: {error}", hint="Restore the object from a backup."
        ) from error
    return rows, predictions
