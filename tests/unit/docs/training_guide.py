"""What the guide to training sets finds where it looks: tables of two households' features, and events."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from deltalake import write_deltalake

from feature_store import compute, registry
from infra.local.settings import ROOT
from tests.unit.feature_store.in_process import household

GUIDE = (ROOT / "docs/guide/training.md").read_text()
# Those of the first example.
EVENTS = """id,event_time,label
MAC000002,2014-02-10 15:00:00,1
MAC000002,2014-02-11 00:00:00,0
MAC000003,2014-02-10 08:30:00,1
"""


def lay_out(folder: Path) -> Path:
    """Put the tables where the guide has them."""
    readings = pa.concat_tables([household("MAC000002", 829), household("MAC000003", 829)])
    for view in registry.views()[:2]:
        write_deltalake(folder / "path/to/delta" / view.name, compute.features(view, readings), mode="overwrite")
    return folder
