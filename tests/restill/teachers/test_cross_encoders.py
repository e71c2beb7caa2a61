import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from bert_reference import from_hugging_face, pooled
from factories import write_tiny_cross_encoder, write_tokenizer
from safetensors.numpy import load_file, save_file

from restill.errors import TeacherError
from restill.settings import TeacherSettings
from restill.teachers import Teacher, load_teacher, open_teacher

TEXT_A = ["turn on the light", "cat", "花呗怎么还款", "how do i open a new bank account today"]
TEXT_B = ["switch the lamp on please", "dog", "怎么还花呗", "x"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_cross_encoder(tmp_path_factory.mktemp("cross") / "tiny-cross")


@pytest.fixture(scope="module")
def cross(folder: Path) -> Teacher:
    return load_teacher(TeacherSettings(path=folder))


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.mark.parametrize("labels", [1, 2])
def test_logits_match_a_plain_forward_pass(tmp_path, labels):
    folder = write_tiny_cross_encoder(tmp_path / "cross", labels=labels)
    settings = TeacherSettings(path=folder, prompt="the ", batch_tokens=64)
    teacher, tokenizer = load_teacher(settings), open_teacher(settings).tokenizer
    weights = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    expected = []
    for text_a, text_b in zip(TEXT_A, TEXT_B, strict=True):
        sides = [tokenizer.encode(text, add_special_tokens=False).ids for text in (f"the {text_a}", text_b)]
        cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
        ids = [cls, *sides[0], sep, *sides[1], sep]
        segments = [0] * (len(sides[0]) + 2) + [1] * (len(sides[1]) + 1)
        vector = pooled(from_hugging_face(weights), config, ids, segments, "pooler-tanh")
        logits = weights["classifier.weight"].astype(np.float64) @ vector + weights["classifier.bias"]
        expected.append(logits if labels == 1 else [logits[1] - logits[0]])
    found = teacher.score_pairs(TEXT_A, TEXT_B)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.array(expected), rtol=0, atol=1e-5)


def test_kind_is_read_from_the_directory_and_can_be_set(folder, cross):
    assert cross.kind == "cross-encoder"
    assert cross.dimension == 1
    as_bi_encoder = load_teacher(TeacherSettings(path=folder, kind="bi-encoder"))
    assert as_bi_encoder.encode(TEXT_A).shape == (4, 32)
    config = json.loads((folder / "config.json").read_text()) | {"architectures": None}
    assert open_teacher(TeacherSettings(path=folder)).labels == 2
    other = folder.parent / "unnamed"
    shutil.copytree(folder, other)
    (other / "config.json").write_text(json.dumps(config))
    assert open_teacher(TeacherSettings(path=other)).kind == "bi-encoder"
    set_by_hand = load_teacher(TeacherSettings(path=other, kind="cross-encoder"))
    np.testing.assert_array_equal(set_by_hand.score_pairs(TEXT_A, TEXT_B), cross.score_pairs(TEXT_A, TEXT_B))


def test_cross_encoder_is_frozen(cross):
    assert len(cross.encoder.variables) > 20
    assert not cross.encoder.trainable_variables


def test_order_of_sides_and_of_pairs_is_kept(cross):
    together = cross.score_pairs(TEXT_A, TEXT_B)
    alone = np.concatenate([cross.score_pairs([a], [b]) for a, b in zip(TEXT_A, TEXT_B, strict=True)])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert np.abs(together - cross.score_pairs(TEXT_B, TEXT_A)).max() > 1e-4
    np.testing.assert_array_equal(cross.encode_items(list(zip(TEXT_A, TEXT_B, strict=True))), together)
    assert cross.score_pairs([], []).shape == (0, 1)


def test_long_pairs_are_cut_so_that_both_sides_stay_visible(folder):
    short = load_teacher(TeacherSettings(path=folder, max_tokens=9))
    tokenizer = open_teacher(TeacherSettings(path=folder, max_tokens=9)).tokenizer
    cut = tokenizer.encode("cat " * 30, "dog house").tokens
    assert cut == ["[CLS]", "cat", "cat", "cat", "cat", "[SEP]", "dog", "house", "[SEP]"]
    assert tokenizer.encode("cat", "dog " * 30).tokens == ["[CLS]", "cat", "[SEP]", *["dog"] * 5, "[SEP]"]
    assert short.count_tokens([("cat " * 30, "dog " * 30), ("cat", "dog")]).tolist() == [9, 5]
    scores = short.score_pairs(["cat " * 30] * 3, ["dog house", "dog house " * 30, "red car"])
    assert len(set(scores[:, 0].tolist())) == 3


def test_a_cross_encoder_gives_no_vectors(cross):
    for ask in (lambda: cross.encode(["cat"]), lambda: cross.embed_tokens([5])):
        with pytest.raises(ValueError, match=r"tiny-cross is a cross-encoder\. Use score_pairs"):
            ask()
    with pytest.raises(ValueError, match="reads \\(text_a, text_b\\) tuples"):
        cross.encode_items(["ab"])
    with pytest.raises(ValueError, match="zip"):
        cross.score_pairs(["cat"], [])
    assert cross.token_embeddings().shape == (538, 32)


def edit_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def drop(folder: Path, *names: str) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in weights.items() if name not in names}, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: edit_config(folder, id2label={"0": "a", "1": "b", "2": "c"}), "3 labels"),
        (
            lambda folder: edit_config(folder, num_labels=1),
            r"classifier.weight has shape \(2, 32\) instead of \(1, 32\)",
        ),
        (lambda folder: drop(folder, "classifier.weight", "classifier.bias"), "missing classifier.weight"),
        (lambda folder: drop(folder, "bert.pooler.dense.bias"), "missing pooler.dense.bias"),
        (
            lambda folder: edit_config(folder, type_vocab_size=1),
            "second side as segment 1, but the weights have only 1 segment",
        ),
        (
            lambda folder: (folder / "modules.json").write_text('[{"type": "x.Transformer"}, {"type": "x.Pooling"}]'),
            "asks for Pooling after the encoder, which is not computed here for a cross-encoder",
        ),
    ],
)
def test_unusable_cross_encoders_are_refused(copy, damage, message):
    damage(copy)
    with pytest.raises(TeacherError, match=message) as caught:
        load_teacher(TeacherSettings(path=copy))
    assert caught.value.hint
    assert "teacher.pooling" not in caught.value.hint


def test_tokenizer_that_cannot_join_a_pair_is_refused(copy):
    vocabulary = open_teacher(TeacherSettings(path=copy)).tokenizer.get_vocab()
    write_tokenizer(copy / "tokenizer.json", vocabulary)
    with pytest.raises(TeacherError, match="no special token between the two sides"):
        load_teacher(TeacherSettings(path=copy))


def test_pooling_cannot_be_set_for_a_cross_encoder(folder):
    with pytest.raises(TeacherError, match=r"teacher\.pooling is mean, but the cross-encoder .* pooler-tanh"):
        open_teacher(TeacherSettings(path=folder, pooling="mean"))
