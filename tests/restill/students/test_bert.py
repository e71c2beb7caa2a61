"""A `bert` student against the teacher it is made from, on real sentences, through the tokenizer it is served with."""

import numpy as np
import pytest
import tensorflow as tf
from factories import write_tiny_teacher, write_tiny_tf1_teacher
from tokenizers import Tokenizer

from restill import students
from restill.errors import ConfigurationError
from restill.settings import StudentSettings, TeacherSettings
from restill.students import Predecessor, bert, litert
from restill.teachers import load_teacher, open_teacher
from restill.vocabulary.bert_pieces import bert_tokenizer, teacher_ids

SENTENCES = [
    "Turn on the kitchen light!",
    "how do i open a new bank account",
    "花呗怎么还款？",
    "x",
    "the lamp [SEP] is off, and [PAD] is no padding",
    "Why is the cat not in the house, and where did the dog go when it was raining outside?",
]
TEACHERS = {
    "mean": (write_tiny_teacher, {"pooling": "mean"}, {}),
    "cls": (write_tiny_teacher, {"pooling": "cls"}, {}),
    "prompt": (write_tiny_teacher, {}, {"prompt": "find: "}),
    "factorised, pooler": (write_tiny_tf1_teacher, {"embedding": 16}, {}),
    "pooler-tanh": (write_tiny_tf1_teacher, {"embedding": None}, {"pooling": "pooler-tanh"}),
}


def make(folder, *, layers=2, teacher="mean", max_tokens=64, is_replaced=True):
    """Return teacher settings, the student's tokenizer and a student made from a teacher of 6 layers."""
    write, sizes, reading = TEACHERS[teacher]
    settings = TeacherSettings(path=write(folder / "teacher", layers=6, **sizes), **reading)
    files = open_teacher(settings)
    tokenizer = bert_tokenizer(
        SENTENCES, teacher=files.tokenizer, prompt=settings.prompt, max_tokens=max_tokens, max_size=500
    )
    rows = teacher_ids(tokenizer, files.tokenizer, pad_id=files.pad_id)
    student = students.build(
        tokenizer.get_vocab_size(),
        StudentSettings(kind="bert", layers=layers, max_tokens=max_tokens, dropout=0.0),
        predecessor=Predecessor.read(files, rows, is_replaced=is_replaced),
    )
    return settings, tokenizer, student


def ids_of(tokenizer, sentences=tuple(SENTENCES)):
    encoded = tokenizer.encode_batch(list(sentences))
    ids = np.zeros((len(encoded), max(len(encoding.ids) for encoding in encoded)), np.int32)
    for row, encoding in enumerate(encoded):
        ids[row, : len(encoding.ids)] = encoding.ids
    return ids


def draw(student, probability, seed=0):
    bert.replacement(student).draw(probability, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("made"))


@pytest.mark.parametrize("teacher", [*TEACHERS])
def test_with_no_module_replaced_it_is_the_teacher(tmp_path, teacher):
    """This holds ids, special tokens, prompt, padding, embeddings and pooling at once."""
    settings, tokenizer, student = make(tmp_path, teacher=teacher, layers=4)
    draw(student, 0.0)
    sentences = [sentence for sentence in SENTENCES if "[" not in sentence]  # the teacher reads those as its own
    expected = load_teacher(settings).encode(sentences)
    found = student(ids_of(tokenizer, sentences), training=True).numpy()
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("teacher", ["mean", "factorised, pooler"])
def test_a_successor_of_all_layers_is_the_teacher_from_the_start(tmp_path, teacher):
    settings, tokenizer, student = make(tmp_path, teacher=teacher, layers=6, is_replaced=False)
    sentences = [sentence for sentence in SENTENCES if "[" not in sentence]
    found = student(ids_of(tokenizer, sentences), training=False).numpy()
    assert found == pytest.approx(load_teacher(settings).encode(sentences), abs=1e-4)


def test_alone_and_with_every_module_replaced_it_is_the_same(made):
    _, tokenizer, student = made
    ids = ids_of(tokenizer)
    alone = student(ids, training=False).numpy()
    draw(student, 1.0)
    assert student(ids, training=True).numpy() == pytest.approx(alone, abs=1e-6)
    draw(student, 0.0)
    assert np.abs(student(ids, training=True).numpy() - alone).max() > 0.01
    assert student(ids, training=False).numpy() == pytest.approx(alone, abs=0)


@pytest.mark.parametrize(("layers", "sizes"), [(3, [2, 2, 2]), (4, [2, 2, 1, 1]), (1, [6])])
def test_groups_are_consecutive_and_as_equal_as_possible(tmp_path, layers, sizes):
    _, _, student = make(tmp_path, layers=layers)
    groups = bert.replacement(student).groups
    assert [len(group) for group in groups] == sizes
    assert [layer.name for group in groups for layer in group] == [f"layer_{number}" for number in range(6)]


