import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from restill import students
from restill.errors import IntegrityError
from restill.serving import CARD, CARD_FORMAT, Encoder, PairModel, tokenize
from restill.serving import encoder as encoder_module
from restill.settings import StudentSettings

STEPS = 12
WORDS = ["[PAD]", "[UNK]", *(f"w{number}" for number in range(60))]


@pytest.fixture(scope="module", params=["litert", "litert_int8"])
def artifact(request, tmp_path_factory):
    """A folder as serving loads it, its Keras encoder, and the model file in it."""
    folder = tmp_path_factory.mktemp("artifact")
    encoder = students.build(
        len(WORDS), StudentSettings(kind="siamese-lstm", embedding_size=24, hidden_size=24, max_tokens=STEPS)
    )
    files = students.export(encoder, _sentences(8), folder, max_tokens=STEPS, exports=[request.param])
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    calibration = {"scale": 8.0, "bias": 0.5, "threshold": 0.5}
    card = {"format": CARD_FORMAT, "max_tokens": STEPS, "calibrations": dict.fromkeys(files.values(), calibration)}
    (folder / CARD).write_text(json.dumps(card), "utf-8")
    return folder, encoder, files[request.param]


def _sentences(rows, seed=0):
    generator = np.random.default_rng(seed)
    ids = generator.integers(2, len(WORDS), size=(rows, STEPS)).astype(np.int32)
    for row in range(rows):
        ids[row, generator.integers(1, STEPS + 1) :] = 0
    return ids


def _texts(ids):
    return [" ".join(WORDS[token] for token in row if token) for row in ids]


def _encoder(artifact):
    folder, _, file = artifact
    return Encoder(folder / file, steps=STEPS, threads=1)


@pytest.mark.parametrize("rows", [1, 2, 3, 8, 9, 16, 17, 40])
def test_any_number_of_sentences_comes_back_in_order(artifact, rows):
    served = _encoder(artifact)
    ids = _sentences(rows, seed=rows)
    vectors = served.embed(ids)
    assert vectors.shape == (rows, served.dimension)
    alone = np.concatenate([served.embed(ids[row : row + 1]) for row in range(rows)])
    assert vectors == pytest.approx(alone, abs=1e-6, rel=0)


def test_no_sentences_give_no_vectors(artifact):
    assert _encoder(artifact).embed(np.zeros((0, STEPS), np.int32)).shape == (0, 72)


def test_a_shorter_array_of_ids_is_as_good(artifact):
    served = _encoder(artifact)
    ids = np.array([[5, 6, 7]], np.int32)
    assert np.array_equal(served.embed(ids), served.embed(np.pad(ids, ((0, 0), (0, 9)))))


def test_an_empty_sentence_is_the_zero_vector(artifact):
    assert not _encoder(artifact).embed(np.zeros((1, STEPS), np.int32)).any()
    assert _encoder(artifact).similarity([], [5]) == 0.0


def test_swapping_the_sides_changes_no_bit(artifact):
    """Neither for one pair, nor in a batch of many."""
    folder, _, file = artifact
    model = PairModel(folder, file=file)
    pairs = list(zip(_texts(_sentences(40, 1)), _texts(_sentences(40, 2)), strict=True))
    for a, b in pairs:
        assert model.similarity([(a, b)]).tobytes() == model.similarity([(b, a)]).tobytes()
    swapped = [(b, a) for a, b in pairs]
    assert model.similarity(pairs).tobytes() == model.similarity(swapped).tobytes()


def test_one_pair_is_answered_as_in_a_batch(artifact):
    folder, _, file = artifact
    model = PairModel(folder, file=file)
    pairs = list(zip(_texts(_sentences(20, 3)), _texts(_sentences(20, 4)), strict=True))
    alone = np.concatenate([model.similarity([pair]) for pair in pairs])
    assert model.similarity(pairs) == pytest.approx(alone, abs=1e-6, rel=0)


def test_texts_and_ids_agree(artifact):
    folder, _, file = artifact
    model = PairModel(folder, file=file)
    ids = _sentences(4)
    assert np.array_equal(model.embed(_texts(ids)), _encoder(artifact).embed(ids))


def test_a_long_sentence_is_cut(artifact):
    folder, _, file = artifact
    model = PairModel(folder, file=file)
    long = " ".join(WORDS[5 + number] for number in range(30))
    cut = " ".join(long.split()[:STEPS])
    assert model.similarity([(long, cut)])[0] == pytest.approx(1.0, abs=1e-5)


def test_threads_get_their_own_answers(artifact):
    folder, _, file = artifact
    model = PairModel(folder, file=file)
    pairs = list(zip(_texts(_sentences(30, 5)), _texts(_sentences(30, 6)), strict=True))
    expected = [float(model.similarity([pair])[0]) for pair in pairs]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert list(pool.map(lambda pair: float(model.similarity([pair])[0]), pairs)) == expected


def test_few_interpreters_are_kept(artifact, monkeypatch):
    monkeypatch.setattr(encoder_module, "_KEPT", 2)
    served = _encoder(artifact)
    sentences = [np.full(shape, 5, np.int32) for shape in ((1, 4), (1, 12), (16, 4), (1, 4))]
    first = [served.embed(ids) for ids in sentences]
    assert len(served._prepared) == 2
    assert all(np.array_equal(served.embed(ids), found) for ids, found in zip(sentences, first, strict=True))


@pytest.mark.parametrize("content", [b"", b"TFL3 and nothing else", b"\0" * 4096])
def test_what_is_no_model_is_an_integrity_error(tmp_path, content):
    path = tmp_path / "student.tflite"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"student\.tflite"):
        Encoder(path, steps=STEPS, threads=1)


def test_a_file_that_is_damaged_or_gone_after_loading_changes_nothing(artifact, tmp_path):
    folder, _, file = artifact
    path = tmp_path / "student.tflite"
    path.write_bytes((folder / file).read_bytes())
    loaded, untouched = Encoder(path, steps=STEPS, threads=1), _encoder(artifact)
    loaded.embed(_sentences(2))
    path.write_bytes(b"\0" * 100)
    path.unlink()
    sentences = _sentences(40)  # of other shapes than any before
    np.testing.assert_array_equal(loaded.embed(sentences), untouched.embed(sentences))
    with pytest.raises(IntegrityError, match="cannot be read"):
        Encoder(path, steps=STEPS, threads=1)


def test_tokens_are_cut_and_padded():
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    assert tokenize(tokenizer, ["w0", "w1 w2 w3 nonesuch"], 3).tolist() == [[2, 0, 0], [3, 4, 5]]


def test_serving_does_not_import_tensorflow():
    code = "import sys, restill.serving; print({'tensorflow', 'keras'} & set(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "set()"
