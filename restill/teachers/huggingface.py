"""A Hugging Face directory: config.json, model.safetensors or several files with an index, sentence-transformers' own.

References: https://huggingface.co/docs/transformers/model_doc/bert; https://github.com/huggingface/safetensors.
"""

import contextlib
import functools
from collections.abc import Container
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from safetensors import SafetensorError, safe_open

from restill.errors import TeacherError
from restill.settings.teaching import Pooling, TeacherKind
from restill.teachers.config import BertConfig, read_config, read_json
from restill.teachers.weights import Array, StoredVariable, read_expected

_CROSS_ENCODER = "BertForSequenceClassification"
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_FLOATING = frozenset({"F16", "BF16", "F32", "F64"})
_MODULES: dict[TeacherKind, frozenset[str]] = {
    "bi-encoder": frozenset({"Transformer", "Pooling", "Normalize"}),
    "cross-encoder": frozenset({"Transformer"}),
}


class _Head(BaseModel):
    """What config.json says of the layers after the encoder."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    architectures: list[str] | None = None
    num_labels: int | None = Field(None, ge=1)
    id2label: dict[str, str] | None = None


class _Index(BaseModel):
    """Which file of a model holds which variable."""

    weight_map: dict[str, str] = Field(min_length=1)


class _Module(BaseModel):
    type: str
    path: str = ""


class _PoolingConfig(BaseModel):
    """sentence-transformers writes one flag a mode, or the mode's name in newer versions."""

    pooling_mode: str | list[str] | None = None
    pooling_mode_cls_token: bool = False
    pooling_mode_mean_tokens: bool = False
    pooling_mode_max_tokens: bool = False
    pooling_mode_mean_sqrt_len_tokens: bool = False
    pooling_mode_weightedmean_tokens: bool = False
    pooling_mode_lasttoken: bool = False
    include_prompt: bool = True


def open_config(directory: Path) -> BertConfig:
    """Read config.json.

    Raises: TeacherError if it describes a model that is not computed here.
    """
    path = directory / "config.json"
    stated = read_json(path, TypeAdapter(dict[str, object])).get("model_type")
    if stated != "bert":
        raise TeacherError(
            f"{path} describes a model of type {stated!r}; only 'bert' can be a teacher.",
            hint="Use a BERT-family model whose config.json says model_type bert.",
        )
    config = read_config(path)
    if config.embedding_width != config.hidden_size:
        raise TeacherError(
            f"{path} says embedding_size {config.embedding_size} beside hidden_size {config.hidden_size}, but "
            "Hugging Face's BERT has no factorised embeddings.",
            hint="Use the model's TensorFlow 1 release, or choose another teacher.",
        )
    return config


def stated_kind(directory: Path) -> TeacherKind:
    """Return the kind that config.json's architectures tell."""
    architectures = _read_head(directory).architectures or []
    return "cross-encoder" if _CROSS_ENCODER in architectures else "bi-encoder"


def stated_labels(directory: Path) -> int:
    """Return how many logits the classifier has, 1 or 2; Hugging Face's default is 2.

    Raises: TeacherError if there are more: they are not the logits of a pair being a duplicate or not.
    """
    head = _read_head(directory)
    labels = head.num_labels or len(head.id2label or {}) or 2
    if labels > 2:
        raise TeacherError(
            f"{directory / 'config.json'} describes a classifier of {labels} labels; a cross-encoder teacher has 1 "
            "or 2.",
            hint="Use a model that was trained to tell duplicates from other pairs.",
        )
    return labels


def stated_pooling(directory: Path, *, prompted: bool) -> Pooling:
    """Return the pooling that sentence-transformers' module asks for (1_Pooling/config.json), mean if there is none.

    Args:
        directory: of the model.
        prompted: whether a prompt is put before each sentence.

    Raises: TeacherError if it asks for what is not computed here.
    """
    path = directory / _pooling_folder(directory) / "config.json"
    if not path.is_file():
        return "mean"
    stated = read_json(path, TypeAdapter(_PoolingConfig))
    if prompted and not stated.include_prompt:
        raise TeacherError(
            f"{path} leaves the prompt's tokens out of the pooling, which is not computed here.",
            hint="Unset teacher.prompt, or set teacher.pooling if pooling them too is acceptable.",
        )
    names = [stated.pooling_mode] if isinstance(stated.pooling_mode, str) else stated.pooling_mode or []
    flags = stated.model_dump(exclude={"pooling_mode", "include_prompt"})
    modes = {*names, *(name for name, on in flags.items() if on)}
    if modes and modes <= {"mean", "pooling_mode_mean_tokens"}:
        return "mean"
    if modes and modes <= {"cls", "pooling_mode_cls_token"}:
        return "cls"
    raise TeacherError(
        f"{path} asks for {', '.join(sorted(modes)) or 'no pooling'}; only mean and cls are read from there.",
        hint="Set teacher.pooling if one of them is acceptable, or choose another teacher.",
    )


