"""The format of the original BERT release, in which SimBERT is published: bert_config.json, vocab.txt, *.ckpt.*.

SimBERT's smaller sizes factorise the word embeddings: a dense layer widens them after their normalisation.

References: https://github.com/google-research/bert; https://github.com/ZhuiyiTechnology/simbert.
"""

import re
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from restill.errors import TeacherError
from restill.teachers.config import BertConfig, read_config
from restill.teachers.weights import CLASSIFIER, Array, StoredVariable, read_expected

LABELS = 2  # of a classifier: run_classifier.py makes one logit a class, and a pair is a duplicate or not

_CONFIG = "bert_config.json"
_CLASSIFIER = {f"{CLASSIFIER}.weight": "output_weights", f"{CLASSIFIER}.bias": "output_bias"}
_NAMED_CHECKPOINT = re.compile(r'^model_checkpoint_path:\s*"(.+)"', re.MULTILINE)
_DATA = re.compile(r"\.data-(\d{5})-of-(\d{5})$")


def is_release(directory: Path) -> bool:
    """Return whether the directory is to be read in this format; safetensors beside it are preferred."""
    return (directory / _CONFIG).is_file() and not any(directory.glob("model.safetensors*"))


def open_config(directory: Path) -> BertConfig:
    """Read bert_config.json.

    Raises: TeacherError if it is damaged or describes a model that is not computed here.
    """
    return read_config(directory / _CONFIG)


def find_weights(directory: Path) -> tuple[Path, ...]:
    """Return the files of the checkpoint: the index, then every data file in order.

    The index is the one that the file `checkpoint` names, else the only `*.ckpt.index`.

    Raises: TeacherError if there is none, more than one, or data files are missing.
    """
    index = _find_index(directory)
    prefix = index.name.removesuffix(".index")
    found: dict[int, dict[int, Path]] = {}
    for path in directory.iterdir():
        match = _DATA.fullmatch(path.name.removeprefix(prefix)) if path.name.startswith(prefix) else None
        if match:
            found.setdefault(int(match[2]), {})[int(match[1])] = path
    if len(found) != 1:
        raise TeacherError(
            f"{directory} holds {index.name}, but "
            + (f"data files of {len(found)} checkpoints named {prefix}." if found else f"no {prefix}.data-* file."),
            hint="Fetch all files of the checkpoint again: the index and every data file.",
        )
    [(count, parts)] = found.items()
    if missing := [number for number in range(count) if number not in parts]:
        names = ", ".join(f"{prefix}.data-{number:05d}-of-{count:05d}" for number in missing[:5])
        raise TeacherError(
            f"{directory} lacks {len(missing)} of the {count} data files of {index.name}: {names}.",
            hint="Fetch all files of the checkpoint again: the index and every data file.",
        )
    return (index, *(parts[number] for number in range(count)))


def stored_name(name: str) -> str:
    """Return the checkpoint's name of a variable that we call `name`."""
    if name in _CLASSIFIER:  # what fine-tuning adds stands outside of the encoder, [labels, hidden]: not transposed
        return _CLASSIFIER[name]
    part, leaf = name.rsplit(".", 1)
    path = "bert/" + re.sub(r"layer\.(\d+)", r"layer_\1", part).replace(".", "/")
    if part.startswith("embeddings.") and part.endswith("_embeddings"):
        return path
    renamed = {"weight": "gamma", "bias": "beta"} if part.endswith("LayerNorm") else {"weight": "kernel"}
    return f"{path}/{renamed.get(leaf, leaf)}"


def read_weights(
    index: Path, expected: dict[str, tuple[int, ...]], *, refuse_classifier: bool = False
) -> dict[str, Array]:
    """Read variables of a checkpoint as float32 arrays by our names; imports TensorFlow.

    Kernels are stored `[in, out]` and are transposed. What training left in the checkpoint besides (optimizer
    slots, the language model's head, the step) is not read.

    Args:
        index: as `find_weights` gives it first.
        expected: shapes by our names.
        refuse_classifier: whether a classifier that would not be read is an error; nothing else in this format tells a
            cross-encoder.

    Raises: TeacherError if the files are damaged, or variables are missing or of another shape or type.
    """
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(str(index).removesuffix(".index"))
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        unread = [name for name in _CLASSIFIER.values() if name in shapes and f"{CLASSIFIER}.weight" not in expected]
        if refuse_classifier and unread:
            raise TeacherError(
                f"{index} holds a classifier of pairs ({', '.join(unread)}), and teacher.kind is not set.",
                hint="Set teacher.kind = cross-encoder, or bi-encoder to leave the classifier aside.",
            )

        def variable(named: str) -> StoredVariable:
            is_kernel = named.endswith("/kernel")

            def read() -> npt.NDArray[np.generic]:
                value: npt.NDArray[np.generic] = reader.get_tensor(named)
                return value.T if is_kernel else value

            shape = tuple(shapes[named])
            return StoredVariable(
                stored_name=f"{named}, transposed," if is_kernel else named,
                shape=shape[::-1] if is_kernel else shape,
                dtype=dtypes[named].name,
                is_floating=bool(dtypes[named].is_floating),
                read=read,
            )

        stored = {name: variable(stored_name(name)) for name in expected if stored_name(name) in shapes}
        return read_expected(stored, expected, source=str(index), stored_name=stored_name)
    except (tf.errors.OpError, ValueError, IndexError) as error:  # the latter two: no checkpoint at all, cut short
        raise TeacherError(
            f"{index} and its data files are not a readable checkpoint: {str(error).splitlines()[0]}.",
            hint="Fetch all files of the checkpoint again: the index and every data file.",
        ) from error


def _find_index(directory: Path) -> Path:
    indexes = sorted(directory.glob("*.ckpt.index"))
    named = directory / "checkpoint"
    if named.is_file():
        match = _NAMED_CHECKPOINT.search(named.read_text(encoding="utf-8", errors="replace"))
        # Releases keep the path of the machine that trained them; only the name is of use here.
        index = directory / f"{PurePosixPath(match[1].replace(chr(92), '/')).name}.index" if match else None
        if index is not None and index.is_file():
            return index
    if len(indexes) == 1:
        return indexes[0]
    if not indexes:
        raise TeacherError(
            f"{directory} holds {_CONFIG}, but no *.ckpt.index.",
            hint="Fetch the release again: bert_config.json, vocab.txt, bert_model.ckpt.index and its data files.",
        )
    raise TeacherError(
        f"{directory} holds several checkpoints: {', '.join(path.name for path in indexes[:5])}.",
        hint="Keep one, or name it in a file `checkpoint` (model_checkpoint_path).",
    )
