"""The whole online table beside what was certified of its days, also rows that nobody asked for."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Mapping, Sequence

import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.compute as pc  # type: ignore[import-untyped]  # the same

from feature_store.calendar import named
from feature_store.sync import cells
from feature_store.sync.certificates import Certificate
from feature_store.sync.changes import Features, FeaturesError
from feature_store.sync.online_table import Compared, OnlineTable, part_of
from feature_store.view import FeatureView

PART_ROWS = 2_000_000  # of Delta, that are held while a part of the whole table is compared

log = logging.getLogger(__name__)


def compare_whole(
    features: Features, online: OnlineTable, known: Mapping[dt.date, Certificate], *, mend: bool
) -> tuple[Compared, list[dt.date]]:
    """Compare the whole online table with what was certified of its days, and mend it if asked to.

    Args:
        features: at any version.
        online: the table.
        known: its certificates.
        mend: whether to write what is missing or different, and to delete what should not be there.

    Returns:
        What was found, summed up (with some of the rows), and the days that could not be looked at: a run has begun
        with them and not ended, or the version that is online of them is gone from Delta.

    Raises:
        FeaturesError: the features can't be read.
        OnlineError: the table can't be.
    """
    by_version: dict[int, list[dt.date]] = {}
    unsure = sorted(day for day, each in known.items() if each.open or each.features_id != features.id)
    for day, each in known.items():
        if day not in unsure and each.rows and each.features_version is not None:
            by_version.setdefault(each.features_version, []).append(day)
    tables = []
    for version, days in sorted(by_version.items()):
        try:
            at = features.at(version)
            at.rows(days, columns=[key.name for key in features.view.keys])  # its files are there
        except FeaturesError as gone:
            log.warning("%s: of %s, nothing can be compared.", gone, named(days))
            unsure += days
        else:
            tables.append((at, sorted(days)))
    passed_over = {cells.day_bytes(day) for day in unsure}
    parts = max(1, -(-sum(each.rows for each in known.values()) // PART_ROWS))
    found = Compared()
    for part in range(parts):
        compared = online.compare_all(_part(tables, features.view, part, parts), part, parts)
        compared.left_over = [key for key in compared.left_over if key[1] not in passed_over]
        found.rows += compared.rows
        found.missing += compared.missing
        found.upserts += compared.upserts
        found.left_over += compared.left_over
        if mend and compared.differences:
            online.write(iter(compared.upserts), len(compared.upserts))
            online.delete(iter(compared.left_over), len(compared.left_over))
    return found, sorted(unsure)


def _part(
    tables: Sequence[tuple[Features, Sequence[dt.date]]], view: FeatureView, part: int, parts: int
) -> dict[bytes, list[cells.Row]]:
    """Read the rows that should be online of the entities of a part."""
    wanted: dict[bytes, list[cells.Row]] = {}
    for at, days in tables:
        chosen = None
        if parts > 1:
            names = pc.unique(at.rows(days, columns=[key.name for key in view.keys])[view.entity].combine_chunks())
            mask = [part_of(name.encode(), parts) == part for name in names.to_pylist()]
            chosen = names.filter(pa.array(mask, pa.bool_()))
        for entity, rows in cells.by_entity(at.rows(days, chosen), view.entity, view.columns):
            wanted.setdefault(entity, []).extend(rows)
    return wanted
