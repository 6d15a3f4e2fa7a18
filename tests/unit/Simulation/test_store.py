"""Where files are: in a bucket or a folder, alike; and what is said of a bucket that is none."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from Simulation import store as stores
from Simulation.store import Bucket, ExistsError, Folder, NoFileError, Store, StoreError

pytestmark = pytest.mark.unit


@pytest.fixture(params=["bucket", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return bucket(request, monkeypatch) if request.param == "bucket" else Folder(tmp_path / "new")


def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, name: str = "lake") -> Bucket:
    client: Any = request.getfixturevalue("s3")
    monkeypatch.setattr(stores.boto3, "client", lambda service, config: client)
    return Bucket(name)


def test_files_are_listed_by_name_and_read(store: Store) -> None:
    began = time.time()
    for key in ("a/2", "a/1", "b/1"):
        store.write(key, key.encode())
    assert [entry.key for entry in store.list("a/")] == ["a/1", "a/2"]
    assert store.read("a/2") == b"a/2"
    assert store.list("a/")[0].modified == pytest.approx(began, abs=30)
    assert store.now() == pytest.approx(time.time(), abs=5)


def test_a_file_is_written_anew_unless_it_is_to_be_new(store: Store) -> None:
    store.write("a", b"1", new=True)
    with pytest.raises(ExistsError, match="a is there already"):
        store.write("a", b"2", new=True)
    assert store.read("a") == b"1"
    store.write("a", b"3")
    assert store.read("a") == b"3"
    assert [entry.key for entry in store.list("")] == ["a"]


def test_no_such_file(store: Store) -> None:
    with pytest.raises(NoFileError, match="nothing is not there"):
        store.read("nothing")


def test_what_is_too_large_is_not_read(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    one = bucket(request, monkeypatch)
    one.write("a", b"1234")
    assert one.read("a", 4) == b"1234"
    with pytest.raises(StoreError, match="s3://lake/a has 4 bytes: 3 at most are read"):
        one.read("a", 3)


def test_no_such_bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    none = bucket(request, monkeypatch, "missing")
    for ask in (lambda: none.list("a"), lambda: none.write("a", b""), none.now):
        with pytest.raises(StoreError, match="There is no bucket missing: name one that is there by --bucket"):
            ask()


def test_a_bucket_of_a_name_that_none_can_have(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match=r"s3://a b/x can't be listed"):
        bucket(request, monkeypatch, "a b").list("x")
