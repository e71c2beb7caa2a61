import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from bert_reference import embeddings, from_tf1, pooled
from factories import random_tf1_variables, tf1_shapes, write_tf1_release, write_tiny_tf1_teacher

from restill.errors import TeacherError
from restill.settings import TeacherSettings
from restill.teachers import fingerprint, load_teacher, open_teacher

SIMBERT = Path(__file__).parents[4] / "shared" / "simbert"
needs_simbert = pytest.mark.skipif(not SIMBERT.is_dir(), reason="needs ../shared/simbert")
QUESTIONS = ["花呗怎么还款？", "我的银行卡 ATM 取不出钱, why?"]


@pytest.fixture(scope="module")
def tiny_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_tf1_teacher(tmp_path_factory.mktemp("tf1") / "tiny-simbert")


@pytest.fixture
def release(tiny_release: Path, tmp_path: Path) -> Path:
    """A copy of the tiny release that a test may damage."""
    return Path(shutil.copytree(tiny_release, tmp_path / "release"))


@pytest.fixture
def large_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is not kept with the other temporary ones, which would cost 400 MB a run."""
    yield tmp_path / "large"
    shutil.rmtree(tmp_path / "large", ignore_errors=True)


def stored(folder: Path) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(str(folder / "bert_model.ckpt"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def rewrite(folder: Path, variables: dict[str, np.ndarray], *, shards: int = 1) -> None:
    for path in folder.glob("bert_model.ckpt.*"):
        path.unlink()
    config = json.loads((folder / "bert_config.json").read_text())
    write_tf1_release(folder, config, (folder / "vocab.txt").read_text(), variables, shards=shards)


def assert_parity(folder: Path, variables: dict[str, np.ndarray], sentences: list[str], pooling: str | None) -> None:
    settings = TeacherSettings(path=folder, pooling=pooling, max_tokens=32)
    tokenizer = open_teacher(settings).tokenizer
    config = json.loads((folder / "bert_config.json").read_text())
    rows = [tokenizer.encode(sentence).ids for sentence in sentences]
    expected = embeddings(from_tf1(variables), config, rows, pooling or "pooler")
    np.testing.assert_allclose(load_teacher(settings).encode(sentences), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("embedding", [16, 32, None])
@pytest.mark.parametrize("pooling", [None, "pooler-tanh", "cls", "mean"])
def test_tiny_releases_match_a_plain_forward_pass(tmp_path, sentences, embedding, pooling):
    folder = write_tiny_tf1_teacher(tmp_path / "tiny", embedding=embedding)
    assert_parity(folder, stored(folder), sentences, pooling)


@needs_simbert
def test_factory_names_and_shapes_are_the_releases():
    config = json.loads((SIMBERT / "small_bert_config.json").read_text())
    shapes = tf.train.load_checkpoint(str(SIMBERT / "small_bert_model.ckpt")).get_variable_to_shape_map()
    encoder = {name: tuple(shape) for name, shape in shapes.items() if not name.startswith("cls/")}
    assert tf1_shapes(config) == encoder


@needs_simbert
def test_simbert_small_matches_a_plain_forward_pass(large_folder):
    """Every variable of the published index, with random values."""
    shapes = tf.train.load_checkpoint(str(SIMBERT / "small_bert_model.ckpt")).get_variable_to_shape_map()
    variables = random_tf1_variables({name: tuple(shape) for name, shape in sorted(shapes.items())})
    config = json.loads((SIMBERT / "small_bert_config.json").read_text())
    vocabulary = (SIMBERT / "small_vocab.txt").read_text(encoding="utf-8")
    write_tf1_release(large_folder, config, vocabulary, variables)
    shutil.copy(SIMBERT / "small_checkpoint", large_folder / "checkpoint")
    assert_parity(large_folder, variables, QUESTIONS, None)


@needs_simbert
def test_simbert_base_size_matches_a_plain_forward_pass(large_folder):
    """12 layers of width 768, embeddings not factorised."""
    config = json.loads((SIMBERT / "small_bert_config.json").read_text())
    del config["embedding_size"]
    config |= {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
    variables = random_tf1_variables(tf1_shapes(config))
    write_tf1_release(large_folder, config, (SIMBERT / "small_vocab.txt").read_text(encoding="utf-8"), variables)
    assert_parity(large_folder, variables, QUESTIONS, None)


@needs_simbert
def test_ids_are_the_line_numbers_of_the_published_vocabulary(release):
    """Its line 341 is blank, and [MASK] is not where other vocabularies have it."""
    shutil.copy(SIMBERT / "small_vocab.txt", release / "vocab.txt")
    config = json.loads((release / "bert_config.json").read_text()) | {"vocab_size": 13685}
    (release / "bert_config.json").write_text(json.dumps(config))
    tokenizer = open_teacher(TeacherSettings(path=release)).tokenizer
    lines = (SIMBERT / "small_vocab.txt").read_text(encoding="utf-8").split("\n")
    assert tokenizer.encode("怎么[MASK]").ids == [
        lines.index(token) for token in ("[CLS]", "怎", "么", "[MASK]", "[SEP]")
    ]
    assert tokenizer.token_to_id("[MASK]") == 103
    assert all(tokenizer.id_to_token(row) == line for row, line in enumerate(lines) if line)


def test_sentence_vector_is_the_linear_pooler_by_default(tiny_release):
    opened = open_teacher(TeacherSettings(path=tiny_release))
    assert (opened.kind, opened.pooling, opened.name) == ("bi-encoder", "pooler", "tiny-simbert")
    assert [path.name for path in opened.weights_paths] == [
        "bert_model.ckpt.index",
        "bert_model.ckpt.data-00000-of-00001",
    ]


def test_release_is_frozen_and_its_narrow_embeddings_can_be_had(tiny_release):
    teacher = load_teacher(TeacherSettings(path=tiny_release))
    assert len(teacher.encoder.variables) > 20
    assert not teacher.encoder.trainable_variables
    assert teacher.dimension == 32
    np.testing.assert_array_equal(teacher.token_embeddings(), stored(tiny_release)["bert/embeddings/word_embeddings"])
    assert teacher.embed_tokens([7, 8]).shape == (2, 32)


def test_what_training_left_behind_is_ignored(tmp_path, tiny_release, sentences):
    bare = write_tiny_tf1_teacher(tmp_path / "bare", leftovers=False)
    assert len(stored(tiny_release)) == len(stored(bare)) + 4
    found, expected = (load_teacher(TeacherSettings(path=path)).encode(sentences) for path in (tiny_release, bare))
    np.testing.assert_array_equal(found, expected)


def test_several_data_files_are_read_and_all_are_in_the_fingerprint(release, sentences):
    settings = TeacherSettings(path=release)
    whole = load_teacher(settings).encode(sentences)
    rewrite(release, stored(release), shards=3)
    assert len(open_teacher(settings).weights_paths) == 4
    np.testing.assert_array_equal(load_teacher(settings).encode(sentences), whole)
    prints = [fingerprint(settings)]
    for path in open_teacher(settings).weights_paths:
        path.write_bytes(path.read_bytes() + b"x")
        prints.append(fingerprint(settings))
    assert len(set(prints)) == 5
    (release / "bert_model.ckpt.data-00001-of-00003").unlink()
    with pytest.raises(TeacherError, match=r"lacks 1 of the 3 data files .*: bert_model.ckpt.data-00001-of-00003"):
        open_teacher(settings)


def test_checkpoint_file_names_the_one_of_several(release, sentences):
    expected = load_teacher(TeacherSettings(path=release)).encode(sentences)
    for path in list(release.glob("bert_model.ckpt.*")):
        shutil.copy(path, release / path.name.replace("bert_model.ckpt", "model.ckpt-1000"))
        path.rename(release / path.name.replace("bert_model", "other"))
    (release / "checkpoint").write_text('model_checkpoint_path: "C:\\\\trained\\\\model.ckpt-1000"\n')
    assert open_teacher(TeacherSettings(path=release)).weights_path.name == "model.ckpt-1000.index"
    (release / "checkpoint").unlink()
    assert open_teacher(TeacherSettings(path=release)).weights_path.name == "other.ckpt.index"
    np.testing.assert_array_equal(load_teacher(TeacherSettings(path=release)).encode(sentences), expected)


def test_safetensors_beside_a_release_are_preferred(tiny, release, teacher):
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copy(tiny / name, release / name)
    assert open_teacher(TeacherSettings(path=release)).weights_path.name == "model.safetensors"


def test_missing_and_wrong_variables_are_listed(release):
    variables = stored(release)
    del variables["bert/encoder/layer_1/output/dense/bias"], variables["bert/embeddings/LayerNorm/gamma"]
    variables["bert/encoder/embedding_hidden_mapping_in/kernel"] = np.zeros((32, 16), np.float32)
    variables["bert/pooler/dense/bias"] = np.zeros(32, np.int32)
    rewrite(release, variables)
    with pytest.raises(TeacherError) as caught:
        load_teacher(TeacherSettings(path=release))
    for fault in (
        "missing bert/encoder/layer_1/output/dense/bias",
        "missing bert/embeddings/LayerNorm/gamma",
        "bert/encoder/embedding_hidden_mapping_in/kernel, transposed, has shape (16, 32) instead of (32, 16)",
        "bert/pooler/dense/bias has type int32",
    ):
        assert fault in str(caught.value)


def test_release_without_a_pooler_needs_another_pooling(release, sentences):
    variables = {name: value for name, value in stored(release).items() if "pooler" not in name}
    rewrite(release, variables)
    with pytest.raises(
        TeacherError, match="missing bert/pooler/dense/kernel; missing bert/pooler/dense/bias"
    ) as caught:
        load_teacher(TeacherSettings(path=release))
    assert "teacher.pooling" in caught.value.hint
    assert_parity(release, variables, sentences, "cls")


def test_a_fine_tuned_release_is_a_cross_encoder_when_named_so(release):
    """As run_classifier.py leaves it: `output_weights` [classes, hidden] on the pooler's tanh."""
    settings = TeacherSettings(path=release, kind="cross-encoder")
    with pytest.raises(TeacherError, match="missing output_weights; missing output_bias"):
        load_teacher(settings)
    random = np.random.default_rng(3)
    classifier = {
        "output_weights": random.standard_normal((2, 32)).astype(np.float32),
        "output_bias": random.standard_normal(2).astype(np.float32),
        "output_weights/adam_m": np.ones((2, 32), np.float32),
    }
    variables = stored(release) | classifier
    rewrite(release, variables)
    tokenizer = open_teacher(settings).tokenizer
    config = json.loads((release / "bert_config.json").read_text())
    pairs = [("turn on the light", "switch the lamp on"), ("cat", "dog house cat")]
    expected = []
    for pair in pairs:
        read = tokenizer.encode(*pair)
        vector = pooled(from_tf1(variables), config, read.ids, read.type_ids, "pooler-tanh")
        logits = classifier["output_weights"].astype(np.float64) @ vector + classifier["output_bias"]
        expected.append([logits[1] - logits[0]])
    found = load_teacher(settings).score_pairs(*zip(*pairs, strict=True))
    np.testing.assert_allclose(found, np.array(expected), rtol=0, atol=1e-5)
    with pytest.raises(TeacherError, match=r"holds a classifier of pairs .*teacher.kind is not set") as refused:
        load_teacher(TeacherSettings(path=release))
    assert "teacher.kind = cross-encoder" in refused.value.hint
    assert load_teacher(TeacherSettings(path=release, kind="bi-encoder")).encode(["cat"]).shape == (1, 32)


