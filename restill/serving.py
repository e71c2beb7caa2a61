"""Load the champion and answer. Needs neither TensorFlow nor Prefect: LiteRT, a tokenizer, NumPy and boto3.

champion = Champion.load("s3://bucket/prefix/registry/default")
champion.similarity([("turn on the light", "switch the light on")])
"""

import json
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from tokenizers import Tokenizer

from restill.errors import ConfigurationError, IntegrityError, VersionNotFound
from restill.manifests import Calibration, PromotionEntry
from restill.registry import Registry
from restill.storage import connect_uri
from restill.storage.objects import ObjectStore

CARD = "student.json"  # input length and calibration, beside the tokenizer
_STEP_WIDTH = 8


class Encoder:
    """One LiteRT model: token ids to unit vectors. Calls are serialised; an interpreter is not thread-safe.

    The model takes any number of steps, and time grows with it. An interpreter is kept for each multiple of 8 steps,
    so that a short sentence does not pay for the padding of a long one.
    """

    def __init__(self, path: Path, *, steps: int, threads: int) -> None:
        """Load a model file.

        Args:
            path: a `.tflite` file.
            steps: longest input in tokens.
            threads: interpreter threads.
        Raises: IntegrityError if the file is not a model with one int32 input and one float output.
        """
        self.steps = steps
        self._path = path
        self._threads = threads
        self._lock = threading.Lock()
        self._interpreters: dict[int, Interpreter] = {}
        outputs = self._interpreter(steps).get_output_details()
        if len(outputs) != 1:
            raise IntegrityError(f"{path} has {len(outputs)} outputs, not one.", hint="Retrain, or roll back.")
        self.dimension = int(outputs[0]["shape"][-1])

    def embed(self, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return ``[sentences, dimension]`` unit vectors for ids ``[sentences, steps]``, padded with 0."""
        vectors = np.empty((len(ids), self.dimension), np.float32)
        with self._lock:
            for row, length in enumerate((ids != 0).sum(axis=1)):
                steps = min(max(-(-int(length) // _STEP_WIDTH) * _STEP_WIDTH, _STEP_WIDTH), self.steps)
                interpreter = self._interpreter(steps)
                interpreter.set_tensor(interpreter.get_input_details()[0]["index"], ids[row : row + 1, :steps])
                interpreter.invoke()
                vectors[row] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
        return vectors

    def _interpreter(self, steps: int) -> Interpreter:
        """Return the interpreter for inputs of this many steps; made on first use, over the same mapped file."""
        if steps not in self._interpreters:
            try:
                interpreter = Interpreter(model_path=str(self._path), num_threads=self._threads)
                (accepts,) = interpreter.get_input_details()
                interpreter.resize_tensor_input(accepts["index"], [1, steps])
                interpreter.allocate_tensors()
            except (ValueError, RuntimeError) as error:
                raise IntegrityError(
                    f"{self._path} is not a LiteRT model that can be run: {error}", hint="Retrain, or roll back."
                ) from error
            self._interpreters[steps] = interpreter
        return self._interpreters[steps]


@dataclass(frozen=True)
class Prediction:
    """The answer for one pair."""

    similarity: float  # cosine, in [-1, 1]
    probability: float  # calibrated P(same meaning)
    same: bool  # probability ≥ the threshold chosen on validation


def tokenize(tokenizer: Tokenizer, sentences: Sequence[str], steps: int) -> NDArray[np.int32]:
    """Return ids ``[sentences, steps]``, cut at `steps` and padded with 0."""
    ids = np.zeros((len(sentences), steps), np.int32)
    for row, encoding in enumerate(tokenizer.encode_batch(list(sentences), add_special_tokens=False)):
        cut = encoding.ids[:steps]
        ids[row, : len(cut)] = cut
    return ids


class PairModel:
    """An exported student with its tokenizer and calibration, from a local folder."""

    def __init__(self, folder: Path, *, file: str = "student.tflite", threads: int = 1) -> None:
        """Load the artifact in `folder`.

        Raises: IntegrityError if a file is missing or not what it should be.
        """
        try:
            card: dict[str, Any] = json.loads((folder / CARD).read_text("utf-8"))
            self.calibration = Calibration.model_validate(card["calibration"])
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
        for text in texts:
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"A sentence must be a string with at least one visible character, not {text!r:.80}.")
        return self._encoder.embed(tokenize(self._tokenizer, texts, self._encoder.steps))

    def similarity(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Return the cosine of each pair, ``[pairs]``. Swapping the sides of a pair changes nothing."""
        vectors = self.embed([text for pair in pairs for text in pair])
        cosines: NDArray[np.float32] = (vectors[0::2] * vectors[1::2]).sum(axis=1)
        return cosines

    def predict(self, pairs: Sequence[tuple[str, str]]) -> list[Prediction]:
        """Return similarity, calibrated probability and decision for each pair."""
        cosines = self.similarity(pairs)
        probabilities = self.calibration.probabilities(cosines)
        return [
            Prediction(float(cosine), float(probability), bool(probability >= self.calibration.threshold))
            for cosine, probability in zip(cosines, probabilities, strict=True)
        ]


class Champion(PairModel):
    """The version an alias names: downloaded, every byte verified, cached by digest."""

    def __init__(self, folder: Path, entry: PromotionEntry, *, file: str, threads: int) -> None:
        """Load a fetched version; use `load` or `from_store`."""
        super().__init__(folder, file=file, threads=threads)
        self.entry = entry
        self.version = entry.version

    @classmethod
    def load(
        cls,
        uri: str,
        *,
        alias: str = "champion",
        cache_dir: Path | None = None,
        endpoint_url: str | None = None,
        threads: int = 1,
    ) -> Self:
        """Load the champion of the registry at `s3://bucket/[prefix/]registry/model`; needs only read access.

        Args:
            uri: the model's folder in the registry.
            alias: which alias to follow.
            cache_dir: where versions are kept; default: the user's cache folder.
            endpoint_url: S3 address, for other stores than Amazon's; keys come from boto3's own chain.
            threads: interpreter threads.
        Raises: ConfigurationError, StorageUnreachable, VersionNotFound (nothing was promoted yet), IntegrityError.
        """
        root, separator, model = uri.rstrip("/").rpartition("/registry/")
        if not separator:
            raise ConfigurationError(
                f"{uri!r} does not name a model of a registry.", hint="Write s3://bucket/prefix/registry/model."
            )
        cache = cache_dir or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "restill"
        store = connect_uri(root, endpoint_url=endpoint_url)
        return cls.from_store(store, model=model, alias=alias, cache_dir=cache, threads=threads)

    @classmethod
    def from_store(cls, store: ObjectStore, *, model: str, alias: str, cache_dir: Path, threads: int = 1) -> Self:
        """Load the champion from a store that is already connected.

        Raises: StorageUnreachable, VersionNotFound (nothing was promoted yet), IntegrityError.
        """
        registry = Registry(store, model)
        entry = registry.champion(alias)
        if entry is None:
            raise VersionNotFound(
                f"Nothing was promoted to {alias!r} of model {model!r} yet.", hint="Run restill retrain first."
            )
        manifest = registry.manifest(entry.version)
        folder = registry.fetch(
            manifest,
            cache_dir,
            roles=(manifest.artifact_role, "tokenizer", "calibration"),
            manifest_sha256=entry.manifest_sha256,
        )
        return cls(folder, entry, file=manifest.served_path, threads=threads)
