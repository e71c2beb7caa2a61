"""Small valid things for tests."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ENGLISH = """
the a an is are was to of in on at for with and or not do does did can will i you we they he she it my your
what which who when where why how turn switch set play stop open close start make find get show tell buy sell
light lights lamp music song door window time alarm timer weather rain money card bank account number phone
red blue green on off up down left right new old good bad big small house room kitchen cat dog car food water
"""
CHINESE = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去"
    "法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业"
    "外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿原东声提"
    "立及比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件计管期市直德资命山金指克"
    "许统区保至队形社便空决治展马科司五基眼书非则听白却界达光放强即像难且权思王象完设式色路记南品住告类求据程北边死张该交规万取拉格望觉术"
    "领共确传师观清今切院让识候带导争运怎花呗借还款银行卡账户额度逾期为啥吗呢吧"
)
PUNCTUATION = "?.,!'-？。，！、"


def write_tiny_teacher(
    folder: Path,
    *,
    vocabulary: Sequence[str] = (),
    layers: int = 2,
    hidden: int = 32,
    pooling: str | None = "mean",
    seed: int = 0,
    dtype: object = np.float32,
    prefix: str = "",
) -> Path:
    """Write a BERT teacher in a Hugging Face directory that loads in milliseconds; return the folder.

    Its weights are random, but word embeddings dominate: sentences that share words have higher cosines, so
    the teacher has something to teach.

    Args:
        folder: made if needed.
        vocabulary: more whole words, besides lower-case letters, common English words and Chinese characters.
        layers: encoder layers.
        hidden: width of the embeddings, a multiple of 4.
        pooling: `mean`, `cls`, or None for a directory without 1_Pooling.
        seed: of the weights.
        dtype: NumPy type of the stored weights.
        prefix: put before every variable's name, e.g. `bert.`.
    """
    ids = _tiny_vocabulary(vocabulary)
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder / "tokenizer.json", ids)
    config = {"model_type": "bert", "layer_norm_eps": 1e-12, "pad_token_id": 0} | _tiny_sizes(len(ids), layers, hidden)
    (folder / "config.json").write_text(json.dumps(config))
    if pooling is not None:
        modes = {"pooling_mode_cls_token": pooling == "cls", "pooling_mode_mean_tokens": pooling == "mean"}
        (folder / "1_Pooling").mkdir(exist_ok=True)
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": hidden, **modes}))
    weights = {f"{prefix}{name}": value.astype(dtype) for name, value in _random_weights(config, seed).items()}
    save_file(weights, folder / "model.safetensors")
    return folder


def write_tiny_cross_encoder(
    folder: Path,
    *,
    labels: int = 2,
    vocabulary: Sequence[str] = (),
    layers: int = 2,
    hidden: int = 32,
    seed: int = 0,
) -> Path:
    """Write a Hugging Face BertForSequenceClassification with random weights; return the folder.

    Args:
        folder: made if needed.
        labels: outputs of its classifier.
        vocabulary: more whole words, as in `write_tiny_teacher`.
        layers: encoder layers.
        hidden: width of the encoder, a multiple of 4.
        seed: of the weights.
    """
    write_tiny_teacher(folder, vocabulary=vocabulary, layers=layers, hidden=hidden, pooling=None, seed=seed)
    write_tokenizer(folder / "tokenizer.json", _tiny_vocabulary(vocabulary), paired=True)
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["BertForSequenceClassification"]
    if labels != 2:  # as Hugging Face writes it: its default of 2 is left out
        config["id2label"] = {str(label): f"LABEL_{label}" for label in range(labels)}
    (folder / "config.json").write_text(json.dumps(config))
    random = np.random.default_rng(seed + 1)
    weights = {f"bert.{name}": value for name, value in _random_weights(config, seed).items()}
    for part, rows in (("bert.pooler.dense", hidden), ("classifier", labels)):
        weights[f"{part}.weight"] = random.normal(0, 0.2, (rows, hidden)).astype(np.float32)
        weights[f"{part}.bias"] = random.normal(0, 0.2, rows).astype(np.float32)
    save_file(weights, folder / "model.safetensors")
    return folder


def write_tiny_tf1_teacher(
    folder: Path,
    *,
    vocabulary: Sequence[str] = (),
    layers: int = 2,
    hidden: int = 32,
    embedding: int | None = 16,
    seed: int = 0,
    leftovers: bool = True,
) -> Path:
    """Write a teacher in the format of the TensorFlow 1 releases of BERT and SimBERT; return the folder.

    Args:
        folder: made if needed.
        vocabulary: more whole words, as in `write_tiny_teacher`.
        layers: encoder layers.
        hidden: width of the encoder, a multiple of 4.
        embedding: width of factorised word embeddings; None: they are as wide as the encoder.
        seed: of the weights.
        leftovers: also write what training leaves behind: optimizer slots, the language model's head, the step.
    """
    ids = _tiny_vocabulary(vocabulary)
    config = _tiny_sizes(len(ids), layers, hidden) | ({} if embedding is None else {"embedding_size": embedding})
    variables = random_tf1_variables(tf1_shapes(config), seed)
    if leftovers:
        kernel = "bert/encoder/layer_0/output/dense/kernel"
        slots = {f"{kernel}/{slot}": np.zeros_like(variables[kernel]) for slot in ("adam_m", "adam_v")}
        variables |= {"cls/predictions/output_bias": np.zeros(len(ids), np.float32), **slots}
        variables["global_step"] = np.array(7, np.int64)
    return write_tf1_release(folder, config, "\n".join(ids) + "\n", variables)


def write_tf1_release(
    folder: Path, config: dict[str, object], vocabulary: str, variables: dict[str, np.ndarray], *, shards: int = 1
) -> Path:
    """Write bert_config.json, vocab.txt and bert_model.ckpt.*; return the folder. Imports TensorFlow."""
    import tensorflow as tf

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bert_config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text(vocabulary, encoding="utf-8")
    names = sorted(variables)
    parts = [str(folder / f"part-{number}") for number in range(shards)]
    for number, part in enumerate(parts):
        own = names[number::shards]
        values = [tf.constant(variables[name]) for name in own]
        tf.raw_ops.SaveV2(prefix=part, tensor_names=own, shape_and_slices=[""] * len(own), tensors=values)
    merged = str(folder / "bert_model.ckpt")
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=merged, delete_old_dirs=False)
    return folder


def tf1_shapes(config: dict[str, object]) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the variables in a TensorFlow 1 release of BERT or SimBERT; kernels are [in, out]."""
    hidden, inner = int(str(config["hidden_size"])), int(str(config["intermediate_size"]))
    width = int(str(config.get("embedding_size", hidden)))
    shapes: dict[str, tuple[int, ...]] = {
        "bert/embeddings/word_embeddings": (int(str(config["vocab_size"])), width),
        "bert/embeddings/position_embeddings": (int(str(config["max_position_embeddings"])), width),
        "bert/embeddings/token_type_embeddings": (int(str(config["type_vocab_size"])), width),
    }
    norms = {"bert/embeddings/LayerNorm": width}
    dense = {"bert/pooler/dense": (hidden, hidden)}
    if width != hidden:
        dense["bert/encoder/embedding_hidden_mapping_in"] = (width, hidden)
    for number in range(int(str(config["num_hidden_layers"]))):
        layer = f"bert/encoder/layer_{number}"
        dense |= {f"{layer}/attention/self/{part}": (hidden, hidden) for part in ("query", "key", "value")}
        dense[f"{layer}/attention/output/dense"] = (hidden, hidden)
        dense[f"{layer}/intermediate/dense"] = (hidden, inner)
        dense[f"{layer}/output/dense"] = (inner, hidden)
        norms |= {f"{layer}/attention/output/LayerNorm": hidden, f"{layer}/output/LayerNorm": hidden}
    for part, size in norms.items():
        shapes |= {f"{part}/gamma": (size,), f"{part}/beta": (size,)}
    for part, kernel in dense.items():
        shapes |= {f"{part}/kernel": kernel, f"{part}/bias": kernel[1:]}
    return shapes


