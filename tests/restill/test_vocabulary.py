import gzip
import time
import unicodedata
from typing import get_args

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from restill.errors import ConfigurationError, TeacherError
from restill.settings.learning import TokenKind
from restill.vocabulary import PAD_ID, TOKENS, UNKNOWN_ID, WordVectors, prune_tokenizer, texts
from restill.vocabulary.folding import fold, folding, mark, marking


def _wordpiece(words):
    tokenizer = Tokenizer(
        models.WordPiece({word: index for index, word in enumerate(["[PAD]", "x", "[UNK]", *words])}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _unigram(pieces):
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), *pieces], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


def test_unused_pieces_of_the_teacher_fill_up_what_room_there_is():
    """The next sentences have other words; the used ones come first, ids follow the teacher's order."""
    teacher = _wordpiece(["light", "never", "turn", "##s", "lamp"])
    pruned = prune_tokenizer(teacher, ["turn turn"], keep_unused=True)
    assert pruned.encode("never turn lamps").tokens == ["never", "turn", "lamp", "##s"]
    assert not [name for name in pruned.get_vocab() if name in ("[CLS]", "[SEP]", "[MASK]")]
    small = prune_tokenizer(teacher, ["turn turn"], keep_unused=True, max_size=4)
    assert sorted(small.get_vocab(), key=small.token_to_id) == ["[PAD]", "[UNK]", "x", "turn"]


def test_teacher_tokens_read_full_width_forms_as_the_plain_ones():
    """A WordPiece of BERT's has no piece for `ｔｕｒｎ`, which Chinese keyboards write."""
    tokenizer = TOKENS["teacher"].make(["turn on 2"], teacher=_wordpiece(["turn", "on", "2"]), max_size=100)
    assert tokenizer.encode("ｔｕｒｎ　ｏｎ　２").tokens == ["turn", "on", "2"]


def test_only_used_pieces_stay_in_the_teachers_order():
    pruned = prune_tokenizer(_wordpiece(["light", "never", "turn", "##s"]), ["Turn lights", "turn"])
    assert pruned.get_vocab() == {"[PAD]": PAD_ID, "[UNK]": UNKNOWN_ID, "light": 2, "turn": 3, "##s": 4}
    assert pruned.encode("TURN lights").tokens == ["turn", "light", "##s"]


def test_repeated_characters_the_teacher_lacks_get_pieces():
    """A teacher without Chinese must not make the student blind to it; a character seen once stays unknown."""
    pruned = prune_tokenizer(_wordpiece(["turn"]), ["打开灯", "关灯 打开", "turn 关 一"])
    assert pruned.encode("打开灯").tokens == ["打", "开", "灯"]
    assert pruned.encode("一").ids == [UNKNOWN_ID]


def test_words_the_teacher_lacks_are_spelled():
    pruned = prune_tokenizer(_wordpiece(["turn"]), ["turn ab", "ab turn"])
    assert pruned.encode("turn q").ids == [pruned.token_to_id("turn"), UNKNOWN_ID]
    assert pruned.token_to_id("a") is not None
    assert pruned.token_to_id("##b") is not None


def test_a_unigram_tokenizer_is_pruned_too():
    pruned = prune_tokenizer(_unigram([("▁turn", -1.0), ("▁on", -1.5), ("never", -2.0)]), ["turn on"])
    assert pruned.encode("turn on").tokens == ["▁turn", "▁on"]
    assert pruned.token_to_id("never") is None
    assert pruned.token_to_id("[PAD]") == PAD_ID


def test_no_special_tokens_are_added_around_a_sentence():
    pruned = prune_tokenizer(_wordpiece(["turn"]), ["turn"])
    assert pruned.encode("turn").ids == [2]


def test_a_sentence_that_spells_padding_is_read_as_text():
    """Lower-casing tokenizers never see it; one that keeps case must not take text for id 0 or 1."""
    cased = _wordpiece(["turn", "PAD", "UNK", "[", "]"])
    cased.normalizer = None
    cased.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    for pruned in (
        prune_tokenizer(cased, ["turn"]),
        prune_tokenizer(_unigram([("▁turn", -1.0), ("[", -2.0)]), ["turn [PAD] [PAD]"]),
        prune_tokenizer(_wordpiece(["turn"]), ["turn"]),
    ):
        assert PAD_ID not in pruned.encode("turn [PAD] [UNK][PAD]").ids
        assert pruned.encode("turn").ids == [2]