def edit_config(folder: Path, **values: object) -> None:
    path = folder / "bert_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change(folder: Path, name: str, replace) -> None:
    path = folder / name
    path.write_bytes(replace(path.read_bytes()))


DATA, INDEX = "bert_model.ckpt.data-00000-of-00001", "bert_model.ckpt.index"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / DATA).unlink(), r"holds bert_model.ckpt.index, but no bert_model.ckpt.data-\* file"),
        (lambda folder: (folder / INDEX).unlink(), r"no \*\.ckpt\.index"),
        (
            lambda folder: shutil.copy(folder / INDEX, folder / "b.ckpt.index"),
            "several checkpoints: b.ckpt.index, bert",
        ),
        (lambda folder: shutil.copy(folder / DATA, folder / f"{DATA[:-1]}2"), "data files of 2 checkpoints"),
        (lambda folder: change(folder, DATA, lambda data: data[:-5000]), "not a readable checkpoint"),
        (
            lambda folder: change(folder, DATA, lambda data: data[:9000] + b"?" + data[9001:]),
            "not a readable checkpoint",
        ),
        (lambda folder: change(folder, INDEX, lambda data: data[:200]), "not a readable checkpoint"),
        (lambda folder: change(folder, INDEX, lambda data: b"<html>"), "not a readable checkpoint"),
        (lambda folder: change(folder, INDEX, lambda data: b""), "not a readable checkpoint"),
        (lambda folder: edit_config(folder, num_hidden_layers=3), "missing bert/encoder/layer_2/attention/self/query"),
        (lambda folder: edit_config(folder, embedding_size=None), r"has shape \(538, 16\) instead of \(538, 32\)"),
        (lambda folder: edit_config(folder, num_hidden_layers=10**9), "num_hidden_layers: Input should be less"),
        (lambda folder: edit_config(folder, hidden_size=-4), "hidden_size: Input should be greater"),
        (lambda folder: edit_config(folder, vocab_size=10**15), "vocab_size: Input should be less"),
        (lambda folder: edit_config(folder, hidden_act="relu"), "hidden_act"),
        (lambda folder: (folder / "bert_config.json").write_text("[]"), "bert_config.json is not what"),
        (lambda folder: (folder / "vocab.txt").unlink(), "neither tokenizer.json nor vocab.txt"),
        (
            lambda folder: change(folder, "vocab.txt", lambda data: data + b"cat\n"),
            "token 'cat' on lines 1?[0-9]+ and 539",
        ),
        (lambda folder: change(folder, "vocab.txt", lambda data: data + b"\xff\xfe"), "not a readable tokenizer"),
        (lambda folder: change(folder, "vocab.txt", lambda data: data + b"one more\n"), "only 538 word embeddings"),
    ],
)
def test_unusable_releases_are_refused_with_the_reason(release, damage, message):
    damage(release)
    with pytest.raises(TeacherError, match=message) as caught:
        load_teacher(TeacherSettings(path=release))
    assert str(release) in str(caught.value)
    assert caught.value.hint


def test_values_that_are_not_finite_are_refused(release):
    variables = stored(release)
    variables["bert/pooler/dense/bias"][3] = np.nan
    rewrite(release, variables)
    with pytest.raises(TeacherError, match="bert/pooler/dense/bias holds values that are not finite"):
        load_teacher(TeacherSettings(path=release))
