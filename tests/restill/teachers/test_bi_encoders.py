import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from bert_reference import embeddings, from_hugging_face
from factories import write_tiny_teacher
from safetensors.numpy import load_file, save_file

from restill.errors import TeacherError
from restill.settings import TeacherSettings
from restill.teachers import load_teacher, open_teacher

ZH_TEACHER = Path(__file__).parents[4] / "shared" / "teachers" / "zh-e5-small"


def assert_parity(settings: TeacherSettings, pooling: str, sentences: list[str]) -> None:
    opened = open_teacher(settings)
    weights = from_hugging_face(load_file(opened.weights_path))
    config = json.loads((opened.directory / "config.json").read_text())
    rows = [opened.tokenizer.encode(settings.prompt + sentence).ids for sentence in sentences]
    expected = embeddings(weights, config, rows, pooling)
    np.testing.assert_allclose(load_teacher(settings).encode(sentences), expected, rtol=0, atol=1e-5)


def add_pooler(folder: Path, hidden: int = 32) -> None:
    random = np.random.default_rng(9)
    weights = load_file(folder / "model.safetensors")
    weights["pooler.dense.weight"] = random.normal(0, 0.2, (hidden, hidden)).astype(np.float32)
    weights["pooler.dense.bias"] = random.normal(0, 0.2, hidden).astype(np.float32)
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("pooling", "dtype", "prefix"),
    [("mean", np.float32, ""), ("cls", np.float16, "bert."), ("mean", ml_dtypes.bfloat16, "bert.")],
)
def test_tiny_teachers_match_a_plain_forward_pass(tmp_path, sentences, pooling, dtype, prefix):
    folder = write_tiny_teacher(tmp_path / "tiny", pooling=pooling, dtype=dtype, prefix=prefix)
    assert_parity(TeacherSettings(path=folder, prompt="query: "), pooling, sentences)


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler", "pooler-tanh"])
def test_every_pooling_can_be_set_and_matches_a_plain_forward_pass(broken, sentences, pooling):
    add_pooler(broken)
    assert_parity(TeacherSettings(path=broken, pooling=pooling), pooling, sentences)


def test_default_teacher_matches_a_plain_forward_pass(sentences):
    assert_parity(TeacherSettings(), "mean", sentences)


@pytest.mark.skipif(not ZH_TEACHER.is_dir(), reason="needs ../shared/teachers/zh-e5-small")
def test_chinese_teacher_matches_a_plain_forward_pass(sentences):
    assert_parity(TeacherSettings(path=ZH_TEACHER, prompt="query: "), "mean", sentences)


@pytest.mark.parametrize("pooling", ["pooler", "pooler-tanh"])
def test_pooler_that_is_not_in_the_weights_is_refused(tiny, pooling):
    with pytest.raises(TeacherError, match=r"missing pooler\.dense\.weight; missing pooler\.dense\.bias") as caught:
        load_teacher(TeacherSettings(path=tiny, pooling=pooling))
    assert "teacher.pooling" in caught.value.hint


def test_old_names_of_normalisation_layers_are_read(broken, teacher, sentences):
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in load_file(broken / "model.safetensors").items()
    }
    save_file(renamed, broken / "model.safetensors")
    found = load_teacher(TeacherSettings(path=broken)).encode(sentences)
    np.testing.assert_array_equal(found, teacher.encode(sentences))


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_teacher_is_frozen(broken, precision):
    add_pooler(broken)
    encoder = load_teacher(TeacherSettings(path=broken, pooling="pooler", precision=precision)).encoder
    assert len(encoder.variables) > 20
    assert not encoder.trainable_variables


def test_layer_can_be_made_trainable(tiny):
    from restill.teachers.encoder import BertLayer, attention_penalty

    files = open_teacher(TeacherSettings(path=tiny))
    weights = files.read_weights()
    frozen, trainable = (BertLayer(files.config, weights, 1, trainable=flag) for flag in (False, True))
    assert not frozen.trainable_variables
    assert len(trainable.trainable_variables) == len(trainable.variables) == 12
    hidden, penalty = tf.random.stateless_normal([6, 32], seed=[0, 1]), attention_penalty(tf.ones([2, 3]))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(trainable(hidden, penalty)[:, 0])
    np.testing.assert_array_equal(trainable(hidden, penalty), frozen(hidden, penalty))
    assert all(gradient is not None for gradient in tape.gradient(total, trainable.trainable_variables))


