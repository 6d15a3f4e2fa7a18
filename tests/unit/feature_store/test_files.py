"""Paths and URIs, and small files that are there as a whole or not at all."""

from __future__ import annotations

import threading
from pathlib import Path

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
