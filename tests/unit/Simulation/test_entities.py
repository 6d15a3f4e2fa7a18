"""Who is asked for, by which chance."""

from __future__ import annotations

import gzip
from collections import Counter
from typing import Any

import pytest

from Simulation import entities
from Simulation.entities import EntitiesError
from Simulation.plan import Plan

pytestmark = pytest.mark.unit

IDS = [f"H{number:03}" for number in range(100)]


def plan(**other: Any) -> Plan:
    return Plan(**{"name": "x", "workers": 2, "rates": (1.0,), "seconds": 1, **other})


def drawn(made: Plan, worker: int, number: int, ids: list[str] = IDS) -> list[str]:
    draw = entities.drawer(made, worker, ids)
    return [draw(1)[0] for _ in range(number)]


def test_uniform_ids_are_all_as_likely() -> None:
    counts = Counter(drawn(plan(), 0, 20_000))
    assert set(counts) == set(IDS)
    assert sum((count - 200) ** 2 / 200 for count in counts.values()) < 149  # chi-squared of 99: 0.1 % are above


def test_workers_draw_others_and_a_seed_the_same_again() -> None:
    assert drawn(plan(), 0, 50) == drawn(plan(), 0, 50)
    assert drawn(plan(), 0, 50) != drawn(plan(), 1, 50)
    assert drawn(plan(), 0, 50) != drawn(plan(seed=1), 0, 50)


def test_zipf_ranks_are_the_same_for_all_workers_and_have_their_shares() -> None:
    made = plan(ids="zipf:1.0")
    counts = [Counter(drawn(made, worker, 20_000)) for worker in (0, 1)]
    first, second = (of.most_common(2) for of in counts)
    assert [entity for entity, _ in first] == [entity for entity, _ in second]
    harmonic = sum(1 / rank for rank in range(1, 101))
    assert first[0][1] / 20_000 == pytest.approx(1 / harmonic, rel=0.05)
    assert first[1][1] / 20_000 == pytest.approx(0.5 / harmonic, rel=0.1)


def test_which_id_is_asked_for_most_is_of_the_seed() -> None:
    top = {Counter(drawn(plan(ids="zipf:2", seed=seed), 0, 200)).most_common(1)[0][0] for seed in range(10)}
    assert len(top) > 3


def test_a_trace_is_followed_in_order_by_all_workers_together_and_again() -> None:
    made = plan(ids="trace:s3://b/k")
    assert drawn(made, 0, 4, ["a", "b", "c", "d", "e"]) == ["a", "c", "e", "b"]
    assert drawn(made, 1, 4, ["a", "b", "c", "d", "e"]) == ["b", "d", "a", "c"]


@pytest.mark.parametrize("how", ["uniform", "zipf:1.1", "trace:s3://b/k"])
def test_many_are_no_one_twice(how: str) -> None:
    several = entities.drawer(plan(ids=how), 0, IDS)(20)
    assert 1 < len(several) == len(set(several)) <= 20


def test_more_than_there_are() -> None:
    assert sorted(entities.drawer(plan(), 0, ["a", "b"])(20)) == ["a", "b"]


@pytest.mark.parametrize("content", [b"a\n\nb \n", gzip.compress(b"a\nb", mtime=0), b"\xef\xbb\xbfa\r\nb\r\n"])
def test_a_trace_is_an_id_a_line_gzip_or_not(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entities.Bucket, "__init__", lambda self, name: None)
    monkeypatch.setattr(entities.Bucket, "read", lambda self, key, most: content)
    assert entities.trace("s3://b/k") == ["a", "b"]


@pytest.mark.parametrize("packed", [False, True])
def test_a_trace_that_is_too_large_in_memory(packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entities, "MOST_TRACE", 1000)
    monkeypatch.setattr(entities.Bucket, "__init__", lambda self, name: None)

    def content(lines: int) -> bytes:
        return gzip.compress(b"a\n" * lines, mtime=0) if packed else b"a\n" * lines

    for lines in (500, 501):
        monkeypatch.setattr(entities.Bucket, "read", lambda self, key, most, lines=lines: content(lines))
        if lines == 500:
            assert len(entities.trace("s3://b/k")) == 500
        else:
            with pytest.raises(EntitiesError, match="s3://b/k has more than 1,000 bytes: take a part of it"):
                entities.trace("s3://b/k")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\n \n", "is empty"), (b"\xff\xfe", "no text"), (gzip.compress(b"a\nb", mtime=0)[:-9], "no text")],
)
def test_what_is_no_trace(content: bytes, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entities.Bucket, "__init__", lambda self, name: None)
    monkeypatch.setattr(entities.Bucket, "read", lambda self, key, most: content)
    with pytest.raises(EntitiesError, match=f"The trace s3://b/k is .*{said}|{said}"):
        entities.trace("s3://b/k")
