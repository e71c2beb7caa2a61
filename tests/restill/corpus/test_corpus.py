import numpy as np
import pytest
from projects import scored_project

from restill import corpus, teachers
from restill.corpus.arrays import create_array
from restill.errors import TrainingFailed
from restill.serving import tokenize
from restill.vocabulary import prune_tokenizer


@pytest.fixture
def project(tmp_path, store):
    return scored_project(tmp_path, store, unlabelled=60)


def prepared(project, folder, **changes):
    snapshot, scores, settings = project
    tokenizer = prune_tokenizer(
        teachers.open_teacher(settings.teacher).tokenizer, corpus.SplitSentences(snapshot, "train")
    )
    return corpus.prepare(snapshot, scores, tokenizer, folder, max_tokens=8, **changes)


def test_every_pair_of_a_split_is_there_with_its_label_ids_and_teacher_score(project, tmp_path):
    snapshot, scores, _ = project
    made = prepared(project, tmp_path / "corpus")
    for split, pairs in (("train", made.train), ("validation", made.validation)):
        rows = [
            row
            for batch in snapshot.read(("pair_id", "text_a", "text_b", "label"), split=split)
            for row in batch.to_pylist()
        ]
        assert [name.decode() for name in pairs.pair_ids] == [row["pair_id"] for row in rows]
        labels = np.array([np.nan if row["label"] is None else row["label"] for row in rows], np.float32)
        np.testing.assert_array_equal(pairs.labels, labels)
        text_a, text_b = ([row[side] for row in rows] for side in ("text_a", "text_b"))
        for side, texts in ((pairs.a, text_a), (pairs.b, text_b)):
            np.testing.assert_array_equal(made.sentences.ids[side], tokenize(made.tokenizer, texts, 8))
            np.testing.assert_allclose(made.sentences.teacher_vectors(side), scores.lookup(texts))
        np.testing.assert_allclose(pairs.scores, scores.cosines(text_a, text_b), atol=1e-6)
    assert np.isnan(made.train.labels).any()


def test_sentences_are_kept_once_and_cut_and_padded(project, tmp_path):
    made = prepared(project, tmp_path / "corpus")
    used = np.unique(np.concatenate([made.train.a, made.train.b, made.validation.a, made.validation.b]))
    assert len(used) == len(made.sentences.ids)
    trimmed = made.sentences.trimmed_ids(made.train.a[:5], multiple=4)
    assert trimmed.shape == (5, 8) or trimmed.shape == (5, 4)
    assert (trimmed != 0).any(axis=1).all()


def test_a_finished_corpus_is_used_again_and_an_unfinished_one_is_not(project, tmp_path, monkeypatch):
    first = prepared(project, tmp_path / "corpus", mined_pairs=2)
    assert first.mined_pairs > 0
    assert np.isnan(first.train.labels[-first.mined_pairs :]).all()
    assert set(first.train.pair_ids[-first.mined_pairs :]) == {b"mined"}
    monkeypatch.setattr(corpus, "tokenize", lambda *_: pytest.fail("made again"))
    again = prepared(project, tmp_path / "corpus", mined_pairs=2)
    np.testing.assert_array_equal(again.train.scores, first.train.scores)
    assert again.teacher == first.teacher
    (tmp_path / "corpus" / "done.json").unlink()
    with pytest.raises(pytest.fail.Exception, match="made again"):
        prepared(project, tmp_path / "corpus", mined_pairs=2)


def test_too_few_pairs_are_refused(project, tmp_path, monkeypatch):
    snapshot, *_ = project
    monkeypatch.setitem(snapshot.rows, "validation", 3)
    with pytest.raises(TrainingFailed, match="3 pairs; at least 10"):
        prepared(project, tmp_path / "corpus")


def test_the_space_of_an_array_is_taken_when_it_is_made(tmp_path):
    """A disk that is full is then an error here, and no signal that ends the process later."""
    create_array(tmp_path / "a.npy", "<i4", (100_000, 32))
    found = (tmp_path / "a.npy").stat()
    assert found.st_blocks * 512 >= found.st_size > 100_000 * 32 * 4
