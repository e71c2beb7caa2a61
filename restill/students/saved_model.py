"""The SavedModel of a student: `serving_default` (ids_a, ids_b → similarity) and `embed` (ids → embedding).

Unlike a LiteRT file, it is not the same bytes each time: TensorFlow writes names and ids of the process into it.
"""

from pathlib import Path

import keras
import tensorflow as tf


def write(encoder: keras.Model, folder: Path) -> None:
    """Write the SavedModel of an encoder to `folder`."""

    def embed(ids: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"embedding": encoder(ids, training=False)}

    def similarity(ids_a: tf.Tensor, ids_b: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"similarity": tf.reduce_sum(encoder(ids_a, training=False) * encoder(ids_b, training=False), axis=-1)}

    def ids(name: str) -> tf.TensorSpec:
        return tf.TensorSpec([None, None], tf.int32, name=name)

    archive = keras.export.ExportArchive()
    archive.track(encoder)
    archive.add_endpoint("serving_default", similarity, [ids("ids_a"), ids("ids_b")])
    archive.add_endpoint("embed", embed, [ids("ids")])
    archive.write_out(str(folder), verbose=False)