def test_the_rarest_pieces_are_dropped_beyond_the_largest_size():
    corpus = ["turn light", "turn light", "turn lights"]
    pruned = prune_tokenizer(_wordpiece(["light", "turn", "##s"]), corpus, max_size=4)
    assert pruned.get_vocab() == {"[PAD]": 0, "[UNK]": 1, "light": 2, "turn": 3}
    assert pruned.encode("turn lights").ids == [3, UNKNOWN_ID]


def test_the_largest_size_holds_for_a_unigram_tokenizer():
    teacher = _unigram([("▁turn", -1.0), ("▁on", -1.5), ("▁off", -1.6)])
    pruned = prune_tokenizer(teacher, ["turn on", "turn on", "turn off"], max_size=4)
    assert pruned.get_vocab_size() == 4
    assert pruned.encode("turn on").tokens == ["▁turn", "▁on"]
    assert UNKNOWN_ID in pruned.encode("turn off").ids


def test_another_kind_of_teacher_tokenizer_is_refused():
    with pytest.raises(TeacherError, match="BPE"):
        prune_tokenizer(Tokenizer(models.BPE()), ["turn"])


def _make(name, sentences, *, max_size=50_000, word_vectors=None):
    teacher = _wordpiece(["turn", "light", "##s"])
    made = TOKENS[name].make(sentences, teacher=teacher, max_size=max_size, word_vectors=word_vectors)
    assert made.token_to_id("[PAD]") == PAD_ID
    assert made.token_to_id("[UNK]") == UNKNOWN_ID
    assert made.get_vocab_size() <= max_size
    served = Tokenizer.from_str(made.to_str())  # what travels in the artifact
    for sentence in [*sentences, "Ｔｕｒｎ ON 😀, 花呗？"]:
        assert served.encode(sentence).ids == made.encode(sentence).ids
    return served


def _vectors(tmp_path, *words):
    path = tmp_path / "vectors.txt"
    path.write_text("".join(f"{word} 0.5 0.25\n" for word in words), "utf-8")
    return WordVectors(path)


def test_every_name_of_the_settings_has_a_tokenisation():
    assert set(TOKENS) == set(get_args(TokenKind))
    assert all(tokens.summary and "\n" not in tokens.summary for tokens in TOKENS.values())


@pytest.mark.parametrize("name", TOKENS)
def test_a_corpus_that_can_be_read_once_only_is_refused(name):
    with pytest.raises(TypeError, match="more than once"):
        TOKENS[name].make((sentence for sentence in ["a"]), teacher=_wordpiece([]), max_size=10)


def test_teacher_tokens_are_the_pruned_pieces():
    assert _make("teacher", ["turn lights"]).get_vocab() == {"[PAD]": 0, "[UNK]": 1, "turn": 2, "light": 3, "##s": 4}


def test_characters_are_folded_and_rare_ones_unknown_by_themselves():
    made = _make("char", ["ＡＢ 花呗", "ab 花x"])
    assert made.get_vocab() == {"[PAD]": 0, "[UNK]": 1, "a": 2, "b": 3, "花": 4}
    assert made.encode("Ａb呗呗花").tokens[:2] == ["a", "b"]
    assert made.encode("Ａb呗呗花").ids == [2, 3, UNKNOWN_ID, UNKNOWN_ID, 4]
    assert made.encode(" \t　\n").ids == []


def test_the_most_frequent_characters_stay():
    made = _make("char", ["aaab", "abbc", "cc"], max_size=4)
    assert made.get_vocab() == {"[PAD]": 0, "[UNK]": 1, "a": 2, "b": 3}


def test_words_are_whole_and_never_found_inside_others():
    made = _make("word", ["Turn on the light!", "turn on the light!", "lightning"])
    assert made.encode("TURN the Light!").tokens == ["▁turn▁", "▁the▁", "▁light▁", "!"]
    assert made.encode("lightning light").ids == [UNKNOWN_ID, made.token_to_id("▁light▁")]
    assert made.encode("foo bar,baz").ids == [UNKNOWN_ID] * 4


def test_words_keep_their_combining_marks():
    """Hindi vowel signs are marks: a word does not end before them. Nor does an emoji's colour make a second token."""
    made = _make("word", ["नमस्ते दुनिया ❤️", "नमस्ते दुनिया ❤️"])
    assert made.encode("नमस्ते दुनिया ❤").tokens == ["▁नमस्ते▁", "▁दुनिया▁", "❤"]


def test_chinese_without_vectors_is_cut_into_characters():
    made = _make("word", ["我的花呗", "我的花呗", "借款"])
    assert made.encode("我的花呗借").tokens[:4] == ["我", "的", "花", "呗"]
    assert made.encode("我的花呗借").ids[4:] == [UNKNOWN_ID]