def require_known_modules(directory: Path, kind: TeacherKind) -> None:
    """Refuse what modules.json puts after the encoder and is not computed here.

    Raises: TeacherError naming those modules.
    """
    path = directory / "modules.json"
    if not path.is_file():
        return
    types = [_type(module) for module in read_json(path, TypeAdapter(list[_Module]))]
    if unknown := sorted(set(types) - _MODULES[kind]):
        raise TeacherError(
            f"{path} asks for {', '.join(unknown)} after the encoder, which is not computed here for a {kind}.",
            hint=f"Only {', '.join(sorted(_MODULES[kind]))} are; choose another teacher.",
        )


def _pooling_folder(directory: Path) -> str:
    """Return the folder of the pooling module, as modules.json names it."""
    path = directory / "modules.json"
    modules = read_json(path, TypeAdapter(list[_Module])) if path.is_file() else []
    named = next((module.path for module in modules if _type(module) == "Pooling"), "") or "1_Pooling"
    if Path(named).name != named:
        raise TeacherError(f"{path} names {named!r}, no folder beside it.", hint="Fetch the model again.")
    return named


def _type(module: _Module) -> str:
    return module.type.rsplit(".", 1)[-1]


def find_weights(directory: Path) -> tuple[Path, ...]:
    """Return model.safetensors; of a model in several files model.safetensors.index.json, then those that it names.

    Raises: TeacherError if it is not there; a pickle is not read, because reading it can run any code.
    """
    path, index = directory / _WEIGHTS, directory / _INDEX
    if path.is_file():
        return (path,)
    if index.is_file():
        names = sorted(set(read_json(index, TypeAdapter(_Index)).weight_map.values()))
        if strange := [name for name in names if Path(name).name != name]:
            raise TeacherError(f"{index} names {strange[0]!r}, no file beside it.", hint="Fetch the model again.")
        there = {path.name for path in directory.iterdir()}
        if missing := [name for name in names if name not in there]:
            raise TeacherError(
                f"{directory} lacks {len(missing)} of the {len(names)} files that {_INDEX} names: "
                f"{', '.join(missing[:5])}.",
                hint="Fetch the model again, all of its files.",
            )
        return (index, *(directory / name for name in names))
    pickled = next((path.name for path in sorted(directory.glob("*.bin"))), None)
    found = f" It holds {pickled}, a pickle, which could run any code when read." if pickled else ""
    raise TeacherError(
        f"{directory} holds no {_WEIGHTS}.{found}",
        hint="Fetch the model in safetensors form, or convert it where you trust the pickle.",
    )


def read_weights(paths: tuple[Path, ...], expected: dict[str, tuple[int, ...]]) -> dict[str, Array]:
    """Read variables of safetensors files as float32 arrays by our names.

    Accepts float16, bfloat16, float32 and float64, names with or without `bert.`, and the older names gamma
    and beta of normalisation layers. Variables that are not expected are not read.

    Args:
        paths: as `find_weights` gives them.
        expected: shapes by our names.

    Raises: TeacherError if a file is damaged, or variables are missing or of another shape or type.
    """
    stored: dict[str, StoredVariable] = {}
    with contextlib.ExitStack() as opened:
        for path in paths if len(paths) == 1 else paths[1:]:
            try:
                found = _stored_variables(path, opened.enter_context(safe_open(path, "np")), expected)
            except (SafetensorError, OSError) as error:
                raise TeacherError(
                    f"{path} is not a readable safetensors file: {error}.", hint="Fetch the file again."
                ) from error
            if twice := sorted(stored.keys() & found.keys()):
                raise TeacherError(
                    f"{path} holds {twice[0]}, which another file of the model holds too.",
                    hint="Fetch the model again, all of its files.",
                )
            stored |= found
        try:
            return read_expected(stored, expected, source=str(paths[0]))
        except (SafetensorError, OSError) as error:
            raise TeacherError(
                f"The files of {paths[0]} cannot be read: {error}.", hint="Fetch the model again."
            ) from error


def _stored_variables(path: Path, file: Any, expected: Container[str]) -> dict[str, StoredVariable]:
    """Return what is expected of an open safetensors file, by our names, not yet read."""
    stored: dict[str, StoredVariable] = {}
    for stored_name in file.keys():  # noqa: SIM118 - not a mapping, it cannot be iterated
        name = stored_name.removeprefix("bert.").replace(".gamma", ".weight").replace(".beta", ".bias")
        if name not in expected:
            continue
        if name in stored:
            raise TeacherError(
                f"{path} holds {name} twice, as {stored[name].stored_name} and {stored_name}.",
                hint="Fetch the file again.",
            )
        view = file.get_slice(stored_name)
        stored[name] = StoredVariable(
            stored_name=stored_name,
            shape=tuple(view.get_shape()),
            dtype=view.get_dtype(),
            is_floating=view.get_dtype() in _FLOATING,
            read=functools.partial(file.get_tensor, stored_name),
        )
    return stored


def _read_head(directory: Path) -> _Head:
    return read_json(directory / "config.json", TypeAdapter(_Head))
