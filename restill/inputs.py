"""What a training starts from: the student's tokenizer, the corpus in its ids, and its first token embeddings."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from restill import corpus, embeddings, students, teachers, vocabulary
from restill.corpus import Corpus
from restill.embeddings import WordVectors
from restill.embeddings.piece_cache import CachedPieces
from restill.errors import ConfigurationError
from restill.logits import LogitsStore
from restill.settings import Settings
from restill.settings.learning import EmbeddingSource
from restill.snapshots import Snapshot
from restill.students import bert
from restill.vocabulary.bert_pieces import bert_tokenizer, teacher_ids

Report = Callable[[int, int, str], None]  # done, total, what


@dataclass(frozen=True)
class Inputs:
    """Everything that is fixed before the first step."""

    corpus: Corpus
    embeddings: NDArray[np.float32] | None  # [vocabulary, embedding_size]; None: random
    predecessor: students.Predecessor | None = None  # what a `bert` student is made from


def prepare(
    snapshot: Snapshot,
    logits: LogitsStore,
    settings: Settings,
    folder: Path,
    *,
    progress: Report = lambda done, total, what: None,
) -> Inputs:
    """Make a training's inputs under `folder`, or reuse what is complete there.

    Args:
        snapshot: the data version.
        logits: the teacher's scores of it.
        settings: teacher, student and distillation.
        folder: named by everything the inputs depend on.
        progress: told what is being done.
    Raises: TrainingFailed for too little data; ConfigurationError for word vectors that cannot be used, or a schedule
        or teacher that the student cannot have; TeacherError.
    """
    is_bert = settings.student.kind == "bert"
    if is_bert:
        _require_predecessor(settings)
    elif settings.distillation.schedule == "theseus":
        raise ConfigurationError(
            f"The schedule theseus makes a shallow BERT; student.kind is {settings.student.kind}.",
            hint="Set student.kind = bert, or distillation.schedule = joint.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer_file = folder / "tokenizer.json"
    vectors: WordVectors | None = None
    if settings.student.word_vectors is not None:
        vectors = WordVectors(settings.root / settings.student.word_vectors)
    if not tokenizer_file.is_file():
        progress(0, 1, "making the student's vocabulary")
        sentences = corpus.SplitSentences(snapshot, "train")
        if is_bert:
            tokenizer = _bert_tokenizer(settings, sentences)
        else:
            tokenizer = vocabulary.TOKENS[settings.student.tokens].make(
                sentences,
                teacher=teachers.open_teacher(settings.teacher).tokenizer,
                max_size=settings.student.max_vocabulary,
                word_vectors=vectors,
                # A piece that the corpus lacks is worth having where the teacher says what it means.
                keep_unused=settings.student.embedding_source(logits.kind) in ("teacher-outputs", "teacher-inputs"),
            )
        partial = folder / ".tokenizer.partial.json"
        tokenizer.save(str(partial))
        partial.replace(tokenizer_file)
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    progress(0, 1, "reading the pairs")
    prepared = corpus.prepare(
        snapshot,
        logits,
        tokenizer,
        folder / "corpus",
        max_tokens=settings.student.max_tokens,
        mined_pairs=settings.distillation.mined_pairs,
        seed=settings.distillation.seed,
    )
    if is_bert:
        progress(0, 1, "reading the teacher's weights")
        return Inputs(prepared, None, _predecessor(settings, tokenizer))
    name = settings.student.embedding_source(logits.kind)
    first = _first_embeddings(name, settings, tokenizer, vectors, folder / "embeddings.npy", progress)
    return Inputs(prepared, first)


def _require_predecessor(settings: Settings) -> None:
    """Raise ConfigurationError if the teacher is none that a `bert` student can be made from."""
    teacher = teachers.open_teacher(settings.teacher)
    if teacher.kind != "bi-encoder":
        raise ConfigurationError(
            f"A student of kind bert is made from a bi-encoder; {teacher.name} is a {teacher.kind}.",
            hint="Choose another teacher, or another student.kind.",
        )
    bert.require_room(teacher.config, settings.student)


def _bert_tokenizer(settings: Settings, sentences: corpus.SplitSentences) -> Tokenizer:
    return bert_tokenizer(
        sentences,
        teacher=teachers.open_teacher(settings.teacher).tokenizer,
        prompt=settings.teacher.prompt,
        max_tokens=settings.student.max_tokens,
        max_size=settings.student.max_vocabulary,
    )


def _predecessor(settings: Settings, tokenizer: Tokenizer) -> students.Predecessor:
    teacher = teachers.open_teacher(settings.teacher)
    return students.Predecessor.read(
        teacher,
        teacher_ids(tokenizer, teacher.tokenizer, pad_id=teacher.pad_id),
        is_replaced=settings.distillation.schedule == "theseus",
    )


def _pieces_file(settings: Settings, teacher: teachers.Teacher) -> Path:
    return settings.state_dir / "cache" / "pieces" / f"{teacher.fingerprint}.npy"


def _first_embeddings(
    name: EmbeddingSource,
    settings: Settings,
    tokenizer: Tokenizer,
    vectors: WordVectors | None,
    file: Path,
    progress: Report,
) -> NDArray[np.float32] | None:
    """Return what the token embeddings start from; kept, because a teacher may have to read every token."""
    source = embeddings.SOURCES[name]
    if not file.is_file():
        progress(0, 1, f"token embeddings from {name}")
        teacher = teachers.load_teacher(settings.teacher) if source.needs_teacher else None
        if teacher is not None and teacher.kind == "cross-encoder" and name == "teacher-outputs":
            raise ConfigurationError(
                "student.embeddings = teacher-outputs needs a bi-encoder: a cross-encoder gives no vector of a token.",
                hint="Use teacher-inputs.",
            )
        first = source.initial(
            tokenizer,
            settings.student.embedding_size,
            seed=settings.distillation.seed,
            teacher=None if teacher is None else CachedPieces(teacher, _pieces_file(settings, teacher)),
            teacher_tokenizer=teachers.open_teacher(settings.teacher).tokenizer,
            word_vectors=vectors,
        )
        if first is None:
            return None
        partial = file.with_name(".embeddings.partial.npy")
        np.save(partial, first, allow_pickle=False)
        shutil.move(partial, file)
    first_embeddings: NDArray[np.float32] = np.load(file, allow_pickle=False)
    return first_embeddings
