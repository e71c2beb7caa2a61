"""A student with its tokenizer and calibration: pairs of texts to similarities, probabilities and decisions."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from restill.errors import IntegrityError, InvalidText
from restill.manifests import Calibration
from restill.serving.encoder import Encoder
from restill.serving.tokenizing import readable, tokenize, tokenize_one

CARD = "student.json"  # input length and the calibration of each export, beside the tokenizer
CARD_FORMAT = 2
_SIDES = 2  # of a pair


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
            self._tokenizer = _read_tokenizer(folder / "tokenizer.json")
        except FileNotFoundError as error:
            raise IntegrityError(f"The artifact {folder} lacks {error.filename}.", hint="Fetch it again.") from error
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"The artifact {folder} is damaged: {error}", hint="Fetch it again.") from error
        self._encoder = Encoder(folder / file, steps=steps, threads=threads)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors ``[texts, dimension]``; a text of which the model reads nothing gives zeros.

        Vectors of two versions have nothing to do with each other.

        Raises: InvalidText as `tokenize` does.
        """
        return self._encoder.embed(self.tokenize(texts))

    def tokenize(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """Return the model's ids ``[texts, max_tokens]``, padded with 0. What is longer than the model reads is cut.

        Raises: InvalidText naming the text that is not a string, has nothing visible, or is not valid Unicode.
        """
        if isinstance(texts, str):
            raise InvalidText("One string was given where texts are wanted.", hint="Put it into a list.")
        return tokenize(self._tokenizer, self._readable(texts, "Text {number}"), self._encoder.steps)

    def similarity(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Return the cosine of each pair, ``[pairs]``. Swapping the sides of a pair changes nothing.

        A single pair is one call of the model; many are embedded in batches. Safe to call from many threads.

        Raises: InvalidText as `tokenize` does, also for a pair that is not two texts.
        """
        for number, pair in enumerate(pairs, start=1):
            if isinstance(pair, str) or len(pair) != _SIDES:
                raise InvalidText(f"Pair {number} is not two texts.", hint="Write [(a, b), …].")
        texts = self._readable([text for pair in pairs for text in pair], "Text {side} of pair {pair}")
        steps = self._encoder.steps
        if len(texts) == _SIDES:
            first, second = (tokenize_one(self._tokenizer, text, steps) for text in texts)
            return np.array([self._encoder.similarity(first, second)], np.float32)
        vectors = self._encoder.embed(tokenize(self._tokenizer, texts, steps))
        cosines: NDArray[np.float32] = (vectors[0::2] * vectors[1::2]).sum(axis=1)
        return cosines

    def width(self, pair: tuple[str, str]) -> int:
        """Return the steps of the input that a single pair is computed in. The first pair of a width takes longer."""
        steps = self._encoder.steps
        return self._encoder.width(
            max(len(tokenize_one(self._tokenizer, readable(text, steps), steps)) for text in pair)
        )

    def predict(self, pairs: Sequence[tuple[str, str]]) -> list[Prediction]:
        """Return similarity, calibrated probability and decision for each pair."""
        cosines = self.similarity(pairs)
        probabilities = self.calibration.probabilities(cosines)
        return [
            Prediction(float(cosine), float(probability), bool(probability >= self.calibration.threshold))
            for cosine, probability in zip(cosines, probabilities, strict=True)
        ]

    def prepare_as(self, other: "PairModel") -> None:
        """Make ready for the input shapes that another one has answered: the first answer of a shape takes longer."""
        self._encoder.prepare(other._encoder.shapes)

    def try_out(self) -> None:
        """Answer alone and in a batch, whatever the answer is, so that a model that cannot never goes live.

        Raises: IntegrityError if an answer is no number.
        """
        answers = [*self.predict([("a", "b")]), *self.predict([("a", "b"), ("b", "c")])]
        if not all(np.isfinite([answer.similarity, answer.probability]).all() for answer in answers):
            raise IntegrityError(f"The model answers with what is no number: {answers}.", hint="Roll back.")

    def _readable(self, texts: Sequence[str], place: str) -> list[str]:
        """Return what is read of each text; `place` says in errors which one it is."""
        found = []
        for index, text in enumerate(texts):
            try:
                found.append(readable(text, self._encoder.steps))
            except InvalidText as error:
                where = place.format(number=index + 1, pair=index // _SIDES + 1, side=index % _SIDES + 1)
                raise InvalidText(f"{where} {error}.") from error
        return found


def _read_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer.

    Raises: FileNotFoundError; ValueError if it is not one.
    """
    text = path.read_text("utf-8")
    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # tokenizers raises nothing more particular
        raise ValueError(f"{path.name}: {error}") from error
