"""Sample drops: the same bytes everywhere, labels that are right, sentences that stay in one family and one drop."""

import builtins
import csv
import hashlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from restill.errors import ConfigurationError
from restill.sample import DROPS, Drop, write_drop
from restill.sample.dice import Dice
from restill.sample.families import normalise
from restill.sample.grammar import Meaning, load_grammar
from restill.sample.topics import COMMON, HELD_BACK, Topic
from restill.sample.words import Language, pool

Row = Mapping[str, str]

# data.dvc names the data set made from this file: changing a byte of drop 1 means a new data version.
DROP_1_SHA256 = "82bef824528d5f29e58913404c7bb86f306b777f9c62ee2b92ad4d23df26344e"
CHECKED_MEANINGS = 500


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[Drop, Path]:
    folder = tmp_path_factory.mktemp("drops")
    return {drop: write_drop(drop, folder) for drop in DROPS}


@pytest.fixture(scope="module")
def drops(files: dict[Drop, Path]) -> dict[Drop, list[Row]]:
    return {drop: read(path) for drop, path in files.items()}


def read(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def sentences(rows: list[Row]) -> set[tuple[str, str]]:
    return {(row["language"], normalise(row[side])) for row in rows for side in ("text_a", "text_b")}


def positive_share(rows: list[Row]) -> float:
    return sum(row["label"] == "1" for row in rows) / len(rows)


def component_sizes(rows: list[Row]) -> list[int]:
    """Return the number of pairs in each group of connected sentences (union-find)."""
    parent: dict[str, str] = {}

    def root(text: str) -> str:
        while parent.setdefault(text, text) != text:
            parent[text] = parent[parent[text]]
            text = parent[text]
        return text

    for row in rows:
        parent[root(normalise(row["text_a"]))] = root(normalise(row["text_b"]))
    return list(Counter(root(normalise(row["text_a"])) for row in rows).values())


def test_drop_1_is_pinned_to_the_byte(files: dict[Drop, Path]):
    assert hashlib.sha256(files["1"].read_bytes()).hexdigest() == DROP_1_SHA256


def test_another_process_with_another_hash_seed_writes_the_same_bytes(files: dict[Drop, Path], tmp_path: Path):
    code = "import sys, pathlib, restill.sample as s; [s.write_drop(d, pathlib.Path(sys.argv[1])) for d in s.DROPS]"
    here = os.environ.get("PYTHONHASHSEED", "")
    environment = {**os.environ, "PYTHONHASHSEED": "4242" if here != "4242" else "1"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=environment, timeout=120)
    for path in files.values():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_writing_replaces_an_old_file_and_leaves_nothing_else(tmp_path: Path):
    folder = tmp_path / "not" / "there"
    first = write_drop("2", folder).read_bytes()
    (folder / "sample-2.csv").write_bytes(b"old")
    assert write_drop("2", folder) == folder / "sample-2.csv"
    assert (folder / "sample-2.csv").read_bytes() == first
    assert [path.name for path in folder.iterdir()] == ["sample-2.csv"]


def test_files_are_plain_csv(files: dict[Drop, Path]):
    for path in files.values():
        content = path.read_bytes()
        assert content.startswith(b"text_a,text_b,label,source,language\n")
        assert b"\r" not in content
        assert content.endswith(b"\n")
        content.decode("utf-8")


def test_drops_have_the_promised_sizes(drops: dict[Drop, list[Row]]):
    assert 20_000 <= len(drops["1"]) <= 23_000
    assert len(sentences(drops["1"])) <= 11_000
    assert 5_000 <= len(drops["2"]) <= 7_000
    assert 3_800 <= len(drops["poisoned"]) <= 4_200
    assert len(drops["degrading"]) >= 14_000


@pytest.mark.parametrize("drop", ["1", "2", "degrading"])
def test_clean_drops_keep_every_row_rule(drops: dict[Drop, list[Row]], drop: Drop):
    rows = drops[drop]
    pairs = Counter((row["language"], *sorted((normalise(row["text_a"]), normalise(row["text_b"])))) for row in rows)
    assert max(pairs.values()) == 1  # neither twice, nor swapped, nor with two labels
    for row in rows:
        assert row["label"] in ("0", "1")
        assert normalise(row["text_a"]) != normalise(row["text_b"])
        for text in (row["text_a"], row["text_b"]):
            assert 2 <= len(text) <= 512
            assert text == " ".join(text.split())
            assert "\ufffd" not in text
            assert not set(text) & set("{}<>[]()|;:,.")  # no template left over
            if row["language"] == "zh":
                assert " " not in text


@pytest.mark.parametrize("drop", ["1", "2", "degrading"])
def test_clean_drops_are_alike_in_balance_language_and_sources(drops: dict[Drop, list[Row]], drop: Drop):
    rows = drops[drop]
    assert 0.40 <= positive_share(rows) <= 0.45
    assert 0.48 <= sum(row["language"] == "zh" for row in rows) / len(rows) <= 0.52
    found = {row["source"] for row in rows}
    assert len(found) <= 8
    assert all(source.startswith("home-assistant-") and source == source.lower() for source in found)
    assert {row["language"] for row in rows} == {"en", "zh"}


def test_later_drops_pass_for_more_of_the_same(drops: dict[Drop, list[Row]]):
    """Mean length within a factor of 3 and at most a fifth of the characters unseen: the default batch rules."""
    known = {character for _, text in sentences(drops["1"]) for character in text}
    usual = mean_length(drops["1"])
    for drop in ("2", "degrading"):
        text = "".join(row["text_a"] + row["text_b"] for row in drops[drop]).casefold()
        assert usual / 2 < mean_length(drops[drop]) < usual * 2
        assert sum(character not in known for character in text) / len(text) < 0.15


def mean_length(rows: list[Row]) -> float:
    return sum(len(row["text_a"]) + len(row["text_b"]) for row in rows) / (2 * len(rows))


@pytest.mark.parametrize("drop", ["1", "2", "degrading"])
def test_connected_sentences_stay_few(drops: dict[Drop, list[Row]], drop: Drop):
    sizes = component_sizes(drops[drop])
    assert max(sizes) <= 100
    assert len(sizes) >= 50  # enough groups for a split by group


def test_no_sentence_is_in_two_drops(drops: dict[Drop, list[Row]]):
    found = {drop: sentences([row for row in rows if len(row["text_a"]) < 512]) for drop, rows in drops.items()}
    blank = {("en", ""), ("zh", "")}
    for one in DROPS:
        for other in DROPS:
            if one < other:
                assert not (found[one] & found[other]) - blank, (one, other)


def test_most_of_drop_2_is_of_a_kind_that_drop_1_lacks(drops: dict[Drop, list[Row]]):
    known = {row["source"] for row in drops["1"]}
    assert 0.75 <= sum(row["source"] not in known for row in drops["2"]) / len(drops["2"]) <= 0.95


def test_half_of_the_poisoned_rows_break_a_row_rule(drops: dict[Drop, list[Row]]):
    rows = drops["poisoned"]
    labels: dict[tuple[str, str], set[str]] = {}
    times = Counter((row["text_a"], row["text_b"], row["label"]) for row in rows)
    for row in rows:
        labels.setdefault((row["text_a"], row["text_b"]), set()).add(row["label"])
    reasons: Counter[str] = Counter()
    seen: set[tuple[str, str, str]] = set()
    for row in rows:
        a, b, label = row["text_a"], row["text_b"], row["label"]
        if not a or not b:
            reasons["empty"] += 1
        elif not a.strip() or not b.strip():
            reasons["blank"] += 1
        elif label not in ("0", "1"):
            reasons["label"] += 1
        elif "\ufffd" in a + b:
            reasons["characters"] += 1
        elif a == b and label == "0":
            reasons["identical"] += 1
        elif max(len(a), len(b)) > 512:
            reasons["too long"] += 1
        elif len(labels[a, b]) > 1:
            reasons["contradictory"] += 1
        elif times[a, b, label] > 1 and (a, b, label) in seen:
            reasons["duplicate"] += 1
        seen.add((a, b, label))
    assert len(reasons) == 8
    assert min(reasons.values()) > 100
    assert 0.45 <= reasons.total() / len(rows) <= 0.55


def test_labels_are_wrong_where_they_are_poisoned_and_where_they_degrade(drops: dict[Drop, list[Row]]):
    """Shared words speak for a match in drop 1, and against it where the labels are wrong."""

    def overlap_gap(rows: list[Row]) -> float:
        shares: dict[str, list[float]] = {"0": [], "1": []}
        for row in rows:
            a, b = set(row["text_a"].split()), set(row["text_b"].split())
            if row["language"] == "en" and row["label"] in shares and a and b and len(row["text_a"]) < 512:
                shares[row["label"]].append(len(a & b) / len(a | b))
        return sum(shares["1"]) / len(shares["1"]) - sum(shares["0"]) / len(shares["0"])

    assert overlap_gap(drops["1"]) > 0.15
    assert overlap_gap(drops["poisoned"][0::2]) < -0.15
    assert overlap_gap(drops["degrading"]) < -0.15


def topic_of(source: str, combination: str, act: str) -> Topic:
    return next(
        topic
        for topic in (*COMMON, *HELD_BACK)
        if topic.source == source and topic.combination == combination and act in topic.acts
    )


def said(language: Language, source: str, combination: str, act: str, tries: int = 3000, **slots: Any) -> set[str]:
    meaning = Meaning(topic_of(source, combination, act), act, tuple(sorted(slots.items())))
    return set(load_grammar(language).utterances(meaning, Dice("test", language), tries=tries))


def test_ways_to_say_one_thing_are_one_meaning():
    """Read by a person: these are said for the same purpose, so any two of them are a positive pair."""
    assert said("en", "light", "area_domain", "HassTurnOn", area="kitchen") >= {
        "turn on the kitchen lights",
        "switch the kitchen lights on",
        "activate all the kitchen lights",
    }
    assert said("zh", "light", "area_domain", "HassTurnOn", area="厨房") >= {
        "打开厨房的灯",
        "把厨房的灯打开",
        "开启厨房灯光",
    }
    assert said("zh", "climate", "area_temperature", "HassClimateSetTemperature", area="客厅", temperature=26) >= {
        "把客厅空调调成26度",
        "把客厅的空调设为26度",
    }
    assert said("en", "timer", "name_only", "HassCancelTimer", name="pasta") >= {
        "cancel the pasta timer",
        "stop my timer for pasta",
    }


@pytest.mark.parametrize(
    ("language", "source", "combination", "one", "other"),
    [
        ("en", "light", "area_domain", ("HassTurnOn", {"area": "kitchen"}), ("HassTurnOff", {"area": "kitchen"})),
        ("en", "light", "area_domain", ("HassTurnOn", {"area": "kitchen"}), ("HassTurnOn", {"area": "pantry"})),
        ("zh", "light", "area_domain", ("HassTurnOn", {"area": "厨房"}), ("HassTurnOff", {"area": "厨房"})),
        ("zh", "lock", "name_only", ("HassTurnOn", {"name": "前门"}), ("HassTurnOff", {"name": "前门"})),
        (
            "zh",
            "climate",
            "area_temperature",
            ("HassClimateSetTemperature", {"area": "客厅", "temperature": 26}),
            ("HassClimateSetTemperature", {"area": "客厅", "temperature": 20}),
        ),
        ("en", "timer", "name_only", ("HassPauseTimer", {"name": "tea"}), ("HassCancelTimer", {"name": "tea"})),
        ("zh", "timer", "name_only", ("HassPauseTimer", {"name": "泡茶"}), ("HassCancelTimer", {"name": "泡茶"})),
    ],
)
def test_opposites_and_other_values_never_sound_the_same(
    language: Language,
    source: str,
    combination: str,
    one: tuple[str, dict[str, Any]],
    other: tuple[str, dict[str, Any]],
):
    first = said(language, source, combination, one[0], **one[1])
    second = said(language, source, combination, other[0], **other[1])
    assert first
    assert second
    assert not first & second


def test_labels_follow_from_the_sentences_alone(drops: dict[Drop, list[Row]]):
    """Rows whose meaning shows in the words: one device, on in one sentence and off in the other, is never a match."""
    on, off = ("turn on ", "switch on ", "activate "), ("turn off ", "switch off ", "deactivate ")
    opposite = matching = 0
    for row in drops["1"]:
        if row["language"] != "en":
            continue
        a, b = row["text_a"], row["text_b"]
        if (a.startswith(on) and b.startswith(off)) or (a.startswith(off) and b.startswith(on)):
            assert row["label"] == "0", (a, b)
            opposite += 1
        elif a.startswith(on) and b.startswith(on) and thing(a) == thing(b):
            assert row["label"] == "1", (a, b)
            matching += 1
    assert opposite > 20
    assert matching > 20


def thing(command: str) -> str:
    left = command.removesuffix(" for me").removesuffix(" please")
    words = [word for word in left.split() if word not in ("turn", "switch", "activate", "on", "the", "my")]
    return " ".join(words)


def test_every_topic_can_be_said_in_each_of_its_languages():
    for topic in (*COMMON, *HELD_BACK):
        for language in topic.languages:
            for act in topic.acts:
                slots = {slot: pool(language, name)[0] for slot, name in topic.pools.items()}
                found = said(language, topic.source, topic.combination, act, tries=CHECKED_MEANINGS, **slots)
                assert len(found) >= 3, (topic.source, topic.combination, act, language)


def test_missing_packages_are_a_configuration_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.startswith("restill.sample.") and not name.endswith("drops")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("restill.sample.recipes")
    monkeypatch.delitem(sys.modules, "hassil")
    real_import = builtins.__import__

    def without_hassil(name: str, *rest: Any, **named: Any) -> Any:
        if name.split(".")[0] == "hassil":
            raise ModuleNotFoundError("No module named 'hassil'", name="hassil")
        return real_import(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without_hassil)
    with pytest.raises(ConfigurationError, match="hassil") as caught:
        write_drop("1", tmp_path)
    assert "restill[embedded]" in caught.value.hint
    assert not list(tmp_path.iterdir())