def test_word_vectors_say_what_the_words_of_chinese_are(tmp_path):
    """The fewest words: 蚂蚁花呗 and not 蚂蚁 + 花呗; what occurs nowhere is left out; an unknown has no neighbours."""
    vectors = _vectors(tmp_path, "蚂蚁", "蚂蚁花呗", "花呗", "借款", "借钱", "款呗", "还")
    made = _make("word", ["蚂蚁花呗怎么借款", "花呗怎么还"], word_vectors=vectors)
    assert made.encode("蚂蚁花呗怎么借款").tokens == ["蚂蚁花呗", "怎", "么", "借款"]
    assert made.encode("花呗𠀀还").ids == [made.token_to_id("花呗"), UNKNOWN_ID, made.token_to_id("还")]
    assert made.token_to_id("蚂蚁") is None  # only ever inside the longer word
    assert made.token_to_id("借钱") is None
    assert made.encode("用Wifi借款").tokens[-1] == "借款"


def test_a_word_with_a_vector_needs_to_occur_once_only(tmp_path):
    made = _make("word", ["turn the lamp"], word_vectors=_vectors(tmp_path, "Lamp", "piano", "the lamp"))
    assert made.get_vocab() == {"[PAD]": 0, "[UNK]": 1, "▁lamp▁": 2}


def test_texts_are_tokens_without_the_marks_of_their_model(tmp_path):
    assert texts(_make("teacher", ["turn lights"])) == ["", "", "turn", "light", "s"]
    assert texts(_make("char", ["aa"])) == ["", "", "a"]
    made = _make("word", ["turn 花呗", "turn"], word_vectors=_vectors(tmp_path, "花呗"))
    assert texts(made)[made.token_to_id("▁turn▁")] == "turn"
    assert texts(made)[made.token_to_id("花呗")] == "花呗"


@pytest.mark.parametrize("name", TOKENS)
@pytest.mark.parametrize("sentences", [[], [""], ["   "], ["a"]])
def test_a_corpus_of_nothing_gives_a_vocabulary_that_works(name, sentences):
    assert set(_make(name, sentences).encode("turn, 花").ids) <= {UNKNOWN_ID, 2}


@pytest.mark.parametrize("name", TOKENS)
def test_a_vocabulary_of_ten(name, tmp_path):
    corpus = ["turn on the light 花呗借款", "a b c d e f g h i j"] * 2
    made = _make(name, corpus, max_size=10, word_vectors=_vectors(tmp_path, "花呗"))
    assert max(made.encode(corpus[0]).ids) < 10


HOSTILE = {
    "letters": "a" * 100_000,
    "chinese": "花呗" * 50_000,
    "words": "turn on " * 12_500,
    "marks": "e\u0301\u0302" * 33_000,
    "lone marks": "\u0301" * 100_000,
    "emoji": "👩\u200d👩\u200d👧 " * 10_000,
    "word marks": "▁" * 100_000,
    "mixed": "a花▁!" * 25_000,
    "invisible": "\u200b\ufeff\ufe0f" * 30_000,
    "controls": "\x00\x01\x7f" * 30_000,
    "spaces": "\u3000\xa0 \t\r\n" * 10_000,
    "unassigned": "\U000e0fff\ue000\ufffd" * 10_000,
}


@pytest.mark.parametrize("name", TOKENS)
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_is_encoded_in_time(name, text, tmp_path):
    made = _make(name, ["turn on 花呗", "turn on 花呗"], word_vectors=_vectors(tmp_path, "花呗"))
    started = time.monotonic()
    encoding = made.encode(text)
    assert time.monotonic() - started < 5  # linear; 0.4 s where it was measured
    assert PAD_ID not in encoding.ids


def test_what_is_empty_after_normalisation_has_no_tokens():
    for name in TOKENS:
        assert _make(name, ["turn", "turn"]).encode("\u200b\ufeff").ids == []


def _holds(tokenizer, size, sentence):
    """Check a large vocabulary as it is loaded from the artifact."""
    loaded = Tokenizer.from_str(tokenizer.to_str())
    assert loaded.get_vocab_size() == size
    assert UNKNOWN_ID not in loaded.encode(sentence).ids


def test_two_hundred_thousand_words():
    """190,000 words and 20,000 characters seen twice, of which the first by frequency, then by code point, stay."""
    corpus = [" ".join(f"word{number}" for number in range(first, first + 100)) for first in range(0, 190_000, 100)] * 2
    corpus += ["".join(chr(0x4E00 + number) for number in range(20_000))] * 3
    _holds(TOKENS["word"].make(corpus, teacher=_wordpiece([]), max_size=200_000), 200_000, "word0 一word1")


