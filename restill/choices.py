"""Everything that can be chosen by name, with a line on each.

Imports are late: most kinds need TensorFlow, which takes seconds, and the others do not.
"""

from collections.abc import Callable

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
    listed: dict[str, tuple[str, Callable[[], dict[str, str]]]] = {
        "students": ("student.kind", _students),
        "tokens": ("student.tokens", _tokens),
        "embeddings": ("student.embeddings", _embeddings),
        "losses": ("distillation.hard_loss, distillation.soft_losses", _losses),
        "schedules": ("distillation.schedule", _schedules),
        "exports": ("student.exports", _EXPORTS.copy),
        "teachers": ("teacher.kind", _TEACHERS.copy),
    }
    setting, found = listed[what]
    return setting, found()


def _students() -> dict[str, str]:
    from restill.students import KINDS

    return {name: kind.summary for name, kind in KINDS.items()}


def _tokens() -> dict[str, str]:
    from restill.vocabulary import TOKENS

    return {name: kind.summary for name, kind in TOKENS.items()}


def _embeddings() -> dict[str, str]:
    from restill.embeddings import SOURCES

    return {name: source.summary for name, source in SOURCES.items()}


def _losses() -> dict[str, str]:
    from restill.losses import HARD, SOFT

    hard = {name: f"labels: {loss.summary}" for name, loss in HARD.items()}
    return hard | {name: f"teacher: {loss.summary}" for name, loss in SOFT.items()}


def _schedules() -> dict[str, str]:
    from restill.training import SCHEDULES

    return {name: plan.summary for name, plan in SCHEDULES.items()}
