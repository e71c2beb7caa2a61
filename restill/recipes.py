"""What a student is made from, as one digest: the name under which training is found again."""

from restill.manifests import digest_json
from restill.settings import Settings

RECIPE_VERSION = 1
"""Part of every training key: raise it when the same inputs would give a different student."""


def training_key(data_version: str, teacher_fingerprint: str, settings: Settings) -> str:
    """Return the digest of everything a student depends on: data, teacher, student, distillation and recipe."""
    return digest_json(
        {
            "recipe": RECIPE_VERSION,
            "data": data_version,
            "teacher": teacher_fingerprint,
            "student": settings.student.model_dump(mode="json"),
            "distillation": settings.distillation.model_dump(mode="json"),
        }
    )
