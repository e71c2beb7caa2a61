import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from factories import write_tiny_cross_encoder, write_tiny_teacher
from safetensors.numpy import load_file, save_file

from restill.errors import IntegrityError, TeacherError
from restill.settings import TeacherSettings
from restill.teachers import digests, files, fingerprint, load_teacher, open_teacher


def test_plain_vocabulary_tokenizes_as_the_published_tokenizer(tmp_path, sentences):
    published = open_teacher(TeacherSettings())
    for name in ("config.json", "vocab.txt", "tokenizer_config.json"):
        shutil.copy(published.directory / name, tmp_path / name)
    (tmp_path / "model.safetensors").symlink_to(published.weights_path)
    plain = open_teacher(TeacherSettings(path=tmp_path))
    for sentence in [*sentences, "Crème brûlée\tÀ la carte", "[SEP] inside", "unaffable" * 30, ""]:
        assert plain.tokenizer.encode(sentence).ids == published.tokenizer.encode(sentence).ids
        pairs = [opened.tokenizer.encode(sentence, "another one") for opened in (plain, published)]
        assert (pairs[0].ids, pairs[0].type_ids) == (pairs[1].ids, pairs[1].type_ids)


def test_fingerprint_needs_no_tensorflow_and_is_the_loaded_teachers(tiny, teacher):
    code = (
        "import sys; from pathlib import Path; from restill.settings import TeacherSettings\n"
        "from restill.teachers import fingerprint\n"
        "print(fingerprint(TeacherSettings(path=Path(sys.argv[1]))), 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tiny)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [teacher.fingerprint, "False"]


def test_fingerprint_changes_with_whatever_changes_an_output(tiny, tmp_path, monkeypatch):
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
        changed(precision="bfloat16"),
        changed(precision="float16"),
    ]
    assert len(set(prints)) == len(prints)
    assert changed(pooling="cls") == changed(path=other_pooling)
    assert changed(path=copied("same")) == changed(batch_tokens=64) == prints[0]
    monkeypatch.setattr(files, "ENCODER_VERSION", files.ENCODER_VERSION + 1)
    assert fingerprint(base) not in prints


def test_fingerprint_changes_with_the_kind_alone(tmp_path):
    base = TeacherSettings(path=write_tiny_cross_encoder(tmp_path / "cross"), pooling="pooler-tanh")
    kinds = ["cross-encoder", "bi-encoder"]
    cross, bi = (open_teacher(base.model_copy(update={"kind": kind})) for kind in kinds)
    assert cross.pooling == bi.pooling
    assert cross.fingerprint() != bi.fingerprint()
    assert cross.fingerprint() == fingerprint(base)


def test_digest_cache_saves_hashing_and_notices_a_change(broken, tmp_path, monkeypatch):
    settings, cache = TeacherSettings(path=broken), tmp_path / "state" / "digests.json"
    first = fingerprint(settings, cache=cache)
    assert first == fingerprint(settings)
    hashed: list[str] = []
    whole_file = digests.sha256
    monkeypatch.setattr(digests, "sha256", lambda path: hashed.append(path.name) or whole_file(path))
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


def pool_by_name(folder: Path, mode: object) -> None:
    """As newer versions of sentence-transformers write it."""
    modes = {"embedding_dimension": 32, "pooling_mode": mode, "include_prompt": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))


def quantise(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.LayerNorm.bias"] = np.zeros(32, np.int8)
    save_file(weights, folder / "model.safetensors")


def name_a_variable_twice(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"bert.embeddings.LayerNorm.beta": np.zeros(32, np.float32)}, folder / "model.safetensors")


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
        (drop_variable, r"missing encoder.layer.1.output.dense.bias"),
        (cut_weights, "not a readable safetensors file"),
        (ask_for_a_dense_module, "asks for Dense"),
        (pool_the_maximum, "pooling_mode_max_tokens"),
        (shutil.rmtree, "does not exist"),
        (lambda folder: edit_json(folder / "config.json", num_hidden_layers=10**12), "num_hidden_layers: .*less than"),
        (lambda folder: edit_json(folder / "config.json", pad_token_id=538), "pad_token_id 538 is outside"),
        (lambda folder: edit_json(folder / "config.json", embedding_size=16), "no factorised embeddings"),
        (lambda folder: edit_json(folder / "config.json", is_decoder=True), "is_decoder"),
        (quantise, "embeddings.LayerNorm.bias has type I8 instead of a floating-point type"),
        (name_a_variable_twice, "holds embeddings.LayerNorm.bias twice"),
        (lambda folder: pool_by_name(folder, ["mean", "max"]), "asks for max, mean"),
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


