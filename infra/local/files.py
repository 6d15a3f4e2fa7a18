"""Write the stack's files: whole or not at all, and readable by their owner only where they hold a secret."""

from __future__ import annotations

import os
from pathlib import Path


def write_private(file: Path, text: str | bytes) -> None:
    """Write a file of mode 0600 by way of a file beside it, so that no reader ever sees half of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    part.unlink(missing_ok=True)  # an older one could have another mode
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(text.encode() if isinstance(text, str) else text)
    part.rename(file)
