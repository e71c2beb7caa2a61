"""The student, and how it learns."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from restill.settings.section import Section
from restill.settings.teaching import TeacherKind

StudentKind = Literal["siamese-lstm", "dssm", "cnn", "static", "bert"]
TokenKind = Literal["teacher", "char", "word"]
EmbeddingSource = Literal["random", "word-vectors", "teacher-inputs", "teacher-outputs"]
HardLoss = Literal["bce", "contrastive", "contrastive-published"]
SoftLoss = Literal["kd", "mse", "listwise", "embedding", "similarity-matrix"]
Schedule = Literal["joint", "pseudo-label", "labels", "theseus"]
Export = Literal["litert", "litert_int8", "litert_pruned", "litert_pruned_int8"]


class StudentSettings(Section):
    """The small two-tower model that will be served."""

    kind: StudentKind = Field("static", description="Architecture: restill list students.")
    tokens: TokenKind = Field(
        "teacher", description="What a sentence is cut into: restill list tokens. bert has its teacher's own."
    )
    max_vocabulary: int = Field(
        50_000, ge=3, description="Most entries of the vocabulary; the rarest pieces beyond are unknown."
    )
    embeddings: EmbeddingSource | None = Field(
        None,
        description="What token embeddings start from: restill list embeddings. Unset: teacher-outputs with a "
        "bi-encoder, teacher-inputs with a cross-encoder.",
    )
    word_vectors: Path | None = Field(
        None,
        description="Word vectors in word2vec's text format, .gz too; for tokens = word or embeddings = word-vectors.",
    )
    embedding_size: int = Field(256, ge=4, description="Width of the token embeddings.")
    hidden_size: int = Field(96, ge=4, description="LSTM units per direction; CNN filters per window; DSSM's width.")
    layers: int = Field(3, ge=1, le=12, description="Layers of dssm and bert.")
    max_tokens: int = Field(32, ge=4, le=512, description="Longest input in tokens; longer sentences are cut.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Share of embedding values dropped in training.")
    exports: tuple[Export, ...] = Field(
        ("litert_int8", "litert"),
        min_length=1,
        description="Exports that are candidates, the preferred first: the first that passes every gate is promoted.",
    )

    def embedding_source(self, teacher: TeacherKind) -> EmbeddingSource:
        """Return what token embeddings start from with this kind of teacher."""
        return self.embeddings or ("teacher-outputs" if teacher == "bi-encoder" else "teacher-inputs")

    @model_validator(mode="after")
    def _vectors_named(self) -> Self:
        if self.embeddings == "word-vectors" and self.word_vectors is None:
            raise ValueError("embeddings = word-vectors needs word_vectors, a file in word2vec's text format")
        return self


class DistillationSettings(Section):
    """How the student learns from the teacher's scores and the human labels."""

    schedule: Schedule = Field("joint", description="In what order: restill list schedules.")
    alpha: float = Field(0.3, ge=0, le=1, description="Weight of the soft loss; labels get 1 - alpha.")
    temperature: float = Field(2.0, gt=0, description="Softens teacher and student alike.")
    hard_loss: HardLoss = Field("bce", description="Loss against the labels: restill list losses.")
    soft_losses: dict[SoftLoss, float] | None = Field(
        None,
        description="Losses against the teacher, each with its weight in their sum: restill list losses. Unset: "
        "embedding 1 and similarity-matrix 5 with a bi-encoder, kd 1 with a cross-encoder.",
    )
    margin: float = Field(0.0, ge=-1, lt=1, description="Cosine up to which a negative costs nothing (contrastive).")
    mined_pairs: int = Field(
        0,
        ge=0,
        le=16,
        description="Unlabelled pairs made for each training sentence: with the sentences most like it to the teacher.",
    )
    learning_rate: float | None = Field(
        None, gt=0, description="Adam's largest step size. Unset: 0.002, and 0.0002 for a bert student."
    )
    batch_pairs: int = Field(128, ge=2, description="Pairs per step.")
    epochs: int = Field(8, ge=1, description="Most passes over the training split.")
    patience: int = Field(2, ge=1, description="Epochs without a better validation score before training stops.")
    pruning: float = Field(0.5, gt=0, lt=1, description="Share of weights set to zero in a pruned export.")
    checkpoint_steps: int = Field(
        2000, ge=1, description="Steps after which an epoch's state is kept, besides at its end."
    )
    seed: int = Field(7, ge=0, description="Seed of initial weights, order and dropout.")
    deterministic: bool = Field(False, description="Slower; the same inputs give the same bytes on one machine type.")

    @model_validator(mode="after")
    def _some_soft_loss(self) -> Self:
        losses = self.soft_losses
        if losses is not None and (not losses or any(weight <= 0 for weight in losses.values())):
            raise ValueError("soft_losses names at least one loss, each with a weight above 0")
        return self

    def rate(self, student: StudentKind) -> float:
        """Return the largest step size for this kind of student."""
        return self.learning_rate or (2e-4 if student == "bert" else 2e-3)

    def soft_weights(self, teacher: TeacherKind) -> dict[str, float]:
        """Return the weights of the losses against this kind of teacher."""
        if self.soft_losses is None:
            return {"embedding": 1.0, "similarity-matrix": 5.0} if teacher == "bi-encoder" else {"kd": 1.0}
        return {str(name): weight for name, weight in self.soft_losses.items()}
