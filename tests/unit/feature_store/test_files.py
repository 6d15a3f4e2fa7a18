"""Paths and URIs, and small files that are there as a whole or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from feature_store import files

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("uri", ["/a/b", "file:/a/b", "file:///a/b"])
def test_the_ways_to_name_a_file_of_this_machine(uri: str) -> None:
    assert files.locate(uri) == (files.LOCAL, "/a/b")


@pytest.mark.parametrize("path", ["a/b", "a:b/c", "a b/%20#"])
def test_a_path_stays_as_it_is(path: str) -> None:
    assert files.locate(path) == (files.LOCAL, path)


@pytest.mark.parametrize("uri", ["hdfs://host/a", "file:a/b", "file://host/a", "gs://bucket/key", "http://host/a"])
def test_what_is_neither_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="is neither a path, nor a URI of a file or of S3"):
        files.locate(uri)


def test_a_file_is_never_half_written(tmp_path: Path) -> None:
    """Two write and one reads, all the time: each look sees one of the two texts, and nothing is left lying about."""
    file, texts = tmp_path / "folder" / "state.json", ["a" * 100_000, "b" * 100_000]
    files.write_text(str(file), texts[0])
    seen: set[str] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            seen.add(file.read_text())

    def write(text: str) -> None:
        for _ in range(200):
            files.write_text(str(file), text)

    watcher, *writers = (
        threading.Thread(target=watch),
        *(threading.Thread(target=write, args=(text,)) for text in texts),
    )
    for thread in (watcher, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    ended.set()
    watcher.join()
    assert seen <= set(texts)
    assert [each.name for each in file.parent.iterdir()] == ["state.json"]


def add(name: str) -> Callable[[str | None], str]:
    """A change that adds a word to a text."""
    return lambda text: f"{text or ''}{name} "


def test_changes_of_a_file_that_happen_at_once_are_all_in_it(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "state.txt"
    names = [f"{writer}-{number}" for writer in range(4) for number in range(25)]

    def write(writer: int) -> None:
        for number in range(25):
            files.update_text(str(file), add(f"{writer}-{number}"))

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    assert sorted(file.read_text().split()) == sorted(names)
    assert [each.name for each in file.parent.iterdir()] == ["state.txt"]


class TestObject:
    """On S3, where a writer can't lock: the one that was second sees it, and changes what the first has left."""

    @pytest.fixture
    def s3(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        import boto3
        from moto import mock_aws

        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
            monkeypatch.delenv(name, raising=False)
        with mock_aws():
            client = boto3.client("s3", region_name="us-east-1")
            client.create_bucket(Bucket="lake")
            # What Arrow says of a bucket is the integration tests' matter: it asks S3 itself.
            monkeypatch.setattr(files, "_bucket", lambda name: object())
            yield client

    def text(self, s3: Any) -> str:
        return str(s3.get_object(Bucket="lake", Key="a/b.json")["Body"].read().decode())

    def test_is_made_and_changed(self, s3: Any) -> None:
        for name in ("one", "two"):
            files.update_text("s3://lake/a/b.json", add(name))
        assert self.text(s3) == "one two "

    @pytest.mark.parametrize("there", [True, False])
    def test_that_another_has_changed_meanwhile_keeps_both(self, s3: Any, there: bool) -> None:
        if there:
            files.update_text("s3://lake/a/b.json", add("before"))
        others = ["other"]

        def change(text: str | None) -> str:
            if others:
                files.update_text("s3://lake/a/b.json", add(others.pop()))
            return add("own")(text)

        files.update_text("s3://lake/a/b.json", change)
        assert self.text(s3) == ("before other own " if there else "other own ")

    def test_that_is_deleted_meanwhile_is_made_anew(self, s3: Any) -> None:
        files.update_text("s3://lake/a/b.json", add("before"))
        seen: list[str | None] = []

        def change(text: str | None) -> str:
            seen.append(text)
            s3.delete_object(Bucket="lake", Key="a/b.json")
            return add("own")(text)

        files.update_text("s3://lake/a/b.json", change)
        assert (seen, self.text(s3)) == (["before ", None], "own ")

    def test_that_others_change_each_time_is_given_up(self, s3: Any) -> None:
        def change(text: str | None) -> str:
            s3.put_object(Bucket="lake", Key="a/b.json", Body=f"{text}x".encode())
            return "own"

        with pytest.raises(OSError, match=f"others have changed it meanwhile, {files.TRIES} times"):
            files.update_text("s3://lake/a/b.json", change)
        assert "own" not in self.text(s3)

    def test_of_a_bucket_that_is_not_there_is_said(self, s3: Any) -> None:
        with pytest.raises(OSError, match=r"S3 does not take it: .*NoSuchBucket"):
            files.update_text("s3://other/a.json", add("own"))
