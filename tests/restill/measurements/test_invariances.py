"""On a real exported student: what it reads alike, and what it does not."""

import json

import keras
import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from restill import students
from restill.measurements import invariances
from restill.serving import CARD_FORMAT, PairModel
from restill.settings import StudentSettings

WORDS = ["turn", "on", "off", "the", "light", "lamp", "Turn", ".", "打", "开", "灯", "关"]
PAIRS = [("Turn on the light", "turn off the lamp"), ("turn the lamp off", "turn on light"), ("打开灯", "关灯")] * 4


def _model(folder, *, lower_case):
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.BertNormalizer(lowercase=lower_case)])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    keras.utils.set_random_seed(0)
    encoder = students.build(len(vocabulary), StudentSettings(embedding_size=16, hidden_size=16, max_tokens=8))
    probe = np.arange(2, 14, dtype=np.int32).reshape(2, 6)
    files = students.export(encoder, probe, folder, max_tokens=8, exports=["litert_int8"])
    tokenizer.save(str(folder / "tokenizer.json"))
    calibration = {"scale": 8.0, "bias": 0.5, "threshold": 0.5}
    card = {"format": CARD_FORMAT, "max_tokens": 8, "calibrations": dict.fromkeys(files.values(), calibration)}
    (folder / "student.json").write_text(json.dumps(card))
    return PairModel(folder, file=files["litert_int8"]), folder / files["litert_int8"]


@pytest.fixture(scope="module")
def folding(tmp_path_factory):
    return _model(tmp_path_factory.mktemp("folding"), lower_case=True)


def test_what_the_tokenizer_folds_changes_nothing(folding):
    found = {check.name: check for check in invariances.measure(folding[0], PAIRS)}
    assert found["full width"].pairs == 8  # spaces and letters have full-width forms, Chinese characters are such
    for name in ("casing", "full width"):
        assert (found[name].largest_change, found[name].changed_decisions) == (0.0, 0.0)
    assert found["casing"].pairs == 8
    assert found["punctuation"].pairs == 12
    assert found["punctuation"].largest_change > 0


def test_a_student_that_reads_case_is_found_out(tmp_path):
    model, _ = _model(tmp_path, lower_case=False)
    (casing,) = [check for check in invariances.measure(model, PAIRS) if check.name == "casing"]
    assert casing.largest_change > 0.01


def test_swapped_sides_change_nothing_to_the_last_bit(folding):
    assert invariances.swap_difference(*folding, PAIRS) == 0.0


def test_a_model_that_treats_the_sides_differently_is_found_out(folding, monkeypatch):
    model, path = folding
    plain = PairModel.similarity
    monkeypatch.setattr(
        PairModel, "similarity", lambda self, pairs: plain(self, pairs) + np.float32([len(a) / 1000 for a, _ in pairs])
    )
    assert invariances.swap_difference(model, path, PAIRS) > 0.001


@pytest.mark.parametrize(
    ("change", "text", "expected"),
    [
        (invariances.end_mark, "turn on", "turn on."),
        (invariances.end_mark, "turn on?!", "turn on"),
        (invariances.end_mark, "开灯", "开灯。"),
        (invariances.end_mark, "?", "?."),
        (invariances.full_width, "On 2!", "Ｏｎ　２！"),
        (invariances.upper_case, "Turn 开", "TURN 开"),
    ],
)
def test_each_change(change, text, expected):
    assert change(text) == expected
