"""A student with its tokenizer and calibration: pairs of texts to similarities, probabilities and decisions."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from restill.errors import IntegrityError
from restill.manifests import Calibration
from restill.serving.encoder import Encoder
from restill.serving.tokenizing import tokenize, tokenize_one

CARD = "student.json"  # input length and the calibration of each export, beside the tokenizer
CARD_FORMAT = 2


@dataclass(frozen=True)
class Prediction:
    """The answer for one pair."""

    similarity: float  # cosine, in [-1, 1]
    probability: float  # calibrated P(same meaning)
    same: bool  # probability ≥ the threshold chosen on validation


class PairModel:
    """An exported student with its tokenizer and calibration, from a local folder."""

    def __init__(self, folder: Path, *, file: str = "student.tflite", threads: int = 1) -> None:
        """Load the artifact in `folder`.

        Raises: IntegrityError if a file is missing or not what it should be.
        """
        try:
            card: dict[str, Any] = json.loads((folder / CARD).read_text("utf-8"))
            if card["format"] != CARD_FORMAT:
                raise IntegrityError(
                    f"The artifact {folder} has format {card['format']}; this Restill reads format {CARD_FORMAT}.",
                    hint="Serve it with the Restill that made it. To retrain with this one, give registry.model a new "
                    "name: the first student there is judged on the absolute gates.",
                )
            self.calibration = Calibration.model_validate(card["calibrations"][file])
            steps = int(card["max_tokens"])
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except FileNotFoundError as error:
            raise IntegrityError(f"The artifact {folder} lacks {error.filename}.", hint="Fetch it again.") from error
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"The artifact {folder} is damaged: {error}", hint="Fetch it again.") from error
        self._encoder = Encoder(folder / file, steps=steps, threads=threads)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors ``[texts, dimension]``.

        Raises: ValueError if a text is not a string or is empty.
        """
        return self._encoder.embed(self.tokenize(texts))

    def tokenize(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """Return the model's ids ``[texts, max_tokens]``, padded with 0.

        Raises: ValueError if a text is not a string or is empty.
        """
        _require_text(texts)
        return tokenize(self._tokenizer, texts, self._encoder.steps)

    def similarity(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Return the cosine of each pair, ``[pairs]``. Swapping the sides of a pair changes nothing.

        A single pair is one call of the model; many are embedded in batches.

        Raises: ValueError if a text is not a string or is empty.
        """
        if len(pairs) == 1:
            _require_text(pairs[0])
            first, second = (tokenize_one(self._tokenizer, text, self._encoder.steps) for text in pairs[0])
            return np.array([self._encoder.similarity(first, second)], np.float32)
        vectors = self.embed([text for pair in pairs for text in pair])
        cosines: NDArray[np.float32] = (vectors[0::2] * vectors[1::2]).sum(axis=1)
        return cosines

    def width(self, pair: tuple[str, str]) -> int:
        """Return the steps of the input that a single pair is computed in. The first pair of a width takes longer."""
        return self._encoder.width(max(len(tokenize_one(self._tokenizer, text, self._encoder.steps)) for text in pair))

    def predict(self, pairs: Sequence[tuple[str, str]]) -> list[Prediction]:
        """Return similarity, calibrated probability and decision for each pair."""
        cosines = self.similarity(pairs)
        probabilities = self.calibration.probabilities(cosines)
        return [
            Prediction(float(cosine), float(probability), bool(probability >= self.calibration.threshold))
            for cosine, probability in zip(cosines, probabilities, strict=True)
        ]


def _require_text(texts: Sequence[str]) -> None:
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"A sentence must be a string with at least one visible character, not {text!r:.80}.")
