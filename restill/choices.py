"""Everything that can be chosen by name, with a line on each."""

from restill import embeddings, losses, students, training, vocabulary

_EXPORTS = {
    "litert": "float32 weights",
    "litert_int8": "weights in 8 bits, a quarter of the size",
    "litert_pruned": "float32, the smallest weights set to zero (distillation.pruning): compresses better",
    "litert_pruned_int8": "pruned, then weights in 8 bits",
}
_TEACHERS = {
    "bi-encoder": "a vector a sentence: SimBERT, MiniLM, BGE, E5; every distinct sentence is read once",
    "cross-encoder": "a logit a pair, both sentences read together: a BERT fine-tuned on pairs; every pair is read",
}


def choices(what: str) -> tuple[str, dict[str, str]]:
    """Return the setting that chooses, and each choice with its summary.

    Args:
        what: students, tokens, embeddings, losses, schedules, exports or teachers.
    Raises: KeyError for anything else.
    """
    hard = {name: f"labels: {loss.summary}" for name, loss in losses.HARD.items()}
    soft = {name: f"teacher: {loss.summary}" for name, loss in losses.SOFT.items()}
    listed: dict[str, tuple[str, dict[str, str]]] = {
        "students": ("student.kind", {name: kind.summary for name, kind in students.KINDS.items()}),
        "tokens": ("student.tokens", {name: kind.summary for name, kind in vocabulary.TOKENS.items()}),
        "embeddings": ("student.embeddings", {name: source.summary for name, source in embeddings.SOURCES.items()}),
        "losses": ("distillation.hard_loss, distillation.soft_losses", hard | soft),
        "schedules": ("distillation.schedule", {name: plan.summary for name, plan in training.SCHEDULES.items()}),
        "exports": ("student.exports", _EXPORTS),
        "teachers": ("teacher.kind", _TEACHERS),
    }
    return listed[what]
