"""Magnitude pruning: the smallest weights are set to zero, more and more of them while training goes on.

Zhu and Gupta 2017, https://arxiv.org/abs/1710.01878. The files that are served stay dense: what is gained is size
in a compressed store or transfer, and nothing in time.
"""

import keras
import numpy as np
import tensorflow as tf

from restill.students.tokens import Tokens


class Pruner:
    """Masks over the kernels and embedding tables of a model; vectors, such as biases, are left alone.

    for step in range(steps):
        pruner.update(step / steps)  # now and then
        ...  # an optimiser step
        pruner.apply()
    """

    def __init__(self, model: keras.Model, sparsity: float) -> None:
        """Start with nothing pruned.

        Args:
            model: a built model.
            sparsity: share of each kernel and table that is zero in the end, in (0, 1).
        Raises: ValueError if `sparsity` is not in (0, 1).
        """
        if not 0 < sparsity < 1:
            raise ValueError(f"The share of weights to prune must lie in (0, 1). Received: {sparsity}.")
        self.sparsity = sparsity
        self._weights = [weight for weight in model.trainable_variables if len(weight.shape) > 1]
        # Rows that are not learned are exported all the same, and are most of a table.
        self._weights += [
            layer.others for layer in model.layers if isinstance(layer, Tokens) and layer.others is not None
        ]
        self._masks = [tf.Variable(tf.ones(weight.shape, tf.bool), trainable=False) for weight in self._weights]

    def update(self, step_share: float) -> float:
        """Choose the weights to prune at this share of training, in [0, 1], and return the sparsity aimed at.

        The sparsity rises as s·(1 - (1 - share)³): fast while there is training left to make up for it. What is
        zero by then is among the smallest, so a pruned weight stays pruned. Call `apply` to set them to zero.
        """
        share = min(max(step_share, 0.0), 1.0)
        sparsity = self.sparsity * (1.0 - (1.0 - share) ** 3)
        for weight, mask in zip(self._weights, self._masks, strict=True):
            sizes = np.abs(weight.numpy()).ravel()
            pruned = round(sparsity * sizes.size)
            kept = np.ones(sizes.size, bool)
            if pruned:
                kept[np.argpartition(sizes, pruned - 1)[:pruned]] = False
            mask.assign(kept.reshape(weight.shape))
        return sparsity

    def apply(self) -> None:
        """Set the pruned weights to zero; after each optimiser step, which moves them. Works in a tf.function too."""
        for weight, mask in zip(self._weights, self._masks, strict=True):
            value = tf.convert_to_tensor(weight)
            weight.assign(tf.where(mask, value, tf.zeros_like(value)))
