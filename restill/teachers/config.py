"""The sizes of a BERT encoder, as a checkpoint's config file states them."""

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from restill.errors import TeacherError

_Parsed = TypeVar("_Parsed")


class BertConfig(BaseModel):
    """The part of a config file that decides what the encoder computes; upper bounds catch damaged files early."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model_type: Literal["bert"] = "bert"
    hidden_act: Literal["gelu"] = "gelu"
    position_embedding_type: Literal["absolute"] = "absolute"
    is_decoder: Literal[False] = False
    vocab_size: int = Field(ge=1, le=5_000_000)
    hidden_size: int = Field(ge=1, le=32_768)
    embedding_size: int | None = Field(None, ge=1, le=32_768)
    num_hidden_layers: int = Field(ge=1, le=256)
    num_attention_heads: int = Field(ge=1, le=1024)
    intermediate_size: int = Field(ge=1, le=262_144)
    max_position_embeddings: int = Field(ge=1, le=1_000_000)
    type_vocab_size: int = Field(2, ge=1, le=1024)
    layer_norm_eps: float = Field(1e-12, gt=0, le=0.1)
    pad_token_id: int | None = Field(None, ge=0)

    @property
    def embedding_width(self) -> int:
        """Return the width of the word embeddings: below `hidden_size` where they are factorised."""
        return self.embedding_size or self.hidden_size


def read_json(path: Path, adapter: TypeAdapter[_Parsed]) -> _Parsed:
    """Read and check a JSON file of a checkpoint.

    Raises: TeacherError naming the file and every fault.
    """
    try:
        return adapter.validate_json(path.read_bytes())
    except OSError as error:
        raise TeacherError(
            f"{path} cannot be read: {error.strerror}.",
            hint="Is it the directory of a Hugging Face model or of a TensorFlow 1 release of BERT?",
        ) from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}" for item in error.errors())
        raise TeacherError(
            f"{path} is not what a BERT teacher needs: {faults}.", hint="Fetch the file again."
        ) from error


def read_config(path: Path) -> BertConfig:
    """Read the sizes of the encoder.

    Raises: TeacherError if they are missing, absurd or do not fit each other.
    """
    config = read_json(path, TypeAdapter(BertConfig))
    if config.hidden_size % config.num_attention_heads:
        raise TeacherError(
            f"{path}: hidden_size {config.hidden_size} is no multiple of num_attention_heads "
            f"{config.num_attention_heads}.",
            hint="Fetch the file again.",
        )
    if config.pad_token_id is not None and config.pad_token_id >= config.vocab_size:
        raise TeacherError(
            f"{path}: pad_token_id {config.pad_token_id} is outside the vocabulary of {config.vocab_size} tokens.",
            hint="Fetch the file again.",
        )
    return config
