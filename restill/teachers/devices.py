"""What a worker computes with."""

from restill.errors import ConfigurationError


def require_gpu() -> None:
    """Refuse to go on if TensorFlow sees no GPU: a worker that was meant to have one would be slow and say nothing.

    Raises: ConfigurationError naming the setting that allows it.
    """
    import tensorflow as tf  # late: slow to import

    if not tf.config.list_physical_devices("GPU"):
        raise ConfigurationError(
            "TensorFlow sees no GPU on this worker of the pool.",
            hint="See nvidia-smi, CUDA_VISIBLE_DEVICES and that tensorflow[and-cuda] is installed; or let the worker "
            "score on its CPU: RESTILL_SCORING__ALLOW_CPU=true, or scoring.allow_cpu in its restill.toml.",
        )
