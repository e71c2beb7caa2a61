import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from restill import students
from restill.errors import ConfigurationError, ExportMismatch
from restill.serving import Encoder
from restill.settings import StudentSettings
from restill.students import litert
from restill.students.exports import FILES

STEPS = 12
VOCABULARY = 300  # matrices above 1,024 values are those that 8 bits are for


def _settings(kind="siamese-lstm"):
    return StudentSettings(kind=kind, embedding_size=16, hidden_size=16, max_tokens=STEPS)


def _probe(rows=16):
    """Ids of different lengths, so that an export which mishandles padding shows."""
    ids = np.random.default_rng(0).integers(2, VOCABULARY, size=(rows, STEPS)).astype(np.int32)
    for row in range(rows):
        ids[row, 1 + row % STEPS :] = 0
    return ids


@pytest.fixture(scope="module", params=["siamese-lstm", "cnn", "dssm", "static"])
def exported(request, tmp_path_factory):
    """Encoder, folder and files of each architecture; `export` itself holds them to the Keras model."""
    encoder = students.build(VOCABULARY, _settings(request.param))
    folder = tmp_path_factory.mktemp("export")
    files = students.export(encoder, _probe(), folder, max_tokens=STEPS, exports=["litert", "litert_int8"])
    return encoder, folder, files


def test_every_export_computes_what_the_model_computes(exported):
    encoder, folder, files = exported
    expected = encoder(_probe(), training=False).numpy()
    assert Encoder(folder / files["litert"], steps=STEPS, threads=1).embed(_probe()) == pytest.approx(
        expected, abs=1e-5
    )
    quantised = Encoder(folder / files["litert_int8"], steps=STEPS, threads=1).embed(_probe())
    assert (quantised * expected).sum(axis=1).min() > 0.99


def test_both_signatures_share_one_set_of_weights(exported):
    """A conversion can lose the weights without an error, or hold them twice."""
    encoder, folder, files = exported
    weights = encoder.count_params()
    assert 3.7 * weights < (folder / files["litert"]).stat().st_size < 4 * weights + 60_000
    projections = 2 * VOCABULARY * 4 * 16 if encoder.name == "siamese-lstm" else 0
    assert (folder / files["litert_int8"]).stat().st_size < 1.5 * weights + projections + 40_000
    signatures = Interpreter(model_path=str(folder / files["litert"])).get_signature_list()
    assert sorted(signatures) == ["embed", "similarity"]


def test_no_operator_is_foreign_to_litert(exported):
    _, folder, files = exported
    for name in files.values():
        found = litert.operators((folder / name).read_bytes())
        assert "GATHER" in found
        assert not any("custom" in operator or "Flex" in operator for operator in found)


def test_exporting_twice_gives_the_same_bytes(exported, tmp_path):
    encoder, folder, files = exported
    again = students.export(encoder, _probe(), tmp_path, max_tokens=STEPS, exports=["litert_int8"])
    assert (tmp_path / again["litert_int8"]).read_bytes() == (folder / files["litert_int8"]).read_bytes()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    encoder = students.build(VOCABULARY, _settings())
    folder = tmp_path_factory.mktemp("saved")
    assert students.export(encoder, _probe(), folder, max_tokens=STEPS, exports=["saved_model"]) == {
        "saved_model": "saved_model"
    }
    return encoder, folder / "saved_model"


def test_the_saved_model_loads_in_a_process_without_our_code(saved, tmp_path):
    _, folder = saved
    code = (
        "import json, sys, tensorflow as tf; loaded = tf.saved_model.load(sys.argv[1]); "
        "pair = loaded.signatures['serving_default'](ids_a=tf.constant([[2, 3]]), ids_b=tf.constant([[2, 3]])); "
        "print(json.dumps({'names': sorted(loaded.signatures), 'same': float(pair['similarity'][0])}))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    answer = json.loads(finished.stdout)
    assert {"embed", "serving_default"} <= set(answer["names"])
    assert answer["same"] == pytest.approx(1.0, abs=1e-5)


def test_an_export_that_differs_is_refused(tmp_path, monkeypatch):
    encoder = students.build(VOCABULARY, _settings("static"))
    original = Encoder.embed
    monkeypatch.setattr(Encoder, "embed", lambda self, ids: original(self, ids)[::-1])
    with pytest.raises(ExportMismatch, match=r"student\.tflite differs"):
        students.export(encoder, _probe(), tmp_path, max_tokens=STEPS, exports=["litert"])


def test_a_file_without_its_weights_is_refused(tmp_path, monkeypatch):
    encoder = students.build(VOCABULARY, _settings("static"))
    monkeypatch.setattr(litert, "convert", lambda *_, **__: b"TFL3")
    with pytest.raises(ExportMismatch, match="its weights alone take"):
        students.export(encoder, _probe(), tmp_path, max_tokens=STEPS, exports=["litert"])


def test_an_operator_that_serving_lacks_is_refused(tmp_path):
    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([2, 2], tf.float32)])
        def determinant(self, matrix):
            return tf.linalg.det(matrix)

    model = Model()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([model.determinant.get_concrete_function()], model)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    path = tmp_path / "flex.tflite"
    path.write_bytes(converter.convert())
    with pytest.raises(ExportMismatch, match="FlexMatrixDeterminant"):
        litert.require_builtin_operators(path)


def test_an_unknown_export_is_a_configuration_error(tmp_path):
    encoder = students.build(VOCABULARY, _settings("static"))
    with pytest.raises(ConfigurationError, match="onnx"):
        students.export(encoder, _probe(), tmp_path, max_tokens=STEPS, exports=["onnx"])
    assert len(set(FILES.values())) == len(FILES)


def test_a_pruned_export_has_a_file_of_its_own(tmp_path):
    encoder = students.build(VOCABULARY, _settings("static"))
    files = students.export(encoder, _probe(), tmp_path, max_tokens=STEPS, exports=["litert_pruned"])
    assert files == {"litert_pruned": "student_pruned.tflite"}
    assert [path.name for path in tmp_path.iterdir()] == ["student_pruned.tflite"]
