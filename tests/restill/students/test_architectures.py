import numpy as np
import pytest
import tensorflow as tf

from restill import students
from restill.errors import ConfigurationError
from restill.settings import StudentSettings
from restill.students import siamese_lstm

VOCABULARY = 40
ROWS = 8


def _settings(kind, **changes):
    return StudentSettings(kind=kind, **({"embedding_size": 8, "hidden_size": 6, "max_tokens": 12} | changes))


def _sentences(steps=12):
    """Ids of 1 to 12 tokens, padded."""
    ids = np.random.default_rng(0).integers(1, VOCABULARY, size=(ROWS, steps)).astype(np.int32)
    for row, length in enumerate(np.linspace(1, steps, ROWS).astype(int)):
        ids[row, length:] = 0
    return ids


def _embed(encoder, ids):
    """Traced once for all shapes: run eagerly, an LSTM takes long."""
    if not hasattr(encoder, "traced"):
        encoder.traced = tf.function(
            lambda ids: encoder(ids, training=False), input_signature=[tf.TensorSpec([None, None], tf.int32)]
        )
    return encoder.traced(ids).numpy()


@pytest.fixture(scope="module", params=["siamese-lstm", "cnn", "dssm", "static"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def encoder(kind):
    return students.build(VOCABULARY, _settings(kind))


def test_vectors_have_length_one(encoder):
    assert np.linalg.norm(_embed(encoder, _sentences()), axis=1) == pytest.approx(np.ones(ROWS), abs=1e-5)


def test_sentences_differ(encoder):
    vectors = _embed(encoder, _sentences())
    assert (vectors @ vectors.T)[~np.eye(ROWS, dtype=bool)].max() < 0.999


def test_padding_changes_nothing(encoder):
    for row in _sentences():
        sentence = row[np.newaxis, row != 0]
        padded = np.pad(sentence, ((0, 0), (0, 20)))
        assert _embed(encoder, padded) == pytest.approx(_embed(encoder, sentence), abs=1e-6, rel=0)


def test_nothing_but_padding_is_the_zero_vector(encoder):
    vectors = _embed(encoder, np.concatenate([np.zeros((1, 12), np.int32), _sentences()]))
    assert np.abs(vectors[0]).max() == 0.0
    assert np.isfinite(vectors).all()


@pytest.mark.parametrize("steps", [1, 512])
def test_one_token_and_the_longest_sentence_work(encoder, steps):
    vectors = _embed(encoder, np.full((2, steps), 3, np.int32))
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1], abs=1e-5)


@pytest.mark.parametrize("vocabulary", [10, 200_000])
def test_small_and_large_vocabularies_work(kind, vocabulary):
    built = students.build(vocabulary, _settings(kind))
    assert np.isfinite(_embed(built, np.array([[vocabulary - 1, 1]], np.int32))).all()


def test_a_gradient_reaches_every_variable(kind):
    trained = students.build(VOCABULARY, _settings(kind))
    with tf.GradientTape() as tape:
        vectors = trained(_sentences(), training=True)
        loss = tf.reduce_sum(vectors[:-1] * vectors[1:])
    gradients = tape.gradient(loss, trained.trainable_variables)
    assert len(gradients) > 0
    for variable, gradient in zip(trained.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.abs(tf.convert_to_tensor(gradient).numpy()).max() > 0, variable.path


def test_training_brings_two_sentences_together(kind):
    trained = students.build(VOCABULARY, _settings(kind, dropout=0.0))
    optimizer = tf.keras.optimizers.Adam(0.02)
    ids = _sentences()[-2:]

    optimizer.build(trained.trainable_variables)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            vectors = trained(ids, training=True)
            cosine = tf.reduce_sum(vectors[0] * vectors[1])
            loss = 1.0 - cosine
        gradients = tape.gradient(loss, trained.trainable_variables)
        optimizer.apply_gradients(zip(gradients, trained.trainable_variables, strict=True))
        return cosine

    cosines = [float(step()) for _ in range(30)]
    assert 1 - cosines[-1] < (1 - cosines[0]) / 2


def test_the_served_form_is_the_same_function(kind, encoder):
    form = students.KINDS[kind].serving
    if form is None:
        pytest.skip("the model itself is exported")
    ids = np.concatenate([np.zeros((1, 12), np.int32), _sentences()])
    with encoder.get_layer("tokens").frozen(int8=False):
        assert form(encoder, False)(tf.constant(ids)).numpy() == pytest.approx(_embed(encoder, ids), abs=1e-5)
        # Tables are rounded to 8 bits; what is left of the arithmetic is the same.
        assert form(encoder, True)(tf.constant(ids)).numpy() == pytest.approx(_embed(encoder, ids), abs=0.02)


def test_an_lstm_too_large_for_a_table_of_projections_is_the_same_function(monkeypatch):
    encoder = students.build(VOCABULARY, _settings("siamese-lstm"))
    monkeypatch.setattr(siamese_lstm, "_TABLE_BYTES", 0)
    ids = np.concatenate([np.zeros((1, 12), np.int32), _sentences()])
    with encoder.get_layer("tokens").frozen(int8=False):
        found = siamese_lstm.KIND.serving(encoder, True)(tf.constant(ids)).numpy()
    assert found == pytest.approx(_embed(encoder, ids), abs=1e-5)


def test_embeddings_start_from_given_values(kind):
    values = np.random.default_rng(1).standard_normal((VOCABULARY, 8)).astype(np.float32)
    built = students.build(VOCABULARY, _settings(kind), embeddings=values)
    assert np.array_equal(built.get_layer("tokens").embeddings.numpy(), values)


def test_embeddings_of_another_shape_are_refused(kind):
    with pytest.raises(ValueError, match=r"\(40, 8\)"):
        students.build(VOCABULARY, _settings(kind), embeddings=np.zeros((VOCABULARY, 9), np.float32))


def test_an_unknown_kind_is_a_configuration_error():
    with pytest.raises(ConfigurationError, match="nonesuch"):
        students.build(VOCABULARY, StudentSettings.model_construct(kind="nonesuch", embedding_size=8))


def test_every_kind_has_a_summary_and_names_its_model(kind, encoder):
    assert students.KINDS[kind].summary
    assert encoder.name == kind
