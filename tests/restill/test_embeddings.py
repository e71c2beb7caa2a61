import sys
from subprocess import run
from typing import get_args

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from restill.embeddings import SOURCES, WordVectors, fill, from_teacher_outputs, reduce_width
from restill.embeddings.piece_cache import CachedPieces
from restill.errors import ConfigurationError
from restill.settings.learning import EmbeddingSource
from restill.vocabulary import TOKENS

PIECES = ["[PAD]", "[UNK]", "[CLS]", "turn", "on", "light", "##s", "lamp", "花", "呗"]


def _teacher_tokenizer():
    tokenizer = Tokenizer(models.WordPiece({piece: index for index, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.enable_padding(length=6)  # as some published tokenizers are
    return tokenizer


class Known:
    """A teacher whose vectors are known: input of piece i is row i; output is ten times that; a text is its length."""

    def __init__(self, width=5):
        self.table = np.random.default_rng(0).normal(size=(len(PIECES), width)).astype(np.float32)
        self.read = []

    def token_embeddings(self):
        return self.table

    def embed_tokens(self, ids):
        return self.table[list(ids)] * 10

    def encode(self, sentences):
        self.read += sentences
        return np.stack([np.full(self.table.shape[1], len(sentence), np.float32) for sentence in sentences])


def _student(name="word", sentences=("turn on lights zzz 花呗", "turn on lights zzz 花呗")):
    return TOKENS[name].make(list(sentences), teacher=_teacher_tokenizer(), max_size=50)


def _initial(name, tokenizer, size, seed=1, teacher=None, **given):
    if SOURCES[name].needs_teacher:
        given |= {"teacher": teacher or Known(), "teacher_tokenizer": _teacher_tokenizer()}
    return SOURCES[name].initial(tokenizer, size, seed=seed, **given)


def _distances(rows):
    """Return the distances between rows: what a rotation and a shift leave alone."""
    return np.linalg.norm(rows[:, None] - rows[None], axis=-1)


def _vectors(tmp_path, content):
    path = tmp_path / "vectors.txt"
    path.write_text(content, "utf-8")
    return WordVectors(path)


def test_every_name_of_the_settings_has_a_source():
    assert set(SOURCES) == set(get_args(EmbeddingSource))
    assert all(source.summary and "\n" not in source.summary for source in SOURCES.values())


def test_random_is_left_to_the_model():
    assert _initial("random", _student(), 8) is None


def test_principal_components_of_points_on_a_line_worked_by_hand():
    """(0, 0), (3, 4), (6, 8) lie on a line: centred, one component holds them at -5, 0 and 5."""
    rows = reduce_width(np.array([[0, 0], [3, 4], [6, 8]], np.float32), 1, seed=0)
    assert rows[:, 0] == pytest.approx([-5.0, 0.0, 5.0], abs=1e-5)  # +: the largest weight, 0.8, is positive


def test_components_agree_with_a_singular_value_decomposition():
    """The other way to a PCA: U·S of the centred rows, up to each column's sign."""
    vectors = (np.random.default_rng(5).normal(size=(300, 12)) @ np.diag(range(1, 13)) + 7).astype(np.float32)
    left, singular, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    expected = (left * singular)[:, :4]
    assert np.abs(reduce_width(vectors, 4, seed=0)) == pytest.approx(np.abs(expected), abs=1e-3)


def test_a_narrow_source_gets_small_random_columns():
    vectors = np.random.default_rng(2).normal(size=(50, 3)).astype(np.float32)
    rows = reduce_width(vectors, 8, seed=0)
    assert rows.shape == (50, 8)
    assert _distances(rows[:, :3]) == pytest.approx(_distances(vectors), abs=1e-4)
    assert 0 < rows[:, 3:].std() < 0.2 * rows[:, :3].std()


def test_few_rows_have_few_directions():
    """Two points have one direction between them; the other columns are not rounding noise blown up."""
    rows = reduce_width(np.array([[0, 0, 0], [2, 0, 0]], np.float32), 3, seed=0)
    assert rows[:, 0] == pytest.approx([-1.0, 1.0])
    assert np.abs(rows[:, 1:]).max() < 0.5
    assert np.isfinite(reduce_width(np.ones((1, 4), np.float32), 4, seed=0)).all()


def test_a_table_has_rows_of_mean_length_one():
    """Rows (0, 6) and (8, 0) have mean length 7; padding is 0, unknown the mean, a token without a row random."""
    table = fill(np.array([[0, 6], [8, 0]], np.float32), np.array([2, 4]), 5, seed=0)
    assert table[[2, 4]] == pytest.approx(np.array([[0, 6 / 7], [8 / 7, 0]]))
    assert (table[0] == 0).all()
    assert table[1] == pytest.approx([4 / 7, 3 / 7])
    assert 0 < np.linalg.norm(table[3]) < 4
    assert table.dtype == np.float32


def test_word_vectors_reach_the_tokens_that_are_their_words(tmp_path):
    """Distances survive up to one scale: 3, 4 and 5 between on, turn and 花 stay 3 : 4 : 5."""
    vectors = _vectors(tmp_path, "On 0 0\nturn 3 0\n花 0 4\non 9 9\nabsent 7 7\n")
    tokenizer = _student()
    table = _initial("word-vectors", tokenizer, 2, word_vectors=vectors)
    known = table[[tokenizer.token_to_id(token) for token in ("▁on▁", "▁turn▁", "花")]]
    distances = _distances(known)
    assert distances[0, 2] / distances[0, 1] == pytest.approx(4 / 3, rel=1e-4)
    assert distances[1, 2] / distances[0, 1] == pytest.approx(5 / 3, rel=1e-4)
    assert np.linalg.norm(known, axis=1).mean() == pytest.approx(1.0, rel=1e-5)
    assert np.linalg.norm(table[tokenizer.token_to_id("▁zzz▁")]) > 0


def test_a_continuation_piece_is_no_word(tmp_path):
    vectors = _vectors(tmp_path, "s 100 100\nturn 1 0\nlight 0 1\n")
    tokenizer = _student("teacher")
    table = _initial("word-vectors", tokenizer, 2, word_vectors=vectors)
    known = table[[tokenizer.token_to_id("turn"), tokenizer.token_to_id("light")]]
    assert np.linalg.norm(known, axis=1) == pytest.approx([1.0, 1.0], rel=0.05)  # not dwarfed by the one of `s`


def test_vectors_of_another_language_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="none of the"):
        _initial("word-vectors", _student(), 4, word_vectors=_vectors(tmp_path, "bonjour 1 2\n"))


@pytest.mark.parametrize("name", sorted(set(SOURCES) - {"random"}))
def test_a_source_says_what_it_needs(name):
    with pytest.raises(ConfigurationError, match="need") as caught:
        SOURCES[name].initial(_student(), 4, seed=0)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["teacher", "word"])
def test_teacher_inputs_are_the_rows_of_the_pieces(name):
    """`lights` is light and ##s to the teacher: one word has their mean, two pieces have a row each."""
    tokenizer, teacher = _student(name), Known()
    table = _initial("teacher-inputs", tokenizer, 5, teacher=teacher)
    row = {piece: teacher.table[index] for index, piece in enumerate(PIECES)}
    if name == "word":
        tokens, expected = ["▁turn▁", "▁lights▁", "花"], [row["turn"], (row["light"] + row["##s"]) / 2, row["花"]]
    else:
        tokens, expected = ["turn", "##s", "花"], [row["turn"], row["##s"], row["花"]]
    found = _distances(table[[tokenizer.token_to_id(token) for token in tokens]])
    wanted = _distances(np.stack(expected))
    # Four or five known rows span at most four directions, and all of them fit: distances keep their ratios,
    # but for the small random columns that remain.
    assert found / found[0, 1] == pytest.approx(wanted / wanted[0, 1], rel=0.05)


def test_teacher_outputs_ask_for_pieces_by_id_and_for_words_by_text():
    teacher = Known()
    _initial("teacher-outputs", _student("word"), 4, teacher=teacher)
    assert teacher.read == ["lights"]


def test_frequent_tokens_are_short_in_teacher_outputs():
    """Zipf: the first of n tokens has p = (1/2)/(1/2 + 1/3 + …); its row is weighted by sif / (sif + p)."""
    tokenizer, teacher = _student("teacher", ["turn on light lamp"] * 2), Known()
    asked = {"seed": 0, "teacher": teacher, "teacher_tokenizer": _teacher_tokenizer()}
    plain = from_teacher_outputs(tokenizer, 3, sif=None, **asked)
    weighted = from_teacher_outputs(tokenizer, 3, sif=0.1, **asked)
    ratio = np.linalg.norm(weighted[2:], axis=1) / np.linalg.norm(plain[2:], axis=1)
    probabilities = np.array([1 / 2, 1 / 3, 1 / 4, 1 / 5]) / (1 / 2 + 1 / 3 + 1 / 4 + 1 / 5)
    expected = 0.1 / (0.1 + probabilities)
    assert ratio / ratio[0] == pytest.approx(expected / expected[0], rel=1e-4)


@pytest.mark.parametrize("name", ["teacher-inputs", "teacher-outputs"])
def test_a_teacher_that_knows_no_token_is_refused(name):
    with pytest.raises(ConfigurationError, match="no piece"):
        _initial(name, _student("word", ["zzz yyy"] * 2), 4)


@pytest.mark.parametrize("size", [2, 5, 16])
@pytest.mark.parametrize("tokens", ["teacher", "char", "word"])
@pytest.mark.parametrize("name", sorted(set(SOURCES) - {"random"}))
def test_every_source_fills_every_vocabulary(name, tokens, size, tmp_path):
    """Whatever the width and the tokens: one finite row each, padding zero, and the same table for the same seed."""
    tokenizer = _student(tokens)
    vectors = _vectors(tmp_path, "turn 1 2 3\non 4 5 7\n花 0 1 0\n呗 0 0 1\nlight 1 1 1\nt 1 0 2\n")
    tables = [_initial(name, tokenizer, size, seed, word_vectors=vectors) for seed in (1, 1, 2)]
    assert tables[0].shape == (tokenizer.get_vocab_size(), size)
    assert tables[0].dtype == np.float32
    assert np.isfinite(tables[0]).all()
    assert (tables[0][0] == 0).all()
    assert (np.linalg.norm(tables[0][2:], axis=1) > 0).all()
    assert np.array_equal(tables[0], tables[1])


def test_another_seed_gives_other_random_rows(tmp_path):
    tokenizer, vectors = _student(), _vectors(tmp_path, "turn 1 2\non 3 4\n")
    row = tokenizer.token_to_id("▁zzz▁")
    first, second = (_initial("word-vectors", tokenizer, 2, seed, word_vectors=vectors)[row] for seed in (1, 2))
    assert not np.array_equal(first, second)


def test_neither_vocabulary_nor_embeddings_import_tensorflow():
    code = "import sys, restill.embeddings, restill.vocabulary; sys.exit('tensorflow' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_teacher_reads_each_of_its_pieces_once_on_a_machine(tmp_path):
    file, asked = tmp_path / "pieces" / "teacher.npy", []

    class Counting(Known):
        def embed_tokens(self, ids):
            asked.append(list(ids))
            return super().embed_tokens(ids)

    expected = Known().table * 10
    for wanted in ([3, 5], [5, 4, 3], [9, 3], [9]):
        assert np.array_equal(CachedPieces(Counting(), file).embed_tokens(wanted), expected[wanted])
    assert asked == [[3, 5], [4], [9]]
    file.write_bytes(file.read_bytes()[:50])
    assert np.array_equal(CachedPieces(Counting(), file).embed_tokens([5]), expected[[5]])
    assert asked[3:] == [[5]]
