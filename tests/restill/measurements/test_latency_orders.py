"""Latency ordered from another machine: what is in the object store while it is measured, and afterwards."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from registered import lineage

from restill.errors import IntegrityError, MeasurementFailed
from restill.manifests import Calibration
from restill.measurements.latency import orders
from restill.measurements.latency.records import Process, Run, Timings
from restill.registry import Registry

PAIRS = [("turn on the light", "switch the light on"), ("灯", "开灯")]
FILES = {"student.tflite": "litert", "tokenizer.json": "tokenizer", "student.json": "calibration", "log": "report"}


@pytest.fixture
def registry(store):
    return Registry(store, "default")


@pytest.fixture
def versions(registry, tmp_path):
    """Two versions whose files are as good as any: nothing here loads them."""
    made = []
    for name in ("challenger", "champion"):
        for file in FILES:
            (tmp_path / file).write_text(f"{file} of the {name}")
        made.append(
            registry.register(
                tmp_path,
                files=FILES,
                artifact_role="litert",
                signature={},
                calibration=Calibration(scale=8, bias=0.5, threshold=0.5),
                lineage=lineage(),
                training={},
            )
        )
    return made


@pytest.fixture
def conducted(monkeypatch):
    """Take the place of the processes; give what they were asked for."""
    asked = []

    def conduct(challenger, champion, pairs, **numbers):
        asked.append(SimpleNamespace(challenger=challenger, champion=champion, pairs=pairs, **numbers))
        table, process = np.ones((2, 50)), Process(1500.0, None, 4000.0)
        timings = Timings(table, None if champion is None else table, table, np.ones((2, 6)))
        return Run(timings, process, None if champion is None else process, numbers["threads"], "a server")

    monkeypatch.setattr(orders, "conduct", conduct)
    return asked


def place(registry, challenger, champion):
    return orders.place(registry, challenger, champion, PAIRS, requests=700, warmup=20, threads=2)


def test_an_order_is_fulfilled_from_the_registry_alone_and_leaves_nothing(
    registry, versions, conducted, store, tmp_path
):
    order = place(registry, *versions)
    orders.fulfil(order.key, store, tmp_path / "cache")
    (asked,) = conducted
    assert (asked.requests, asked.warmup, asked.threads, list(asked.pairs)) == (700, 20, 2, PAIRS)
    for artifact, name in ((asked.challenger, "challenger"), (asked.champion, "champion")):
        assert (artifact.folder / artifact.file).read_text() == f"student.tflite of the {name}"
        assert (artifact.folder / "tokenizer.json").is_file()
        assert not (artifact.folder / "log").exists()  # only what is served
    run = orders.collect(store, order)
    assert run.hardware == "a server"
    orders.remove(store, order)
    assert list(store.list(orders.ROOT)) == []


def test_each_attempt_is_an_order_of_its_own(registry, versions):
    assert place(registry, versions[0], None).key != place(registry, versions[0], None).key


def test_a_version_that_is_not_the_one_ordered_is_not_timed(registry, versions, conducted, store, tmp_path):
    order = place(registry, *versions)
    other = order.model_copy(
        update={"champion": order.champion.model_copy(update={"manifest_sha256": "0" * 64}), "nonce": "n"}
    )
    store.create(other.key, other.model_dump_json().encode())
    with pytest.raises(IntegrityError, match="expected SHA-256 0000"):
        orders.fulfil(other.key, store, tmp_path / "cache")
    assert conducted == []


def test_an_order_that_is_gone_or_is_another_is_refused(registry, versions, store, tmp_path):
    order = place(registry, versions[0], None)
    body = store.get(order.key)
    forged = f"{orders.ROOT}{'0' * 64}/order.json"
    store.create(forged, body)
    with pytest.raises(IntegrityError, match="not the order that it is named for"):
        orders.fulfil(forged, store, tmp_path)
    damaged = f"{orders.ROOT}{'1' * 64}/order.json"
    store.create(damaged, json.dumps({**json.loads(body), "requests": 0}).encode())
    with pytest.raises(IntegrityError, match="is no order: requests"):
        orders.fulfil(damaged, store, tmp_path)
    orders.remove(store, order)
    with pytest.raises(MeasurementFailed, match="There is no order"):
        orders.fulfil(order.key, store, tmp_path)


def test_a_run_that_is_missing_or_of_another_order_is_refused(registry, versions, conducted, store, tmp_path):
    alone = place(registry, versions[0], None)
    with pytest.raises(MeasurementFailed, match="has stored nothing"):
        orders.collect(store, alone)
    store.create(alone.run_key, orders.fulfil(place(registry, *versions).key, store, tmp_path).document())
    with pytest.raises(MeasurementFailed, match="not the run of this order"):
        orders.collect(store, alone)


def test_texts_that_a_dead_run_left_go_with_a_later_order_or_on_request(registry, versions, store, monkeypatch):
    left = place(registry, versions[0], None)
    now = datetime.now(UTC)
    monkeypatch.setattr(orders, "datetime", SimpleNamespace(now=lambda _: now + timedelta(days=1)))
    second = place(registry, versions[0], None)
    assert store.head(left.key) is not None  # it may still be under way
    monkeypatch.setattr(orders, "datetime", SimpleNamespace(now=lambda _: now + timedelta(days=3)))
    third = place(registry, versions[0], None)
    assert [found.key for found in store.list(orders.ROOT)] == [third.key]
    assert store.head(second.key) is None
    orders.forget(store)
    assert list(store.list(orders.ROOT)) == []