def test_every_character_there_is():
    """Characters run out before 200,000: all letters from U+3400 on whose folding is one character, not a word."""
    letters = [chr(code) for code in range(0x3400, 0x32000) if unicodedata.category(chr(code)) == "Lo"]
    corpus = ["".join(letter for letter in letters if unicodedata.normalize("NFKC", letter) == letter)] * 2
    _holds(TOKENS["char"].make(corpus, teacher=_wordpiece([]), max_size=200_000), len(corpus[0]) + 2, corpus[0])


def test_a_teacher_of_two_hundred_thousand_pieces():
    corpus = [f"word{number}" for number in range(200_000)]
    teacher = _wordpiece(corpus)
    corpus = [" ".join(corpus[first : first + 100]) for first in range(0, 200_000, 100)]
    _holds(prune_tokenizer(teacher, corpus, max_size=200_000), 200_000, "word7 word77")


@pytest.mark.parametrize(
    "text", ["Turn", "wifi6", "花呗", "㐀龥", "花呗3", "don't", "Ａ", "ﬁ", "İ", "é", "豈", "a b", "", "_"]
)
def test_the_short_way_to_fold_a_word_is_the_normalisers(text):
    assert fold(text) == folding().normalize_str(text)
    assert mark(text) == marking().normalize_str(text)


def test_text_cannot_spell_the_mark_of_a_word():
    made = _make("word", ["turn on", "turn on"])
    assert made.encode("▁turn▁").tokens == ["▁turn▁"]


def _write(tmp_path, content, name="vectors.txt"):
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


@pytest.mark.parametrize("name", ["vectors.txt", "vectors.txt.gz"])
@pytest.mark.parametrize("header", [b"", b"3 2\n", b"\xef\xbb\xbf3 2\r\n"])
def test_word_vectors_are_read_with_and_without_a_header(tmp_path, header, name):
    content = header + "turn 1 2 \n花呗 -0.5 1e-3\r\nturn 7 8\n\n".encode()
    vectors = WordVectors(_write(tmp_path, content, name))
    assert vectors.dimension == 2
    assert list(vectors.words()) == ["turn", "花呗", "turn"]
    read = vectors.read({"turn", "花呗", "absent"})
    assert set(read) == {"turn", "花呗"}
    assert read["turn"].tolist() == [1.0, 2.0]  # the first stays
    assert read["花呗"] == pytest.approx([-0.5, 0.001])
    assert read["turn"].dtype == "float32"


def test_a_word_may_hold_spaces_and_odd_blanks(tmp_path):
    vectors = WordVectors(_write(tmp_path, "a 1 2\n. . . 3 4\nx\u2028y 5 6\n".encode()))
    assert list(vectors.words()) == ["a", ". . .", "x\u2028y"]


def test_folded_words_keep_the_first(tmp_path):
    vectors = WordVectors(_write(tmp_path, b"Turn 1 2\nturn 3 4\n"))
    assert vectors.read({"turn"}, fold=str.lower)["turn"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", 1),
        (b"word\n", 1),
        (b"a 1 2\nb 1\n", 2),
        (b"a 1 2\nb 1 2 3\n", 2),
        (b"a 1 2\n\nturn 1 x\n", 3),
        (b"a 1 2\nturn nan 1\n", 2),
        (b"a 1 2\nturn 1e99 1\n", 2),
        (b"a 1 2\n\xff\xfe 1 2\n", 2),
        (b"3 2\na 1 2\nb 1 2\n", 3),
        (b"a 1 2\n" + b"x" * (1 << 21), 2),
        (b"a 1 2\n 1 2\n", 2),
    ],
    ids=[
        "empty",
        "no numbers",
        "short",
        "long",
        "not a number",
        "nan",
        "overflow",
        "not UTF-8",
        "cut",
        "endless",
        "blank",
    ],
)
def test_a_damaged_line_is_named(tmp_path, content, line):
    path = _write(tmp_path, content)
    with pytest.raises(ConfigurationError, match=rf"line {line}:") as caught:
        WordVectors(path).read({"turn"})
    assert caught.value.hint


def test_a_missing_or_damaged_file_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        WordVectors(tmp_path / "absent.txt")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        WordVectors(tmp_path)
    whole = gzip.compress(b"turn 1 2\n" * 1000)
    for damaged in (b"not gzip", whole[:30]):
        path = tmp_path / "vectors.gz"
        path.write_bytes(damaged)
        with pytest.raises(ConfigurationError, match="cannot be read"):
            WordVectors(path).read({"turn"})