def test_embeddings_are_unit_vectors_in_the_order_given(teacher, sentences):
    together = teacher.encode(sentences)
    alone = np.concatenate([teacher.encode([sentence]) for sentence in sentences])
    assert together.shape == (len(sentences), teacher.dimension)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    # Alone nothing is padded, so equality also shows that padding has no influence.
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert np.abs(together[0] - together[1]).max() > 0.01


def test_small_batches_give_the_same_embeddings_with_less_padding(tiny):
    sentences = [f"{'the cat ' * (row % 7)}{row}" for row in range(60)]
    small = load_teacher(TeacherSettings(path=tiny, batch_tokens=64))
    large = load_teacher(TeacherSettings(path=tiny, batch_tokens=4096))
    np.testing.assert_allclose(small.encode(sentences), large.encode(sentences), atol=1e-6)
    assert small.padding_share < large.padding_share


def test_padding_is_counted(tiny):
    fresh = load_teacher(TeacherSettings(path=tiny))
    assert fresh.padding_share == 0
    fresh.encode(["cat", "cat dog house"])  # 3 and 5 tokens with [CLS] and [SEP]: 10 computed, 2 of them padding
    assert fresh.padding_share == pytest.approx(0.2)


def test_no_sentences_give_no_rows(teacher):
    assert teacher.encode([]).shape == (0, teacher.dimension)
    assert teacher.count_tokens([]).shape == (0,)
    assert teacher.embed_tokens([]).shape == (0, teacher.dimension)


def test_tokens_are_counted_with_prompt_and_cut(tiny):
    prompted = load_teacher(TeacherSettings(path=tiny, prompt="the ", max_tokens=8))
    assert prompted.count_tokens(["cat", "cat dog", "cat " * 50]).tolist() == [4, 5, 8]
    np.testing.assert_array_equal(prompted.encode(["cat " * 5]), prompted.encode(["cat " * 50]))


def test_a_bi_encoder_does_not_score_pairs(teacher, sentences):
    assert teacher.kind == "bi-encoder"
    with pytest.raises(ValueError, match=r"Only a cross-encoder can score pairs; tiny is a bi-encoder\. Use encode"):
        teacher.score_pairs(["cat"], ["dog"])
    with pytest.raises(ValueError, match="it reads single sentences"):
        teacher.encode_items([("cat", "dog")])
    np.testing.assert_array_equal(teacher.encode_items(sentences), teacher.encode(sentences))


def test_a_token_is_embedded_as_if_it_were_the_sentence(tiny, teacher):
    words = ["cat", "花", "light"]
    ids = [teacher._files.tokenizer.token_to_id(word) for word in words]
    prompted = load_teacher(TeacherSettings(path=tiny, prompt="query: ", batch_tokens=64))
    np.testing.assert_allclose(prompted.embed_tokens(ids * 20)[-3:], teacher.encode(words), atol=1e-6)
    with pytest.raises(ValueError, match="from 0 to 537"):
        teacher.embed_tokens([5, 538])


def test_token_embeddings_are_the_stored_ones(tiny, teacher):
    stored = load_file(tiny / "model.safetensors")["embeddings.word_embeddings.weight"]
    np.testing.assert_array_equal(teacher.token_embeddings(), stored)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_is_close_and_has_its_own_fingerprint(tiny, teacher, sentences, precision):
    low = load_teacher(TeacherSettings(path=tiny, precision=precision))
    difference = np.abs(low.encode(sentences) - teacher.encode(sentences)).max()
    assert 0 < difference < 0.01
    assert low.fingerprint != teacher.fingerprint


def test_float32_means_float32_on_every_device(tiny):
    tf.config.experimental.enable_tensor_float_32_execution(True)
    load_teacher(TeacherSettings(path=tiny))
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


def test_attention_scores_near_the_end_of_float16_stay_finite(broken, sentences):
    """Queries times keys pass 65,504 here, scaled by the head's width they do not."""
    weights = load_file(broken / "model.safetensors")
    for part in ("query", "key"):
        weights[f"encoder.layer.0.attention.self.{part}.weight"] *= 140
    save_file(weights, broken / "model.safetensors")
    found = load_teacher(TeacherSettings(path=broken, precision="float16")).encode(sentences)
    assert np.isfinite(found).all()
