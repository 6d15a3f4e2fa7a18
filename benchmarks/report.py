"""What a benchmark leaves behind: a table for people, and build/bench/NAME.json."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import psutil

OUT = Path(__file__).resolve().parents[1] / "build" / "bench"
COLUMNS = ("name", "seconds", "runs", "rows", "rows_per_s", "cpu_s", "peak_mb")
PACKAGES = ("pyspark", "delta-spark", "numpy", "pyarrow", "polars", "duckdb", "deltalake", "cassandra-driver")


def machine() -> dict[str, object]:
    """Say what the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def ratios(cases: Sequence[Mapping[str, object]], wanted: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Divide the seconds of one case by those of another, for the pairs of which both were measured."""
    seconds = {str(case["name"]): float(str(case["seconds"])) for case in cases}
    pairs = [(one, other) for one, other in wanted if one in seconds and other in seconds]
    return {f"{one}_over_{other}": round(seconds[one] / seconds[other], 3) for one, other in pairs}


def write(name: str, cases: Sequence[Mapping[str, object]], found: Mapping[str, float], **more: Sequence[str]) -> Path:
    """Write the JSON, with whatever more there is to say; returns its file."""
    OUT.mkdir(parents=True, exist_ok=True)
    file = OUT / f"{name}.json"
    file.write_text(json.dumps({"machine": machine(), "cases": cases, "ratios": found, **more}, indent=1) + "\n")
    return file


def table(cases: Sequence[Mapping[str, object]], names: Sequence[str] = COLUMNS) -> str:
    """Lay the cases out as text, so much of them as the names say."""
    rows = [[*names], *([_cell(case.get(name, "")) for name in names] for case in cases)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) if place == 0 else cell.rjust(width) for place, (cell, width) in enumerate(pairs))
        for pairs in ([*zip(row, widths, strict=True)] for row in rows)
    )


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)
