"""What texts are answered, what is read of long ones, and what is refused."""

import time

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from restill.errors import InvalidText, RestillError
from restill.serving import PairModel
from restill.serving.tokenizing import CHARACTERS_A_TOKEN, readable, tokenize_one

STEPS = 16


@pytest.fixture(scope="module")
def model(students):
    return PairModel(students[0].folder)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no visible character"),
        (" \t\n\u3000", "no visible character"),
        ("\u200b\u2060\ufeff", "no visible character"),
        ("\0\0", "no visible character"),
        (" " * 1_000_000, "no visible character"),
        ("\0" * 1_000_000, "no visible character among its first 1,024"),
        ("a\ud800b", r"half a surrogate pair, U\+D800, stands at character 1"),
        (None, "not a string but NoneType"),
        (b"a", "not a string but bytes"),
        (7, "not a string but int"),
    ],
)
def test_what_is_no_text_is_named(model, text, says):
    with pytest.raises(InvalidText, match=f"Text 2 of pair 1 .*{says}"):
        model.similarity([("a", text)])
    with pytest.raises(InvalidText, match=f"Text 1 of pair 2 .*{says}"):
        model.predict([("a", "b"), (text, "c")])
    with pytest.raises(InvalidText, match=f"Text 3 .*{says}"):
        model.embed(["a", "b", text])


def test_an_invalid_text_is_a_value_error_and_has_a_message():
    assert issubclass(InvalidText, ValueError)
    assert issubclass(InvalidText, RestillError)


@pytest.mark.parametrize("pairs", [["ab"], [("a",)], [("a", "b", "c")], ("a", "b")])
def test_what_is_no_pair_is_named(model, pairs):
    with pytest.raises(InvalidText, match="Pair 1 is not two texts"):
        model.similarity(pairs)


def test_one_string_is_no_list_of_texts(model):
    with pytest.raises(InvalidText, match="One string"):
        model.embed("abc")


def test_nothing_asked_is_nothing_answered(model):
    assert model.similarity([]).shape == (0,)
    assert model.predict([]) == []
    assert model.embed([]).shape[0] == 0


def test_a_text_of_which_nothing_is_known_is_answered(model):
    """Emoji, private use, unassigned: unknown pieces, or none at all, which is the zero vector."""
    assert np.isfinite(model.similarity([("😀", "a"), ("\ue000", "a"), ("\u0378", "a"), ("a\0b", "a b")])).all()


@pytest.mark.parametrize(
    "text",
    [
        "a b c d " * 125_000,
        "turn on the kitchen light, please " * 30_000,
        "今天天气怎么样" * 150_000,
        " \n" * 500_000 + "a b c " * 100,
        "Donaudampfschifffahrtsgesellschaftskapitän " * 25_000,
    ],
)
def test_a_megabyte_is_answered_as_if_it_had_been_read_whole(text):
    tokenizer = Tokenizer(
        models.WordPiece({piece: row for row, piece in enumerate(["[PAD]", "[UNK]", *"abcdefgh"])}, unk_token="[UNK]")
    )
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    whole = tokenize_one(tokenizer, text, STEPS)
    assert len(whole) == STEPS
    assert tokenize_one(tokenizer, readable(text, STEPS), STEPS) == whole


def test_a_text_within_the_bound_is_read_as_it_is():
    text = " a" * (CHARACTERS_A_TOKEN * STEPS // 2)
    assert readable(text, STEPS) is text
    assert len(readable(text + "b", STEPS)) == CHARACTERS_A_TOKEN * STEPS


@pytest.mark.parametrize("text", ["a " * 500_000, "a" * 1_000_000, "\u0301" * 1_000_000, "a" + " " * 999_999])
def test_a_megabyte_costs_no_more_than_its_beginning(model, text):
    """Tokenising a whole megabyte takes most of a second; its beginning, some milliseconds on a busy machine."""
    model.similarity([(text, "a")])
    started = time.process_time()
    model.similarity([(text, "a")])
    assert time.process_time() - started < 0.1
