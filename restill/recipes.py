"""What a student is made from, as one digest: the name under which training is found again."""

from restill.errors import ConfigurationError
from restill.manifests import digest_json
from restill.settings import Settings
from restill.teachers.digests import cached_sha256

RECIPE_VERSION = 4
"""Part of every training key: raise it when the same inputs would give a different student."""


def training_key(data_version: str, teacher_fingerprint: str, settings: Settings) -> str:
    """Return the digest of everything a student depends on: data, teacher, student, distillation and recipe.

    Raises: ConfigurationError if the configured word vectors cannot be read.
    """
    student = settings.student.model_dump(mode="json")
    # Which exports are made matters, in what order they are judged does not.
    student["exports"] = sorted(set(settings.student.exports))
    if settings.student.word_vectors is not None:
        student["word_vectors"] = word_vectors_digest(settings)
    return digest_json(
        {
            "recipe": RECIPE_VERSION,
            "data": data_version,
            "teacher": teacher_fingerprint,
            "student": student,
            "distillation": settings.distillation.model_dump(mode="json", exclude={"checkpoint_steps"}),
        }
    )


def word_vectors_digest(settings: Settings) -> str | None:
    """Return the digest of the configured word vectors, if any: the same name can hold other vectors tomorrow.

    Raises: ConfigurationError if the file cannot be read.
    """
    if settings.student.word_vectors is None:
        return None
    path = settings.root / settings.student.word_vectors
    try:
        return cached_sha256(path, settings.digest_cache)
    except OSError as error:
        raise ConfigurationError(
            f"The word vectors {path} cannot be read: {error.strerror}.", hint="Correct student.word_vectors."
        ) from error