def test_modules_are_replaced_as_often_as_asked(made):
    _, _, student = made
    chosen = []
    for seed in range(400):
        draw(student, 0.7, seed)
        chosen.append(bert.replacement(student)._replaced.numpy())
    assert np.mean(chosen, axis=0) == pytest.approx([0.7, 0.7], abs=0.07)
    assert len({tuple(row) for row in chosen}) == 4  # each module by itself


def test_what_is_trained_is_the_successor_and_only_what_ran_gets_a_gradient(made):
    _, tokenizer, student = made
    ids = tf.constant(ids_of(tokenizer))
    variables = student.trainable_variables
    frozen = [variable for group in bert.replacement(student).groups for layer in group for variable in layer.variables]
    assert not {id(variable) for variable in frozen} & {id(variable) for variable in (*variables, *student.variables)}
    assert not any(variable.trainable for variable in frozen)
    traced = 0

    @tf.function
    def gradients():
        nonlocal traced
        traced += 1
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(student(ids, training=True)[:, :5])
        return tape.gradient(loss, variables)

    second = {id(variable) for variable in student.get_layer("successor")._successor.layers[1].trainable_variables}
    for probability, reached in ((0.0, False), (1.0, True)):
        draw(student, probability)
        for variable, gradient in zip(variables, gradients(), strict=True):
            is_reached = bool(np.abs(tf.convert_to_tensor(gradient)).max() > 0)
            if id(variable) in second:
                assert is_reached == reached
    assert traced == 1
    assert len(second) == 12


def test_padding_changes_nothing_and_is_the_zero_vector_alone(made):
    _, tokenizer, student = made
    ids = ids_of(tokenizer, SENTENCES[:3])
    padded = np.pad(ids, ((0, 1), (0, 9)))
    found = student(padded, training=False).numpy()
    assert found[:3] == pytest.approx(student(ids, training=False).numpy(), abs=1e-6)
    assert np.abs(found[3]).max() == 0.0
    assert np.linalg.norm(found[:3], axis=1) == pytest.approx(np.ones(3), abs=1e-5)


def test_exports_hold_the_successor_and_nothing_of_the_teacher(made, tmp_path):
    """Export holds each file to the model, sizes, operators and padding included; here is what it cannot know."""
    _, tokenizer, student = made
    ids = ids_of(tokenizer)
    files = students.export(student, np.pad(ids, ((0, 1), (0, 0))), tmp_path, max_tokens=ids.shape[1])
    parameters = sum(int(np.prod(variable.shape)) for variable in student.trainable_variables)
    frozen = 6 * 4 * 32 * 32 * 2  # of the teacher's six layers, the larger matrices
    for role in ("litert", "saved_model"):
        path = tmp_path / files[role]
        variables = path if path.is_file() else path / "variables" / "variables.data-00000-of-00001"
        assert 4 * parameters <= variables.stat().st_size < 4 * parameters + 2 * frozen
    assert (tmp_path / files["litert_int8"]).stat().st_size < (tmp_path / files["litert"]).stat().st_size
    assert not [name for name in litert.operators((tmp_path / files["litert"]).read_bytes()) if "custom" in name]


def test_a_long_sentence_is_cut_inside_its_special_tokens(tmp_path):
    _, tokenizer, _ = make(tmp_path, teacher="prompt", max_tokens=8)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    travelled = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    short, long = travelled.encode_batch(["turn on", "turn on the lamp and open the house " * 20])
    assert short.tokens == ["[CLS]", "find", "[UNK]", "turn", "on", "[SEP]"]  # the tiny teacher knows no colon
    assert len(long.ids) == 8
    assert (long.tokens[0], long.tokens[1], long.tokens[-1]) == ("[CLS]", "find", "[SEP]")


def test_a_sentence_that_spells_special_tokens_is_no_padding(made):
    _, tokenizer, _ = made
    ids = tokenizer.encode("[PAD] [UNK] [PAD]").ids
    assert 0 not in ids


def test_no_room_for_a_sentence_is_a_configuration_error(tmp_path):
    files = open_teacher(TeacherSettings(path=write_tiny_teacher(tmp_path), prompt="find the lamp: "))
    with pytest.raises(ConfigurationError, match="take 6"):
        bert_tokenizer(SENTENCES, teacher=files.tokenizer, prompt="find the lamp and", max_tokens=6, max_size=500)


@pytest.mark.parametrize(
    ("changes", "message"), [({"layers": 7}, "only 6 layers"), ({"max_tokens": 200}, "at most 128")]
)
def test_more_than_the_teacher_has_is_a_configuration_error(tmp_path, changes, message):
    with pytest.raises(ConfigurationError, match=message):
        make(tmp_path, **changes)


def test_without_a_teacher_there_is_none():
    with pytest.raises(ConfigurationError, match="teacher's weights"):
        students.build(50, StudentSettings(kind="bert"))