@pytest.mark.parametrize(("mode", "pooling"), [("cls", "cls"), ("mean", "mean"), (["mean"], "mean")])
def test_pooling_is_read_in_its_newer_form(broken, mode, pooling):
    pool_by_name(broken, mode)
    assert open_teacher(TeacherSettings(path=broken)).pooling == pooling


def test_prompt_that_is_left_out_of_the_pooling_is_refused(broken):
    edit_json(broken / "1_Pooling" / "config.json", include_prompt=False)
    assert open_teacher(TeacherSettings(path=broken)).pooling == "mean"
    with pytest.raises(TeacherError, match="leaves the prompt's tokens out"):
        open_teacher(TeacherSettings(path=broken, prompt="query: "))


def test_many_faults_are_counted(broken):
    edit_json(broken / "config.json", num_hidden_layers=6)
    with pytest.raises(TeacherError, match=r"missing encoder\.layer\.2.*; and 44 more"):
        load_teacher(TeacherSettings(path=broken))


@pytest.fixture
def in_two_files(tiny: Path, tmp_path: Path) -> Path:
    """The tiny teacher as large models are published: two files, and an index that says what is where."""
    folder = Path(shutil.copytree(tiny, tmp_path / "two"))
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {f"model-0000{number + 1}-of-00002.safetensors": names[number::2] for number in range(2)}
    for file, own in parts.items():
        save_file({name: weights[name] for name in own}, folder / file)
    index = {"metadata": {}, "weight_map": {name: file for file, own in parts.items() for name in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_weights_in_several_files_are_read_and_all_are_in_the_fingerprint(in_two_files, teacher, sentences):
    settings = TeacherSettings(path=in_two_files)
    np.testing.assert_array_equal(load_teacher(settings).encode(sentences), teacher.encode(sentences))
    prints = [fingerprint(settings)]
    for part in sorted(in_two_files.glob("model-*.safetensors")):
        save_file({name: value + 1 for name, value in load_file(part).items()}, part)
        prints.append(fingerprint(settings))
    assert len(set(prints)) == 3


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "model-00002-of-00002.safetensors").unlink(), "lacks 1 of the 2 files"),
        (lambda folder: (folder / "model-00002-of-00002.safetensors").write_bytes(b"x"), "00002-of-00002.* readable"),
        (
            lambda folder: shutil.copy(
                folder / "model-00001-of-00002.safetensors", folder / "model-00002-of-00002.safetensors"
            ),
            "which another file of the model holds too",
        ),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../b"}}'),
            "names '../b', no file beside it",
        ),
        (lambda folder: (folder / "model.safetensors.index.json").write_text("{}"), "weight_map"),
    ],
)
def test_weights_in_several_files_that_are_damaged_are_refused(in_two_files, damage, says):
    damage(in_two_files)
    with pytest.raises(TeacherError, match=says) as refused:
        load_teacher(TeacherSettings(path=in_two_files))
    assert refused.value.hint


def test_other_weights_with_the_old_time_are_another_teacher(tiny, tmp_path):
    """As a restored backup, or an image with fixed times, has them: of the same size, too."""
    folder = Path(shutil.copytree(tiny, tmp_path / "restored"))
    weights, cache = folder / "model.safetensors", tmp_path / "digests.json"
    settings = TeacherSettings(path=folder)
    before, stat = fingerprint(settings, cache=cache), weights.stat()
    save_file({name: value + 1 for name, value in load_file(weights).items()}, weights)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (weights.stat().st_size, weights.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert fingerprint(settings, cache=cache) != before


def test_weights_that_change_while_they_are_read_are_refused(tiny, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(tiny, tmp_path / "changing"))
    other = write_tiny_teacher(tmp_path / "other", seed=1)
    original = files.TeacherFiles.read_weights

    def replaced(self):
        shutil.copy(other / "model.safetensors", folder / "model.safetensors")
        return original(self)

    monkeypatch.setattr(files.TeacherFiles, "read_weights", replaced)
    with pytest.raises(TeacherError, match="changed while they were read"):
        load_teacher(TeacherSettings(path=folder))


def test_pooling_is_read_where_modules_json_has_it(tiny, tmp_path):
    folder = Path(shutil.copytree(tiny, tmp_path / "moved"))
    (folder / "2_Pooling").mkdir()
    (folder / "2_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    modules = [{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "2_Pooling"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    assert open_teacher(TeacherSettings(path=folder)).pooling == "cls"
    modules[1]["path"] = "../elsewhere"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(TeacherError, match="no folder beside it"):
        open_teacher(TeacherSettings(path=folder))
