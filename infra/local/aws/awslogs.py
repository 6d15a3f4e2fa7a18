"""The log driver awslogs: what a container writes becomes events of a log stream, line by line while it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

LOOK_SECONDS = 0.2
LONGEST = 256 * 1024  # bytes of a line; CloudWatch takes no longer event, and the driver splits it as here
FILES = ("stderr", "stdout")  # of one look in this order: what a program sums up in its last line is in stdout

# Takes (milliseconds since the epoch, line) in the order of time.
Put = Callable[[list[tuple[int, str]]], None]


class Follower:
    """Follows the files to which a process writes, in a thread."""

    def __init__(self, folder: Path, put: Put) -> None:
        """Take the folder with stdout and stderr, and what takes the lines."""
        self._files = [folder / name for name in FILES]
        self._read = dict.fromkeys(self._files, 0)
        self._put = put
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"awslogs {folder.parent.name}", daemon=True)

    def start(self) -> None:
        """Start to follow; from now on there is a log, if an empty one."""
        self._put([])
        self._thread.start()

    def finish(self) -> None:
        """Take what there is at the end of the process, a last line without its end too, and stop."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self._look(whole=True)

    def _follow(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self._look(whole=False)

    def _look(self, *, whole: bool) -> None:
        lines = [line for file in self._files for line in self._lines(file, whole=whole)]
        if lines:
            now = time.time_ns() // 1_000_000
            self._put([(now, line) for line in lines])

    def _lines(self, file: Path, *, whole: bool) -> list[str]:
        if not file.exists():
            return []
        with file.open("rb") as opened:
            opened.seek(self._read[file])
            text = opened.read()
        if not whole:
            text = text[: text.rfind(b"\n") + 1]
        self._read[file] += len(text)
        # An event may not be empty.
        lines = [line for line in text.split(b"\n") if line.strip()]
        return [
            line[at : at + LONGEST].decode(errors="replace") for line in lines for at in range(0, len(line), LONGEST)
        ]
