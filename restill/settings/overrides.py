"""What a person changes from run to run, without touching restill.toml: a form in Prefect's UI.

Each field is one setting, with that setting's meaning and limits; what is left out stays as configured.
"""

from typing import Any, TypeVar

from pydantic import Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from restill.errors import ConfigurationError
from restill.settings import Settings
from restill.settings.learning import (
    DistillationSettings,
    EmbeddingSource,
    Export,
    HardLoss,
    Schedule,
    StudentKind,
    StudentSettings,
    TokenKind,
)
from restill.settings.section import Section

S = TypeVar("S", bound=Section)

_LIMITS = ("gt", "ge", "lt", "le", "min_length", "max_length")


def _no_default(schema: dict[str, Any]) -> None:
    """Take `default: null` out of what the form is made from: it must not fill in what no drop-down offers."""
    schema.pop("default", None)


def _of(setting: FieldInfo, title: str) -> Any:
    """Return a field that may be left out, with the meaning and the limits of a setting."""
    limits = {name: getattr(rule, name) for rule in setting.metadata for name in _LIMITS if hasattr(rule, name)}
    return Field(
        None,
        title=title,
        description=f"{setting.description} Left out: as configured.",
        json_schema_extra=_no_default,
        **limits,
    )


_STUDENT = StudentSettings.model_fields
_DISTILLATION = DistillationSettings.model_fields


class Overrides(Section):
    """Settings of this run only. The next one goes by the configuration again."""

    # None of them has a value unless it was given (`model_fields_set`). As a type, `int | None` would be truer, but the
    # form then asks which of the two it is to be, and shows no limits.
    student_kind: StudentKind = _of(_STUDENT["kind"], "Student")
    tokens: TokenKind = _of(_STUDENT["tokens"], "Tokens")
    embeddings: EmbeddingSource = _of(_STUDENT["embeddings"], "Embeddings")
    embedding_size: int = _of(_STUDENT["embedding_size"], "Embedding size")
    hidden_size: int = _of(_STUDENT["hidden_size"], "Hidden size")
    layers: int = _of(_STUDENT["layers"], "Layers")
    max_tokens: int = _of(_STUDENT["max_tokens"], "Longest input")
    dropout: float = _of(_STUDENT["dropout"], "Dropout")
    exports: tuple[Export, ...] = _of(_STUDENT["exports"], "Exports")
    schedule: Schedule = _of(_DISTILLATION["schedule"], "Schedule")
    alpha: float = _of(_DISTILLATION["alpha"], "Alpha")
    temperature: float = _of(_DISTILLATION["temperature"], "Temperature")
    hard_loss: HardLoss = _of(_DISTILLATION["hard_loss"], "Hard loss")
    learning_rate: float = _of(_DISTILLATION["learning_rate"], "Learning rate")
    batch_pairs: int = _of(_DISTILLATION["batch_pairs"], "Batch")
    epochs: int = _of(_DISTILLATION["epochs"], "Epochs")
    patience: int = _of(_DISTILLATION["patience"], "Patience")
    mined_pairs: int = _of(_DISTILLATION["mined_pairs"], "Mined pairs")
    seed: int = _of(_DISTILLATION["seed"], "Seed")

    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, given: Any) -> Any:
        return {name: value for name, value in given.items() if value is not None} if isinstance(given, dict) else given

    def apply(self, settings: Settings) -> Settings:
        """Return the settings with what was filled in; they are checked together, as the configuration is.

        Raises: ConfigurationError if the values do not go together.
        """
        given = {name: getattr(self, name) for name in self.model_fields_set}
        student = {"kind" if name == "student_kind" else name: value for name, value in given.items()}
        try:
            return settings.model_copy(
                update={
                    "student": _with(settings.student, {k: v for k, v in student.items() if k in _STUDENT}),
                    "distillation": _with(
                        settings.distillation, {k: v for k, v in given.items() if k in _DISTILLATION}
                    ),
                }
            )
        except ValidationError as error:
            said = "; ".join(item["msg"].removeprefix("Value error, ") for item in error.errors())
            raise ConfigurationError(
                f"The overrides do not go together with the configuration: {said}.",
                hint="Change the overrides, or restill.toml.",
            ) from error


def _with(section: S, changes: dict[str, Any]) -> S:
    return type(section).model_validate({**dict(section), **changes})
