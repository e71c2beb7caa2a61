import json
import subprocess
import sys

import numpy as np
import pytest

from restill import students
from restill.errors import ExportMismatch, IntegrityError
from restill.serving import Encoder
from restill.settings import StudentSettings

SMALL = StudentSettings(embedding_size=8, hidden_size=6, max_tokens=12)


def _probe(rows=16, steps=12, vocabulary=50):
    """Ids of different lengths, so that an export which mishandles padding shows."""
    generator = np.random.default_rng(0)
    ids = generator.integers(2, vocabulary, size=(rows, steps)).astype(np.int32)
    for row in range(rows):
        ids[row, 1 + row % steps :] = 0
    return ids


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    encoder = students.build(50, SMALL)
    folder = tmp_path_factory.mktemp("export")
    files = students.export(encoder, _probe(), folder, max_tokens=12)
    return encoder, folder, files


def test_embeddings_have_length_one():
    vectors = students.build(50, SMALL)(_probe(), training=False).numpy()
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(16), abs=1e-5)


def test_padding_changes_nothing():
    encoder = students.build(50, SMALL)
    short = _probe(steps=6)
    padded = np.pad(short, ((0, 0), (0, 10)))
    assert encoder(short, training=False).numpy() == pytest.approx(encoder(padded, training=False).numpy(), abs=1e-6)


def test_a_sentence_of_unknown_nothing_has_cosine_zero_and_not_nan():
    vectors = students.build(50, SMALL)(np.zeros((1, 12), np.int32), training=False).numpy()
    assert np.abs(vectors).max() == 0.0


def test_every_export_computes_what_the_model_computes(exported):
    encoder, folder, files = exported
    expected = encoder(_probe(), training=False).numpy()
    assert Encoder(folder / files["litert"], steps=12, threads=1).embed(_probe()) == pytest.approx(expected, abs=1e-4)
    quantised = Encoder(folder / files["litert_int8"], steps=12, threads=1).embed(_probe())
    assert (quantised * expected).sum(axis=1).min() > 0.98


def test_weights_are_in_the_exports(exported):
    """A conversion can lose the weights without an error; a model with them cannot be smaller than they are."""
    encoder, folder, files = exported
    assert (folder / files["litert"]).stat().st_size > 4 * encoder.count_params()


def test_the_saved_model_loads_in_a_process_without_our_code(exported, tmp_path):
    _, folder, _ = exported
    code = (
        "import json, sys, tensorflow as tf; loaded = tf.saved_model.load(sys.argv[1]); "
        "pair = loaded.signatures['serving_default'](ids_a=tf.constant([[2, 3]]), ids_b=tf.constant([[2, 3]])); "
        "print(json.dumps({'names': sorted(loaded.signatures), 'same': float(pair['similarity'][0])}))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code, str(folder / "saved_model")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    answer = json.loads(finished.stdout)
    assert {"embed", "serving_default"} <= set(answer["names"])
    assert answer["same"] == pytest.approx(1.0, abs=1e-5)


def test_an_export_that_differs_is_refused(tmp_path, monkeypatch):
    encoder = students.build(50, SMALL)
    original = Encoder.embed
    monkeypatch.setattr(Encoder, "embed", lambda self, ids: original(self, ids)[::-1])
    with pytest.raises(ExportMismatch, match=r"student\.tflite differs"):
        students.export(encoder, _probe(), tmp_path, max_tokens=12)


def test_a_sentence_is_embedded_alike_whatever_stands_beside_it(exported):
    """Short inputs run through a shorter interpreter; the vector must not depend on that."""
    encoder, folder, files = exported
    long = np.full((1, 12), 7, np.int32)
    short = np.array([[7, 8, 9] + [0] * 9], np.int32)
    served = Encoder(folder / files["litert"], steps=12, threads=1)
    together = served.embed(np.concatenate([long, short]))
    assert together[1] == pytest.approx(served.embed(short)[0], abs=0)
    assert together == pytest.approx(encoder(np.concatenate([long, short]), training=False).numpy(), abs=1e-5)


@pytest.mark.parametrize("content", [b"", b"TFL3 and nothing else", b"\0" * 4096])
def test_what_is_no_model_is_an_integrity_error(tmp_path, content):
    path = tmp_path / "student.tflite"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"student\.tflite"):
        Encoder(path, steps=12, threads=1)
