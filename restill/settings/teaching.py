"""The teacher, and who computes its scores."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from restill.settings.section import Section

TeacherKind = Literal["bi-encoder", "cross-encoder"]
Pooling = Literal["mean", "cls", "pooler", "pooler-tanh"]
Precision = Literal["float32", "bfloat16", "float16"]


class TeacherSettings(Section):
    """The frozen encoder that students are distilled from."""

    path: Path | None = Field(
        None,
        description="BERT directory: Hugging Face's files, or a TensorFlow 1 release such as SimBERT's; unset: "
        "all-MiniLM-L6-v2 from its Python package.",
    )
    kind: TeacherKind | None = Field(
        None,
        description="bi-encoder: a vector a sentence; cross-encoder: a logit a pair. Unset: what the directory says; a "
        "TensorFlow 1 release cannot, and is a bi-encoder.",
    )
    prompt: str = Field("", description="Put before every sentence, e.g. 'query: ' for E5 models.")
    pooling: Pooling | None = Field(
        None,
        description="How token vectors become one. Unset: what the directory says (SimBERT: pooler), else mean.",
    )
    max_tokens: int = Field(64, ge=8, le=512, description="Longest input in tokens; longer sentences are cut.")
    precision: Precision = Field(
        "float32",
        description="Type of the matrix products. A GPU is several times faster below float32; scores then differ in "
        "the third digit, so they are kept apart.",
    )
    batch_tokens: int = Field(4096, ge=64, description="Padded tokens per encoder batch.")
    shard_sentences: int = Field(
        1024, ge=1, description="Sentences (or pairs) per stored shard: what a killed worker loses at most."
    )


class ScoringSettings(Section):
    """Who computes the teacher's scores that are missing."""

    on: Literal["here", "pool", "dask"] = Field(
        "here",
        description="here: processes of this machine, one a device; pool: workers of a Prefect work pool; dask: "
        "workers of a Dask cluster.",
    )
    workers: int | None = Field(
        None, ge=1, description="Worker processes. Unset: here one a GPU, or one if there is none; elsewhere 2."
    )
    deployment: str = Field(
        "score-share/gpu", description="Deployment that the workers of the pool run, as flow/name; for on = pool."
    )
    dask_address: str | None = Field(
        None, description="Scheduler, e.g. tcp://host:8786; unset: a cluster of processes here. For on = dask."
    )
    allow_cpu: bool = Field(
        False, description="Let a worker of the pool score without a GPU; set on the worker. For on = pool."
    )
    stall_seconds: float = Field(
        900.0, gt=0, description="Time without a new shard after which workers elsewhere are given up and replaced."
    )
