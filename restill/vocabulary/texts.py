"""What a token of a student's tokenizer reads as, without the marks of its model."""

import json

from tokenizers import Tokenizer

from restill.vocabulary.folding import MARK


def texts(tokenizer: Tokenizer) -> list[str]:
    """Return the text of each entry, in the order of ids: `##s` reads `s`, `▁turn` and `▁turn▁` read `turn`.

    The first two entries, padding and unknown, and a piece that is a mark alone, read as nothing.
    """
    model = json.loads(tokenizer.to_str())["model"]
    prefix: str = model.get("continuing_subword_prefix") or ""

    def read(token: str) -> str:
        return token.strip(MARK) if model["type"] == "Unigram" else token.removeprefix(prefix)

    tokens = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return ["", "", *(read(token) for token, _ in tokens[2:])]
