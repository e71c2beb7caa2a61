from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from restill.vocabulary import PAD_ID, UNKNOWN_ID, prune_tokenizer


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
