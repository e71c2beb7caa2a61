"""A crash at any write leaves a valid registry, and nobody ever sees a version that is not whole.

The processes are real, the server is real; a reader looks all the time.
"""

import json
import secrets
import signal

import pytest
from crashing import Orders
from registered import artifact, register
from watching import watched

from restill.registry import Registry


@pytest.fixture(scope="module")
def orders(server_connection):
    running = Orders(server_connection)
    yield running
    running.close()


def promote(registry, manifest, expected):
    return registry.promote(
        manifest.version, alias="champion", expected=expected, reason="better", promoted_by="me", verdict_sha256=None
    )


def history(registry, tmp_path, numbers):
    """Register as many versions as numbers, and promote those whose number is true, in turn."""
    made, entry = [], None
    for place, promoted in enumerate(numbers):
        folder = artifact(tmp_path / f"{registry.store.connection.prefix}-{place}")
        made.append(register(registry, folder, training_key=f"key {place}"))
        if promoted:
            entry = promote(registry, made[-1], entry)
    return made


def prepare_register(registry, tmp_path):
    history(registry, tmp_path, [True])
    return {"folder": str(artifact(tmp_path / f"{registry.store.connection.prefix}-new"))}


def prepare_promote(registry, tmp_path):
    (made,) = history(registry, tmp_path, [False])
    return {"version": made.version}


def prepare_rollback(registry, tmp_path):
    history(registry, tmp_path, [True, True])
    return {}


def prepare_repair(registry, tmp_path):
    history(registry, tmp_path, [True, True])
    store = registry.store
    store.delete("registry/default/champion.json")
    store.delete("serving/default/2/saved_model.pb")
    store.create("serving/default/2/stray", b"x")
    for name in ("saved_model.pb", "variables"):
        store.create(f"serving/default/7/{name}", b"x")
    return {}


def prepare_gc(registry, tmp_path):
    """Give it something of every kind to remove: candidates, former champions, garbage, old numbered directories."""
    made = history(registry, tmp_path, [True, True, True, False])
    registry.add_verdict(made[3].version, b"{}")
    registry.add_evidence(made[3].version, "timings", b"{}")
    registry.store.create(f"registry/default/blobs/sha256/{secrets.token_hex(32)}", b"of a crashed registration")
    # Marked by an earlier run: this one removes them.
    for version in (made[0].version, made[3].version):
        registry.store.create(f"registry/default/versions/{version}/retired.json", b"{}")
    return {"days": 30, "keep": 1, "candidates": 14}


@pytest.mark.parametrize("operation", ["register", "promote", "rollback", "repair", "gc"])
def test_killed_at_each_write_in_turn_it_is_done_in_the_end(operation, orders, store, tmp_path):
    """Each run is killed after one write more. After each kill the registry is valid; the last run completes it."""
    registry = Registry(store, "default")
    order = PREPARE[operation](registry, tmp_path) | {"prefix": store.connection.prefix}
    before = registry.history("champion")
    announced = 1 if operation == "gc" else 0  # its first write is only the announcement
    kills = 0
    with watched(store, tmp_path / "cache"):
        assert orders(operation=operation, number=1, **order) == -signal.SIGKILL
        doing = operation
        while (code := orders(operation=doing, number=2 + announced, **order)) == -signal.SIGKILL:
            kills += 1
            assert registry.verify() == []
            assert registry.history("champion")[: len(before)] == before
            if operation == "rollback":  # its entry is written: again would go further back
                doing = "repair"
        assert code == 0
    assert registry.verify() == []
    CHECKS[operation](registry, before)
    assert kills == KILLS[operation]


def check_register(registry, before):
    assert len(registry.versions()) == 2


def check_promote(registry, before):
    (entry,) = registry.history("champion")
    assert json.loads(registry.store.get("registry/default/champion.json"))["version"] == entry.version


def check_rollback(registry, before):
    assert [entry.action for entry in registry.history("champion")] == ["promote", "promote", "rollback"]
    assert registry.champion("champion").version == before[0].version
    assert json.loads(registry.store.get("registry/default/champion.json"))["sequence"] == 3
    assert [item.key for item in registry.store.list("serving/default/3/")] == ["serving/default/3/saved_model.pb"]


def check_repair(registry, before):
    assert json.loads(registry.store.get("registry/default/champion.json"))["sequence"] == 2
    keys = [item.key for item in registry.store.list("serving/default/")]
    assert keys == ["serving/default/1/saved_model.pb", "serving/default/2/saved_model.pb"]


def check_gc(registry, before):
    left = {manifest.version for manifest in registry.versions()}
    assert left == {before[1].version, before[2].version}  # the champion, and what a rollback would go to
    named = {file.sha256 for manifest in registry.versions() for file in manifest.files}
    assert {item.key[-64:] for item in registry.store.list("registry/default/blobs/")} == named
    # The mark of a former champion stays; of what never was one, nothing does.
    beside = {item.key.split("/")[3] for item in registry.store.list("registry/default/versions/")}
    assert beside == left | {before[0].version}
    assert next(item.key for item in registry.store.list("serving/")).startswith("serving/default/2/")


PREPARE = {
    "register": prepare_register,
    "promote": prepare_promote,
    "rollback": prepare_rollback,
    "repair": prepare_repair,
    "gc": prepare_gc,
}
CHECKS = {
    "register": check_register,
    "promote": check_promote,
    "rollback": check_rollback,
    "repair": check_repair,
    "gc": check_gc,
}
KILLS = {"register": 3, "promote": 2, "rollback": 2, "repair": 4, "gc": 13}


def test_of_64_processes_exactly_one_wins_each_of_100_numbers(orders, store, tmp_path):
    """The first number is wanted by all 64 at once, each other one by 3, in turn by all 64."""
    registry = Registry(store, "default")
    (made,) = history(registry, tmp_path, [False])
    groups = [list(range(64)) if turn == 0 else [(3 * turn + place) % 64 for place in range(3)] for turn in range(100)]
    answers = tmp_path / "answers"
    answers.mkdir()
    with watched(store, tmp_path / "cache"):
        code = orders(
            operation="compete",
            prefix=store.connection.prefix,
            processes=64,
            groups=groups,
            version=made.version,
            folder=str(answers),
        )
    assert code == 0
    told = [tuple(answer) for path in answers.iterdir() for answer in json.loads(path.read_text())]
    assert len(told) == sum(len(group) for group in groups)
    won = sorted(answer for answer in told if answer[1] == "won")
    stored = registry.history("champion")
    assert [(turn, sequence) for turn, _, sequence, _ in won] == [(number, number) for number in range(1, 101)]
    assert [entry.promotion_id for entry in stored] == [nonce for *_, nonce in won]
    assert len({entry.promoted_by for entry in stored}) > 20
    assert registry.verify() == []
    assert json.loads(store.get("registry/default/champion.json"))["sequence"] == 100
