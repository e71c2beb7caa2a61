import importlib.util
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from factories import write_tiny_teacher
from safetensors.numpy import load_file, save_file
from scipy.special import erf

from restill.errors import IntegrityError, TeacherError
from restill.settings import TeacherSettings
from restill.teachers import Teacher, files, fingerprint, load_teacher, open_teacher

SHARED = Path(__file__).parents[3] / "shared"
ZH_TEACHER = SHARED / "teachers" / "zh-e5-small"
SENTENCES = [
    "Turn on the kitchen light!",
    "how do i open a new bank account",
    "花呗怎么还款？",
    "x",
    "Why is the cat not in the house, and where did the dog go when it was raining outside?",
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_teacher(tmp_path_factory.mktemp("teacher") / "tiny")


@pytest.fixture(scope="module")
def teacher(tiny: Path) -> Teacher:
    return load_teacher(TeacherSettings(path=tiny))


@pytest.fixture
def broken(tiny: Path, tmp_path: Path) -> Path:
    """A copy of the tiny teacher that a test may damage."""
    return Path(shutil.copytree(tiny, tmp_path / "broken"))


def reference_embedding(weights: dict[str, np.ndarray], config: dict, ids: list[int], pooling: str) -> np.ndarray:
    """BERT's forward pass for one sentence, in float64 and straight from the papers' formulas."""
    get = {name.removeprefix("bert."): value.astype(np.float64) for name, value in weights.items()}
    heads, size = config["num_attention_heads"], config["hidden_size"] // config["num_attention_heads"]

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ get[f"{name}.weight"].T + get[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + config["layer_norm_eps"])
        return scaled * get[f"{name}.weight"] + get[f"{name}.bias"]

    x = get["embeddings.word_embeddings.weight"][ids]
    x = x + get["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + get["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        query, key, value = (dense(x, f"{layer}.attention.self.{part}") for part in ("query", "key", "value"))
        context = np.empty_like(x)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = np.exp(query[:, part] @ key[:, part].T / math.sqrt(size))
            context[:, part] = scores / scores.sum(1, keepdims=True) @ value[:, part]
        x = norm(x + dense(context, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
        inner = dense(x, f"{layer}.intermediate.dense")
        inner = inner * 0.5 * (1 + erf(inner / math.sqrt(2)))
        x = norm(x + dense(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    pooled = x[0] if pooling == "cls" else x.mean(0)
    return pooled / np.linalg.norm(pooled)


def assert_parity(settings: TeacherSettings, pooling: str) -> None:
    opened = open_teacher(settings)
    weights = load_file(opened.weights_path)
    config = json.loads((opened.directory / "config.json").read_text())
    ids = [opened.tokenizer.encode(settings.prompt + sentence).ids for sentence in SENTENCES]
    expected = np.stack([reference_embedding(weights, config, row, pooling) for row in ids])
    np.testing.assert_allclose(load_teacher(settings).encode(SENTENCES), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("pooling", "dtype", "prefix"),
    [("mean", np.float32, ""), ("cls", np.float16, "bert."), ("mean", ml_dtypes.bfloat16, "bert.")],
)
def test_tiny_teachers_match_a_plain_forward_pass(tmp_path, pooling, dtype, prefix):
    folder = write_tiny_teacher(tmp_path / "tiny", pooling=pooling, dtype=dtype, prefix=prefix)
    assert_parity(TeacherSettings(path=folder, prompt="query: "), pooling)


def test_default_teacher_matches_a_plain_forward_pass():
    assert_parity(TeacherSettings(), "mean")


@pytest.mark.skipif(not ZH_TEACHER.is_dir(), reason="needs ../shared/teachers/zh-e5-small")
def test_chinese_teacher_matches_a_plain_forward_pass():
    assert_parity(TeacherSettings(path=ZH_TEACHER, prompt="query: "), "mean")


def test_old_names_of_normalisation_layers_are_read(broken, teacher):
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in load_file(broken / "model.safetensors").items()
    }
    save_file(renamed, broken / "model.safetensors")
    found = load_teacher(TeacherSettings(path=broken)).encode(SENTENCES)
    np.testing.assert_array_equal(found, teacher.encode(SENTENCES))


def test_teacher_is_frozen(teacher):
    assert len(teacher.encoder.variables) > 20
    assert not teacher.encoder.trainable_variables


def test_embeddings_are_unit_vectors_in_the_order_given(teacher):
    together = teacher.encode(SENTENCES)
    alone = np.concatenate([teacher.encode([sentence]) for sentence in SENTENCES])
    assert together.shape == (len(SENTENCES), teacher.dimension)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    # Alone nothing is padded, so equality also shows that padding has no influence.
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert np.abs(together[0] - together[1]).max() > 0.01


def test_small_batches_give_the_same_embeddings_with_less_padding(tiny):
    sentences = [f"{'the cat ' * (row % 7)}{row}" for row in range(60)]
    small = load_teacher(TeacherSettings(path=tiny, batch_tokens=64))
    large = load_teacher(TeacherSettings(path=tiny, batch_tokens=4096))
    np.testing.assert_allclose(small.encode(sentences), large.encode(sentences), atol=1e-6)
    assert small.padding_share < large.padding_share


def test_padding_is_counted(tiny):
    fresh = load_teacher(TeacherSettings(path=tiny))
    assert fresh.padding_share == 0
    fresh.encode(["cat", "cat dog house"])  # 3 and 5 tokens with [CLS] and [SEP]: 10 computed, 2 of them padding
    assert fresh.padding_share == pytest.approx(0.2)


def test_no_sentences_give_no_rows(teacher):
    assert teacher.encode([]).shape == (0, teacher.dimension)
    assert teacher.count_tokens([]).shape == (0,)


def test_tokens_are_counted_with_prompt_and_cut(tiny):
    prompted = load_teacher(TeacherSettings(path=tiny, prompt="the ", max_tokens=8))
    assert prompted.count_tokens(["cat", "cat dog", "cat " * 50]).tolist() == [4, 5, 8]
    np.testing.assert_array_equal(prompted.encode(["cat " * 5]), prompted.encode(["cat " * 50]))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_is_close_and_has_its_own_fingerprint(tiny, teacher, precision):
    low = load_teacher(TeacherSettings(path=tiny), precision=precision)
    difference = np.abs(low.encode(SENTENCES) - teacher.encode(SENTENCES)).max()
    assert 0 < difference < 0.01
    assert low.fingerprint != teacher.fingerprint


def test_plain_vocabulary_tokenizes_as_the_published_tokenizer(tmp_path):
    published = open_teacher(TeacherSettings())
    for name in ("config.json", "vocab.txt", "tokenizer_config.json"):
        shutil.copy(published.directory / name, tmp_path / name)
    (tmp_path / "model.safetensors").symlink_to(published.weights_path)
    plain = open_teacher(TeacherSettings(path=tmp_path))
    for sentence in [*SENTENCES, "Crème brûlée\tÀ la carte", "[SEP] inside", "unaffable" * 30, ""]:
        assert plain.tokenizer.encode(sentence).ids == published.tokenizer.encode(sentence).ids


def test_fingerprint_needs_no_tensorflow_and_is_the_loaded_teachers(tiny, teacher):
    code = (
        "import sys; from pathlib import Path; from restill.settings import TeacherSettings\n"
        "from restill.teachers import fingerprint\n"
        "print(fingerprint(TeacherSettings(path=Path(sys.argv[1]))), 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tiny)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [teacher.fingerprint, "False"]


def test_fingerprint_changes_with_whatever_changes_an_embedding(tiny, tmp_path):
    base = TeacherSettings(path=tiny)

    def changed(**values: object) -> str:
        return fingerprint(base.model_copy(update=values))

    def copied(name: str) -> Path:
        return Path(shutil.copytree(tiny, tmp_path / name))

    other_weights = write_tiny_teacher(tmp_path / "weights", seed=1)
    other_tokenizer = copied("tokenizer")
    vocabulary = json.loads((tiny / "tokenizer.json").read_text())
    vocabulary["normalizer"]["lowercase"] = False
    (other_tokenizer / "tokenizer.json").write_text(json.dumps(vocabulary))
    other_config = copied("config")
    config = json.loads((tiny / "config.json").read_text()) | {"layer_norm_eps": 1e-6}
    (other_config / "config.json").write_text(json.dumps(config))
    other_pooling = copied("pooling")
    modes = json.dumps({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    (other_pooling / "1_Pooling" / "config.json").write_text(modes)

    prints = [
        fingerprint(base),
        changed(path=other_weights),
        changed(path=other_tokenizer),
        changed(path=other_config),
        changed(path=other_pooling),
        changed(prompt="query: "),
        changed(max_tokens=32),
        fingerprint(base, precision="bfloat16"),
    ]
    assert len(set(prints)) == len(prints)
    assert changed(pooling="cls") == changed(path=other_pooling)
    assert changed(path=copied("same")) == changed(batch_tokens=64) == prints[0]


def test_digest_cache_saves_hashing_and_notices_a_change(broken, tmp_path, monkeypatch):
    settings, cache = TeacherSettings(path=broken), tmp_path / "state" / "digests.json"
    first = fingerprint(settings, cache=cache)
    assert first == fingerprint(settings)
    hashed: list[str] = []
    whole_file = files._sha256
    monkeypatch.setattr(files, "_sha256", lambda path: hashed.append(path.name) or whole_file(path))
    assert fingerprint(settings, cache=cache) == first
    assert "model.safetensors" not in hashed
    write_tiny_teacher(broken, seed=5)
    assert fingerprint(settings, cache=cache) == fingerprint(settings) != first
    cache.write_text('{"half a ca')
    assert fingerprint(settings, cache=cache) == fingerprint(settings)


def test_packaged_weights_must_be_the_published_ones(broken, monkeypatch):
    monkeypatch.setattr(files, "_package_directory", lambda: broken)
    with pytest.raises(IntegrityError, match=f"expected sha256 {files.PACKAGE_WEIGHTS_SHA256}, found [0-9a-f]{{64}}"):
        load_teacher(TeacherSettings())


def test_missing_package_says_how_to_get_a_teacher(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(TeacherError, match="not installed") as caught:
        fingerprint(TeacherSettings())
    assert "teacher.path" in caught.value.hint


def edit_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def drop_variable(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.bias"], weights["embeddings.LayerNorm.weight"]
    save_file(weights, folder / "model.safetensors")


def cut_weights(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def leave_only_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def ask_for_a_dense_module(folder: Path) -> None:
    modules = [
        {"type": "sentence_transformers.models.Transformer"},
        {"type": "sentence_transformers.models.Dense"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))


def pool_the_maximum(folder: Path) -> None:
    edit_json(folder / "1_Pooling" / "config.json", pooling_mode_mean_tokens=False, pooling_mode_max_tokens=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: edit_json(folder / "config.json", model_type="roberta"),
            "type 'roberta'; only 'bert'",
        ),
        (lambda folder: edit_json(folder / "config.json", hidden_act="relu"), "hidden_act"),
        (lambda folder: edit_json(folder / "config.json", num_attention_heads=5), "no multiple"),
        (lambda folder: edit_json(folder / "config.json", vocab_size=50), "only 50 word embeddings"),
        (
            lambda folder: edit_json(folder / "config.json", hidden_size=64),
            r"shape \(\d+, 32\) instead of \(\d+, 64\)",
        ),
        (lambda folder: edit_json(folder / "config.json", max_position_embeddings=16), "at most 16 tokens"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is not"),
        (lambda folder: (folder / "config.json").unlink(), "config.json cannot be read"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "neither tokenizer.json nor vocab.txt"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "not a readable tokenizer"),
        (leave_only_a_pickle, r"no model.safetensors. It holds pytorch_model.bin, a pickle"),
        (drop_variable, r"missing embeddings.LayerNorm.weight|missing .*encoder.layer.1.output.dense.bias"),
        (cut_weights, "not a readable safetensors file"),
        (ask_for_a_dense_module, "asks for Dense"),
        (pool_the_maximum, "pooling_mode_max_tokens"),
        (shutil.rmtree, "does not exist"),
    ],
)
def test_unusable_directories_are_refused_with_the_reason(broken, damage, message):
    damage(broken)
    with pytest.raises(TeacherError, match=message) as caught:
        load_teacher(TeacherSettings(path=broken))
    assert str(broken) in str(caught.value)
    assert caught.value.hint


def test_all_missing_variables_are_listed(broken):
    drop_variable(broken)
    with pytest.raises(TeacherError) as caught:
        load_teacher(TeacherSettings(path=broken))
    for name in ("encoder.layer.1.output.dense.bias", "embeddings.LayerNorm.weight"):
        assert name in str(caught.value)


def test_pooling_setting_overrides_what_the_directory_cannot(broken):
    pool_the_maximum(broken)
    assert open_teacher(TeacherSettings(path=broken, pooling="cls")).pooling == "cls"