def random_tf1_variables(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Return random float32 values: wide word embeddings, kernels that keep the scale, scales around 1."""
    random = np.random.default_rng(seed)
    variables = {}
    for name, shape in shapes.items():
        value = random.standard_normal(shape, np.float32)
        if name.endswith("/gamma"):
            value = 1 + value * np.float32(0.05)
        elif name.endswith("/kernel"):
            value *= np.float32(shape[0] ** -0.5)
        elif not name.endswith("/word_embeddings"):
            value *= np.float32(0.05)
        variables[name] = value
    return variables


def write_tokenizer(path: Path, ids: dict[str, int], *, paired: bool = False) -> None:
    """Write a lower-casing WordPiece tokenizer.json of these pieces; `paired`: it also knows how to join two texts."""
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1" if paired else None,
        special_tokens=[(token, ids[token]) for token in ("[CLS]", "[SEP]")],
    )
    tokenizer.add_special_tokens(list(SPECIALS))
    tokenizer.save(str(path))


def _tiny_vocabulary(more: Sequence[str]) -> dict[str, int]:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    suffixes = (f"##{letter}" for letter in letters)
    pieces = [*SPECIALS, *letters, *suffixes, *PUNCTUATION, *ENGLISH.split(), *CHINESE, *more]
    return {piece: row for row, piece in enumerate(dict.fromkeys(pieces))}


def _tiny_sizes(vocabulary: int, layers: int, hidden: int) -> dict[str, object]:
    return {
        "hidden_act": "gelu",
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": 2 * hidden,
        "max_position_embeddings": 128,
        "type_vocab_size": 2,
    }


def _random_weights(config: dict[str, object], seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    hidden, inner = int(str(config["hidden_size"])), int(str(config["intermediate_size"]))

    def normal(*shape: int, scale: float) -> np.ndarray:
        return random.normal(0, scale, shape).astype(np.float32)

    weights = {
        "embeddings.word_embeddings.weight": normal(int(str(config["vocab_size"])), hidden, scale=1),
        "embeddings.position_embeddings.weight": normal(int(str(config["max_position_embeddings"])), hidden, scale=0.1),
        "embeddings.token_type_embeddings.weight": normal(2, hidden, scale=0.1),
    }
    norms = ["embeddings.LayerNorm"]
    for number in range(int(str(config["num_hidden_layers"]))):
        layer = f"encoder.layer.{number}"
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
        shapes = {
            "attention.self.query": (hidden, hidden),
            "attention.self.key": (hidden, hidden),
            "attention.self.value": (hidden, hidden),
            "attention.output.dense": (hidden, hidden),
            "intermediate.dense": (inner, hidden),
            "output.dense": (hidden, inner),
        }
        for part, shape in shapes.items():
            weights[f"{layer}.{part}.weight"] = normal(*shape, scale=0.1)
            weights[f"{layer}.{part}.bias"] = normal(shape[0], scale=0.05)
    for part in norms:
        weights[f"{part}.weight"] = 1 + normal(hidden, scale=0.05)
        weights[f"{part}.bias"] = normal(hidden, scale=0.05)
    return weights


def write_student(folder: Path, *, size: int, max_tokens: int = 8) -> dict[str, str]:
    """Write what serving loads of an untrained siamese LSTM whose words are the letters a to h; return file → role.

    Args:
        folder: made if needed.
        size: of embedding and hidden state; a larger one is slower.
        max_tokens: longest input.
    """
    from restill import students  # late: imports TensorFlow
    from restill.serving import CARD, CARD_FORMAT
    from restill.settings import StudentSettings

    folder.mkdir(parents=True, exist_ok=True)
    encoder = students.build(
        20, StudentSettings(kind="siamese-lstm", embedding_size=size, hidden_size=size, max_tokens=max_tokens)
    )
    probe = (2 + np.arange(2 * max_tokens, dtype=np.int32) % 16).reshape(2, max_tokens)
    files = students.export(encoder, probe, folder, max_tokens=max_tokens, exports=["litert"])
    tokenizer = Tokenizer(
        models.WordPiece({piece: row for row, piece in enumerate(["[PAD]", "[UNK]", *"abcdefgh"])}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    calibration = {"scale": 8.0, "bias": 0.5, "threshold": 0.5}
    card = {"format": CARD_FORMAT, "max_tokens": max_tokens, "calibrations": dict.fromkeys(files.values(), calibration)}
    (folder / CARD).write_text(json.dumps(card))
    return {"tokenizer.json": "tokenizer", CARD: "calibration"} | {file: role for role, file in files.items()}
