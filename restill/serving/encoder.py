"""One LiteRT model: token ids to unit vectors.

The model takes any number of sentences of any length, and time grows with both. An interpreter has one input shape,
and another shape costs it more than an answer does; so one is kept for each of a few shapes, all over one mapped file.
"""

import os
import threading
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from restill.errors import IntegrityError

_PAIR = 2  # sentences of a call for one pair
_BATCH = 16  # sentences of a call for many
_KEPT = 32  # interpreters; each has its own copy of the weights of matrix products


class Encoder:
    """One LiteRT model. Calls are serialised; an interpreter is not thread-safe."""

    def __init__(self, path: Path, *, steps: int, threads: int) -> None:
        """Load a model file.

        Args:
            path: a `.tflite` file.
            steps: longest input in tokens.
            threads: interpreter threads.
        Raises: IntegrityError if the file is not a model with one int32 input and one float output.
        """
        self.steps = steps
        # Read once: what answers must not change, or be gone, with a file that somebody cleans up or writes to.
        try:
            self._model = path.read_bytes()
        except OSError as error:
            raise IntegrityError(f"{path} cannot be read: {error}.", hint="Retrain, or roll back.") from error
        self._path = path  # named in errors
        self._threads = threads
        self._start_anew()
        _encoders.add(self)
        self.dimension = int(self._run(np.zeros((_PAIR, _width(1, steps)), np.int32)).shape[-1])

    def embed(self, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return ``[sentences, dimension]`` unit vectors for ids ``[sentences, steps]``, padded with 0.

        Sentences of like length are computed together. Which rows of a call they take follows from the ids alone,
        not from the order they come in.
        """
        lengths = (ids != 0).sum(axis=1)
        order = np.lexsort((*ids.T[::-1], lengths))
        vectors = np.empty((len(ids), self.dimension), np.float32)
        with self._lock:
            start = 0
            while start < len(order):
                rows = _BATCH if len(order) - start > _BATCH // 2 else _PAIR
                chosen = order[start : start + rows]
                width = _width(int(lengths[chosen[-1]]), self.steps)
                batch = np.zeros((rows, width), np.int32)
                batch[: len(chosen), : ids.shape[1]] = ids[chosen, :width]
                vectors[chosen] = self._run(batch)[: len(chosen)]
                start += rows
        return vectors

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Return the input shapes that interpreters are kept for, ``(sentences, steps)``, the latest used last."""
        with self._lock:
            return list(self._prepared)

    def prepare(self, shapes: Iterable[tuple[int, int]]) -> None:
        """Make interpreters for these input shapes now, so that their first answer takes no longer than others."""
        for rows, width in shapes:
            with self._lock:
                self._run(np.zeros((rows, min(width, self.steps)), np.int32))

    def width(self, length: int) -> int:
        """Return the steps of the input that a sentence of so many ids goes into."""
        return _width(length, self.steps)

    def similarity(self, ids_a: list[int], ids_b: list[int]) -> float:
        """Return the cosine of two sentences, at most `steps` ids each, without padding: one call of the model.

        Swapping them changes nothing, to the last bit: the rows they take do not depend on the side.
        """
        if (len(ids_b), ids_b) < (len(ids_a), ids_a):
            ids_a, ids_b = ids_b, ids_a
        pair = np.zeros((_PAIR, _width(len(ids_b), self.steps)), np.int32)
        pair[0, : len(ids_a)] = ids_a
        pair[1, : len(ids_b)] = ids_b
        with self._lock:
            first, second = self._run(pair)
        return float(np.dot(first, second))

    def _start_anew(self) -> None:
        self._lock = threading.Lock()
        self._prepared: dict[tuple[int, int], _Prepared] = {}

    def _after_fork(self) -> None:
        """Leave what a thread may have been using: neither that thread nor those of the interpreters are here."""
        _left_behind.append(self._prepared)
        self._start_anew()

    def _run(self, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return vectors for ids of a shape that an interpreter is kept for, or made for now. Needs the lock."""
        shape = ids.shape
        prepared = self._prepared.pop(shape, None) or _Prepared.of(self._model, self._path, shape, self._threads)
        self._prepared[shape] = prepared  # last in order: the first is the one longest unused
        if len(self._prepared) > _KEPT:
            del self._prepared[next(iter(self._prepared))]
        prepared.interpreter.set_tensor(prepared.accepts, ids)
        prepared.interpreter.invoke()
        vectors: NDArray[np.float32] = prepared.interpreter.get_tensor(prepared.returns)
        return vectors


_encoders: "weakref.WeakSet[Encoder]" = weakref.WeakSet()
_left_behind: list[object] = []  # never ended: to end an interpreter waits for its threads, which a fork does not copy


def _after_fork() -> None:
    for encoder in list(_encoders):
        encoder._after_fork()


if hasattr(os, "register_at_fork"):  # systems that can fork
    os.register_at_fork(after_in_child=_after_fork)


@dataclass(frozen=True)
class _Prepared:
    """An interpreter for one input shape."""

    interpreter: Interpreter
    accepts: int  # number of the input tensor
    returns: int  # number of the output tensor

    @classmethod
    def of(cls, model: bytes, path: Path, shape: tuple[int, int], threads: int) -> "_Prepared":
        """Load a model that was read from a file for inputs of a shape.

        Raises: IntegrityError if the file cannot be run or has not one int32 input and one float output.
        """
        try:
            interpreter = Interpreter(model_content=model, num_threads=threads)
            inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
            if [tensor["dtype"] for tensor in (*inputs, *outputs)] != [np.int32, np.float32]:
                raise IntegrityError(
                    f"{path} has not one int32 input and one float output, but {len(inputs)} and {len(outputs)}.",
                    hint="Retrain, or roll back.",
                )
            interpreter.resize_tensor_input(inputs[0]["index"], list(shape))
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise IntegrityError(
                f"{path} is not a LiteRT model that can be run: {error}", hint="Retrain, or roll back."
            ) from error
        return cls(interpreter, inputs[0]["index"], outputs[0]["index"])


def _width(length: int, steps: int) -> int:
    """Return the steps of the input that a sentence of this length goes into.

    Multiples of 8: with narrower ones less padding is computed, but the weights of more interpreters compete for the
    processor's cache, and a pair takes no less time.
    """
    granularity = 8 if length <= 32 else 16
    return min(max(-(-length // granularity), 1) * granularity, steps)
