"""Students of every architecture against each other: time a pair, and file size. Their weights are random.

    python benchmarks/students.py [pairs.csv[.gz]] [role ...]

Without a file, the sample's pairs give the lengths. One thread, single pairs, tokenising included, all students in
turn in one process; so machine load hits all of them alike. Roles are those of the exports; default: litert and
litert_int8.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import csv
import gc
import gzip
import json
import random
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from restill import students
from restill.manifests import Calibration
from restill.sample import write_drop
from restill.serving import CARD, CARD_FORMAT, PairModel, tokenize
from restill.settings import StudentSettings
from restill.students.exports import FILES

VOCABULARY = 20_000
MAX_TOKENS = 32
PAIRS = 300
ROUNDS = 5
STUDENTS = {
    "siamese-lstm 256/128": StudentSettings(kind="siamese-lstm", embedding_size=256, hidden_size=128),
    "siamese-lstm 256/96": StudentSettings(kind="siamese-lstm", embedding_size=256, hidden_size=96),
    "siamese-lstm 96/96": StudentSettings(kind="siamese-lstm", embedding_size=96, hidden_size=96),
    "siamese-lstm 64/64": StudentSettings(kind="siamese-lstm", embedding_size=64, hidden_size=64),
    "cnn 128/256": StudentSettings(kind="cnn", embedding_size=128, hidden_size=256),
    "cnn 96/96": StudentSettings(kind="cnn", embedding_size=96, hidden_size=96),
    "dssm 128/256, 3 layers": StudentSettings(kind="dssm", embedding_size=128, hidden_size=256),
    "dssm 96/96, 3 layers": StudentSettings(kind="dssm", embedding_size=96, hidden_size=96),
    "static 256": StudentSettings(kind="static", embedding_size=256),
}


def main() -> None:
    """Print one table."""
    given = sys.argv[1:]
    path = Path(given.pop(0)) if given and given[0] not in FILES else None
    roles = given or ["litert", "litert_int8"]
    with tempfile.TemporaryDirectory() as folder:
        pairs = read_pairs(path or write_sample(Path(folder)))
        tokenizer = train_tokenizer(pairs)
        chosen = random.Random(0).sample(pairs, min(PAIRS, len(pairs)))
        arms = {}
        for name, settings in STUDENTS.items():
            target = Path(folder) / name.replace("/", "-")
            write_student(settings, tokenizer, chosen, target, roles)
            arms |= {(name, role): PairModel(target, file=FILES[role]) for role in roles}
        sizes = {
            (name, role): (Path(folder) / name.replace("/", "-") / FILES[role]).stat().st_size for name, role in arms
        }
        timings = time_in_turn(arms, chosen)
    lengths = [len(tokenizer.encode(text).ids) for pair in chosen for text in pair]
    low, middle, high = np.quantile(lengths, [0.05, 0.5, 0.95])
    print(f"{len(chosen)} pairs; tokens a sentence: median {middle:.0f}, 5 % under {low:.0f}, 5 % over {high:.0f}.")
    print(f"{VOCABULARY} vocabulary entries.\n\n| student | export | p50 ms | p99 ms | MB |\n|---|---|---|---|---|")
    for arm, taken in timings.items():
        p50, p99 = np.quantile(taken, [0.5, 0.99])
        print(f"| {arm[0]} | {arm[1]} | {p50:.3f} | {p99:.3f} | {sizes[arm] / 1e6:.2f} |")


def write_sample(folder: Path) -> Path:
    """Write the sample's first drop and return its file."""
    return write_drop("1", folder)


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Return the pairs of a CSV file with the columns text_a and text_b."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [(row["text_a"], row["text_b"]) for row in csv.DictReader(content.decode().splitlines())]


def train_tokenizer(pairs: list[tuple[str, str]]) -> Tokenizer:
    """Return a WordPiece tokenizer of these pairs: a student's is one, too."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=["[PAD]", "[UNK]"], show_progress=False)
    tokenizer.train_from_iterator((text for pair in pairs for text in pair), trainer)
    return tokenizer


def write_student(
    settings: StudentSettings, tokenizer: Tokenizer, pairs: list[tuple[str, str]], folder: Path, roles: list[str]
) -> None:
    """Write what serving loads: the exports of a student with random weights, tokenizer, card."""
    keras.utils.set_random_seed(0)
    probe = tokenize(tokenizer, [text for text, _ in pairs[:32]], MAX_TOKENS)
    students.export(students.build(VOCABULARY, settings), probe, folder, max_tokens=MAX_TOKENS, exports=roles)
    tokenizer.save(str(folder / "tokenizer.json"))
    calibration = Calibration(scale=8, bias=0.5, threshold=0.5).model_dump()
    card = {
        "format": CARD_FORMAT,
        "max_tokens": MAX_TOKENS,
        "calibrations": {FILES[role]: calibration for role in roles},
    }
    (folder / CARD).write_text(json.dumps(card), "utf-8")


def time_in_turn(
    arms: dict[tuple[str, str], PairModel], pairs: list[tuple[str, str]]
) -> dict[tuple[str, str], list[float]]:
    """Return the milliseconds of each answer by arm; every arm answers a pair before the next pair's turn."""
    timings: dict[tuple[str, str], list[float]] = {arm: [] for arm in arms}
    for model in arms.values():
        for pair in pairs:  # makes the interpreter of each length
            model.predict([pair])
    gc.collect()
    gc.disable()
    for _ in range(ROUNDS):
        for first in range(0, len(pairs), 10):  # some in a row, as in service: the next arm finds cold caches
            for arm, model in arms.items():
                for pair in pairs[first : first + 10]:
                    started = time.perf_counter()
                    model.predict([pair])
                    timings[arm].append(1000 * (time.perf_counter() - started))
    return timings


if __name__ == "__main__":
    main()
