"""What an architecture is: a line about it, a builder, and the form that is exported where that is another one."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from restill.settings import StudentSettings

Ids = NDArray[np.int32]
Vectors = NDArray[np.float32]
Learned = NDArray[np.bool_] | None  # [vocabulary], tokens whose embeddings are trained; None: all
Encode = Callable[[tf.Tensor], tf.Tensor]  # int32 ids [batch, steps] → float32 [batch, size], unit length
Build = Callable[[int, StudentSettings, Vectors | None, Learned], keras.Model]
Serving = Callable[[keras.Model, bool], Encode]


@dataclass(frozen=True)
class Kind:
    """One architecture. Its builder names the Keras model after it."""

    summary: str
    build: Build
    serving: Serving | None = None  # (model, int8 weights?) → the same function in the form that LiteRT runs fastest
