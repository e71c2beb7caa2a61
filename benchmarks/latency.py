"""One pair in exported students, against the best CPU export of their teacher and of a 12 x 768 BERT, in one run.

    python3 -m venv onnx && onnx/bin/pip install torch transformers onnx onnxruntime tokenizers numpy \\
        ai-edge-litert pydantic pydantic-settings boto3
    PYTHONPATH=. onnx/bin/python benchmarks/latency.py --pairs pairs.csv.gz --teacher DIR --student DIR --large

Run by a Python of its own: the locked environment has neither PyTorch nor ONNX. `--pairs` is a CSV with text_a and
text_b; `--teacher` a Hugging Face directory of a BERT encoder; `--student` a folder with an exported artifact (all its
.tflite files), or `FOLDER:FILE.tflite`. `--large` adds a BERT of the size of bert-base-chinese; its weights are random,
which time does not depend on. It reads the teacher's token ids, modulo its vocabulary, without the prompt.

The teacher is exported as PyTorch does it and with fused layers, each in float32 and in dynamic int8 of two kinds. Each
export answers a pair in one batch of two and in two calls; the fastest of all is the teacher's best. Exports are kept
in `--cache`, with the largest difference of a pair's cosine from PyTorch's.

Every arm has one thread, answers single pairs, and tokenises. The arms take turns, block of pairs by block; a slow arm
is left out of so many blocks, drawn at random, that it takes about `--seconds`. A ratio is of medians over the blocks
that both arms answered, with the 90 % interval of a bootstrap over blocks. On a shared machine the clock favours short
requests, which are over before others get their turn: hence the ratio in processor time, by which the best is chosen.
The reference workload before each round of arms shows how the machine's speed varied.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import argparse
import csv
import gc
import gzip
import hashlib
import json
import logging
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from restill.serving import PairModel

MAX_TOKENS = 128  # of a teacher's input
PARITY_PAIRS = 100
BLOCK = 25  # pairs
RESAMPLES = 1000
CLOCK, PROCESSOR = 0, 1  # the two times taken of each request
LARGE_VOCABULARY = 21_128  # bert-base-chinese's
KINDS = ["float32", "int8", "int8 per channel"]
EXPORTS = [f"{graph} {kind}" for graph in ("plain", "fused") for kind in KINDS]

Pair = tuple[str, str]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Arm:
    """One way to answer a pair."""

    family: str  # student, teacher or large
    name: str
    ask: Callable[[Pair], object]
    megabytes: float


class OnnxEncoder:
    """An exported teacher: sentences to unit vectors, with the teacher's tokenizer, on one thread."""

    def __init__(self, path: Path, tokenizer: Tokenizer, *, prompt: str, vocabulary: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._vocabulary = vocabulary

    def embed(self, sentences: list[str]) -> NDArray[np.float32]:
        """Return ``[sentences, size]`` unit vectors, from one call padded to the longest sentence."""
        ids, mask = tokenize(self._tokenizer, [self._prompt + sentence for sentence in sentences], self._vocabulary)
        (vectors,) = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
        return vectors

    def in_one_call(self, pair: Pair) -> float:
        """Return the cosine of a pair."""
        a, b = self.embed(list(pair))
        return float(a @ b)

    def in_two_calls(self, pair: Pair) -> float:
        """Return the cosine of a pair; nothing is padded."""
        (a,), (b,) = self.embed([pair[0]]), self.embed([pair[1]])
        return float(a @ b)


def tokenize(tokenizer: Tokenizer, sentences: list[str], vocabulary: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return ids and mask, int64 ``[sentences, longest]``."""
    encodings = tokenizer.encode_batch(sentences)
    ids = np.array([encoding.ids for encoding in encodings], np.int64) % vocabulary
    return ids, np.array([encoding.attention_mask for encoding in encodings], np.int64)


def load_tokenizer(teacher: Path) -> Tokenizer:
    """Return the teacher's tokenizer; it pads to the longest sentence of a call, whatever its file says."""
    tokenizer = Tokenizer.from_file(str(teacher / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_padding(pad_id=json.loads((teacher / "config.json").read_text("utf-8"))["pad_token_id"])
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer


def open_exports(
    folder: Path, teacher: Path | None, tokenizer: Tokenizer, pairs: list[Pair], *, prompt: str
) -> list[Arm]:
    """Export a teacher, or without one the large BERT, unless `folder` has it already; return two arms an export."""
    family = "teacher" if teacher else "large"
    record = folder / "exports.json"
    if not record.exists():
        print(f"exporting the {family} to {folder} …", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        made = export(folder, teacher, tokenizer, pairs[:PARITY_PAIRS], prompt=prompt)
        record.write_text(json.dumps(made, indent=1) + "\n", "utf-8")
    made = json.loads(record.read_text("utf-8"))
    print(f"{family}: {made['layers']} layers x {made['size']}, fused {made['fused']}")
    arms = []
    for name in EXPORTS:
        path = folder / file_name(name)
        encoder = OnnxEncoder(path, tokenizer, prompt=prompt, vocabulary=made["vocabulary"])
        megabytes = path.stat().st_size / 1e6
        difference = made["cosine_difference"][name]
        print(f"  {name:24} {megabytes:8.1f} MB, cosine of a pair within {difference:.5f} of PyTorch's")
        arms.append(Arm(family, f"{name}, one call", encoder.in_one_call, megabytes))
        arms.append(Arm(family, f"{name}, two calls", encoder.in_two_calls, megabytes))
    return arms


def file_name(export_name: str) -> str:
    """Return the file of an export."""
    return export_name.replace(" ", "_") + ".onnx"


def export(
    folder: Path, teacher: Path | None, tokenizer: Tokenizer, pairs: list[Pair], *, prompt: str
) -> dict[str, Any]:
    """Write every export of a teacher; return its shape, which nodes were fused, and how far each is from PyTorch."""
    import onnx
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers import optimizer
    from transformers import AutoModel, BertConfig, BertModel

    class SentenceEncoder(torch.nn.Module):
        def __init__(self, bert: BertModel) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            states = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            weights = attention_mask.unsqueeze(-1).to(states.dtype)
            mean = (states * weights).sum(1) / weights.sum(1)
            return mean / mean.norm(dim=1, keepdim=True)

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    # Attention written out: the optimizer does not recognise the other ways to compute it.
    if teacher:
        bert = AutoModel.from_pretrained(teacher, attn_implementation="eager", dtype=torch.float32)
    else:
        bert = BertModel(BertConfig(vocab_size=LARGE_VOCABULARY, attn_implementation="eager"))
    model, config = SentenceEncoder(bert).eval(), bert.config
    batches = [tokenize(tokenizer, [prompt + a, prompt + b], config.vocab_size) for a, b in pairs]

    plain, fused = folder / file_name("plain float32"), folder / file_name("fused float32")
    example = tuple(map(torch.from_numpy, next(batch for batch in batches if not batch[1].all())))
    names = ["input_ids", "attention_mask"]
    torch.onnx.export(
        model,
        example,
        plain,
        input_names=names,
        output_names=["vectors"],
        dynamic_axes={name: {0: "sentences", 1: "steps"} for name in names},
        opset_version=17,
        dynamo=False,
    )
    layers = config.num_hidden_layers
    optimised = optimizer.optimize_model(
        str(plain), "bert", num_heads=config.num_attention_heads, hidden_size=config.hidden_size, opt_level=0
    )
    nodes = Counter(node.op_type for node in optimised.model.graph.node)
    expected = {"Attention": layers, "SkipLayerNormalization": 2 * layers, "BiasGelu": layers}
    if any(nodes[kind] != count for kind, count in expected.items()):
        raise SystemExit(f"The optimizer did not fuse the export: {expected} expected, found {dict(nodes)}.")
    optimised.save_model_to_file(str(fused))
    for graph, source in (("plain", plain), ("fused", fused)):
        for kind in KINDS[1:]:
            quantize_dynamic(
                source,
                folder / file_name(f"{graph} {kind}"),
                per_channel="per channel" in kind,
                reduce_range=True,  # 7 bits: sums of two products overflow int16 on processors without VNNI
                weight_type=QuantType.QInt8,
                extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},  # fused nodes have no inferred type
            )

    with torch.inference_mode():
        vectors = [model(*map(torch.from_numpy, batch)).numpy() for batch in batches]
    wanted = np.array([a @ b for a, b in vectors])
    differences = {}
    for name in EXPORTS:
        encoder = OnnxEncoder(folder / file_name(name), tokenizer, prompt=prompt, vocabulary=config.vocab_size)
        found = np.array([encoder.in_one_call(pair) for pair in pairs])
        differences[name] = float(np.abs(found - wanted).max())
    logging.disable(logging.NOTSET)
    return {
        "layers": layers,
        "size": config.hidden_size,
        "vocabulary": config.vocab_size,
        "fused": {kind: nodes[kind] for kind in expected},
        "cosine_difference": differences,
    }


def open_students(named: list[str]) -> list[Arm]:
    """Return an arm for each model file of `FOLDER` or `FOLDER:FILE`."""
    arms = []
    for name in named:
        folder_name, _, chosen = name.partition(":")
        folder = Path(folder_name)
        files = [folder / chosen] if chosen else sorted(folder.glob("*.tflite"))
        if not files:
            raise SystemExit(f"{folder} has no .tflite file.")
        for file in files:
            model = PairModel(folder, file=file.name, threads=1)
            label = f"{folder.name}/{file.name}"

            def ask(pair: Pair, model: PairModel = model) -> object:
                return model.predict([pair])

            arms.append(Arm("student", label, ask, file.stat().st_size / 1e6))
    return arms


def read_pairs(path: Path, count: int) -> list[Pair]:
    """Return a fixed random sample of a file's pairs."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        pairs = [(row["text_a"], row["text_b"]) for row in csv.DictReader(file)]
    chosen = np.random.default_rng(0).permutation(len(pairs))[:count]
    return [pairs[row] for row in chosen[: len(chosen) // BLOCK * BLOCK]]


def time_ms(work: Callable[[], object]) -> tuple[float, float]:
    """Return how long a call takes by the clock, and how much processor time of this process."""
    processor, clock = time.process_time_ns(), time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - clock) / 1e6, (time.process_time_ns() - processor) / 1e6


def time_block(arm: Arm, pairs: list[Pair]) -> Floats:
    """Return the times ``[pairs, 2]`` of single requests."""
    return np.array([time_ms(lambda pair=pair: arm.ask(pair)) for pair in pairs])


def warm_up(arm: Arm, pairs: list[Pair], seconds: float) -> float:
    """Ask all pairs, or as many as fit in this processor time; return a request's median of it, in milliseconds.

    Students prepare for each sentence length when they first meet it.
    """
    taken: list[float] = []
    for first in range(0, len(pairs), BLOCK):
        taken += time_block(arm, pairs[first : first + BLOCK])[:, PROCESSOR].tolist()
        if sum(taken) > 1000 * seconds:
            break
    return float(np.median(taken))


def measure(arms: list[Arm], pairs: list[Pair], rounds: int, seconds: float) -> tuple[list[Floats], Floats]:
    """Return each arm's times ``[blocks, BLOCK, 2]``, NaN where it was left out, and the reference's ``[blocks]``."""
    blocks = [pairs[first : first + BLOCK] for first in range(0, len(pairs), BLOCK)] * rounds
    rank = np.random.default_rng(0).permutation(len(blocks))  # an arm answers the blocks of the lowest ranks
    allowed = [1000 * seconds / (BLOCK * warm_up(arm, pairs, seconds / 5)) for arm in arms]
    times = [np.full((len(blocks), BLOCK, 2), np.nan) for _ in arms]
    reference = np.empty(len(blocks))
    matrix = np.random.default_rng(0).standard_normal((160, 160)).astype(np.float32)
    gc.collect()
    gc.disable()
    for number, block in enumerate(blocks):
        reference[number] = np.median([time_ms(lambda: matrix @ matrix)[CLOCK] for _ in range(9)])
        for position, arm in enumerate(arms):
            if rank[number] < max(2, allowed[position]):
                arm.ask(block[0])  # so that no arm pays for what the one before it left in the caches
                times[position][number] = time_block(arm, block)
        if (number + 1) % (len(blocks) // rounds) == 0:
            print(f"round {(number + 1) * rounds // len(blocks)} of {rounds} done", flush=True)
    gc.enable()
    return times, reference


def ratio(slower: Floats, faster: Floats) -> list[float]:
    """Return how many times as long the first takes, and the interval; both are ``[blocks, BLOCK]``."""
    common = ~np.isnan(slower[:, 0]) & ~np.isnan(faster[:, 0])
    slower, faster = slower[common], faster[common]
    drawn = np.random.default_rng(0).integers(len(slower), size=(RESAMPLES, len(slower)))
    tops, bottoms = (np.median(times[drawn].reshape(RESAMPLES, -1), axis=1) for times in (slower, faster))
    low, high = np.quantile(tops / bottoms, [0.05, 0.95])
    return [float(np.median(slower) / np.median(faster)), float(low), float(high)]


def summarise(arms: list[Arm], times: list[Floats]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return the figures of each arm, and the number of the best arm of each family of teachers."""
    figures: list[dict[str, Any]] = []
    for arm, of_arm in zip(arms, times, strict=True):
        clock, processor = of_arm[..., CLOCK], of_arm[..., PROCESSOR]
        p50, p90, p99 = (float(value) for value in np.nanquantile(clock, [0.5, 0.9, 0.99]))
        figures.append(
            {"family": arm.family, "name": arm.name, "megabytes": arm.megabytes}
            | {"requests": int((~np.isnan(clock)).sum()), "p50_ms": p50, "p90_ms": p90, "p99_ms": p99}
            | {"p50_processor_ms": float(np.nanmedian(processor)), "times_faster": {}}
        )
    best = {}
    for family in sorted({arm.family for arm in arms} - {"student"}, reverse=True):
        of_family = [number for number, arm in enumerate(arms) if arm.family == family]
        best[family] = min(of_family, key=lambda number: figures[number]["p50_processor_ms"])
        for figure, of_arm in zip(figures, times, strict=True):
            figure["times_faster"][family] = {
                name: ratio(times[best[family]][..., by], of_arm[..., by])
                for name, by in (("clock", CLOCK), ("processor", PROCESSOR))
            }
    return figures, best


def show(figures: list[dict[str, Any]], best: dict[str, int]) -> None:
    """Print the table."""
    columns = [f"{f'best {family} takes, clock':>28}{'processor':>23}" for family in best]
    print(f"\n{'':44}{'p50':>8}{'p90':>8}{'p99 ms':>8}{'p50 CPU':>9}{'MB':>8}{'asked':>7}{''.join(columns)}")
    for row in figures:
        line = f"{row['family'] + ' ' + row['name']:44}{row['p50_ms']:8.2f}{row['p90_ms']:8.2f}{row['p99_ms']:8.2f}"
        line += f"{row['p50_processor_ms']:9.2f}{row['megabytes']:8.1f}{row['requests']:7}"
        for ratios in row["times_faster"].values():
            clock, processor = ("{:.3g} ({:.3g} to {:.3g})".format(*found) for found in ratios.values())
            line += f"{clock:>28}{processor:>23}"
        print(line)
    for family, number in best.items():
        row = figures[number]
        print(
            f"best {family}: {row['name']}, {row['p50_ms']:.2f} ms, {row['p50_processor_ms']:.2f} ms of processor time"
        )


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=Path, required=True, help="CSV with text_a and text_b, may be gzipped")
    parser.add_argument("--teacher", type=Path, required=True, help="directory of the teacher")
    parser.add_argument("--prompt", default="", help="what the teacher reads before each sentence")
    parser.add_argument("--student", nargs="*", default=[], help="artifact folders, or FOLDER:FILE")
    parser.add_argument("--large", action="store_true", help="add a 12 x 768 BERT")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "restill-onnx")
    parser.add_argument("--sample", type=int, default=500, help="pairs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10, help="processor time an arm")
    parser.add_argument("--json", type=Path, help="where the figures are written")
    given = parser.parse_args()

    pairs = read_pairs(given.pairs, given.sample)
    tokenizer = load_tokenizer(given.teacher)
    digest = hashlib.sha256((given.teacher / "model.safetensors").read_bytes()).hexdigest()[:12]
    arms = open_students(given.student)
    arms += open_exports(given.cache / f"teacher-{digest}", given.teacher, tokenizer, pairs, prompt=given.prompt)
    if given.large:
        arms += open_exports(given.cache / "large", None, tokenizer, pairs, prompt="")
    lengths = [len(encoding) for pair in pairs for encoding in map(tokenizer.encode, pair)]
    p50, p90, most = np.quantile(lengths, [0.5, 0.9, 1])
    print(f"{len(pairs)} pairs, tokens of a sentence: median {p50:.0f}, p90 {p90:.0f}, longest {most:.0f}")

    times, reference = measure(arms, pairs, given.rounds, given.seconds)
    figures, best = summarise(arms, times)
    show(figures, best)
    spread = np.quantile(reference, [0.1, 0.5, 0.9])
    print("reference workload: p10 {:.3f}, p50 {:.3f}, p90 {:.3f} ms".format(*spread))
    if given.json:
        document = {
            "pairs": len(pairs),
            "rounds": given.rounds,
            "best": {family: arms[number].name for family, number in best.items()},
            "reference_ms": dict(zip(("p10", "p50", "p90"), map(float, spread), strict=True)),
            "versions": {name: version(name) for name in ("onnxruntime", "ai-edge-litert", "tokenizers")},
            "arms": figures,
        }
        given.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
