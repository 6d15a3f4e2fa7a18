"""What is online of a chunk of days, beside what should be: read back, and compared."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.compute as pc  # type: ignore[import-untyped]  # the same

from feature_store.arrow_readings import schema
from feature_store.sync import cells, whole
from feature_store.sync.certificates import Certificate
from feature_store.sync.changes import Changes, Features, GoneError
from feature_store.sync.online_table import Compared, OnlineTable
from feature_store.sync.plan import Chunk
from feature_store.view import FeatureView

SAMPLE_ROWS = 10_000  # of a chunk's rows that did not change: so many are read back too, those of whole entities

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Proof:
    """Compares; `known` are the online table's certificates."""

    features: Features
    online: OnlineTable
    known: Mapping[dt.date, Certificate]

    def keys_online(self, chunk: Chunk) -> pa.Table | None:
        """Keys that may be online of a chunk: those of any version that was ever brought there; None if one is gone."""
        there = [self.known[day] for day in chunk.days if day in self.known]
        if any(each.foreign or each.features_id != self.features.id for each in there):
            return None
        versions = {self.features.version}.union(*(each.versions for each in there))
        names = [key.name for key in self.features.view.keys]
        try:
            found = [self.features.at(version).rows(chunk.days, columns=names) for version in sorted(versions)]
        except GoneError as gone:
            log.info("%s: %s: the whole table is looked through for rows of these days.", chunk, gone)
            return None
        return pa.concat_tables(found).group_by(names).aggregate([])

    def of_changes(self, chunk: Chunk, changes: Changes, total: int) -> Compared:
        """Read back what was written and taken away, and a sample of what was not."""
        entity = self.features.view.entity
        of_changes = pa.concat_tables([changes.rows.select([entity]), changes.gone.select([entity])])
        touched = pc.unique(of_changes[entity].combine_chunks())
        if chunk.leaves:
            return self._compare_entities(chunk, _no_rows(self.features.view), touched)
        if total - changes.rows.num_rows <= SAMPLE_ROWS:
            return self._compare_entities(chunk, self.features.rows(chunk.days), touched)
        keys = self.features.rows(chunk.days, columns=[key.name for key in self.features.view.keys])
        sample = _sample(keys[entity], touched, SAMPLE_ROWS)
        both = pa.concat_arrays([touched.cast(pa.string()), sample])
        return self._compare_entities(chunk, self.features.rows(chunk.days, both), touched)

    def of_all(self, chunk: Chunk) -> Compared:
        """Compare all that is online of a chunk; where it is not known whose rows may be there, by the whole table."""
        view = self.features.view
        keys = self.keys_online(chunk)
        if keys is not None:
            rows = _no_rows(view) if chunk.leaves else self.features.rows(chunk.days)
            return self._compare_entities(chunk, rows, pc.unique(keys[view.entity].combine_chunks()))
        days = {cells.day_bytes(day) for day in chunk.days}
        part, parts, wanted = next(whole.in_parts({} if chunk.leaves else {self.features: chunk.days}, 0))
        return self.online.compare_all(wanted, part, parts, lambda day: day not in days)

    def of_mended(self, chunk: Chunk, compared: Compared) -> Compared:
        """Compare the entities again that were mended."""
        names = pa.array(sorted(entity.decode() for entity in compared.entities()), pa.string())
        rows = _no_rows(self.features.view) if chunk.leaves else self.features.rows(chunk.days, names)
        return self._compare_entities(chunk, rows, names)

    def _compare_entities(self, chunk: Chunk, wanted: pa.Table, more: pa.Array) -> Compared:
        """Compare all entities of these rows, and others that should have none."""
        entity = self.features.view.entity
        there = pc.unique(wanted[entity].combine_chunks()) if wanted.num_rows else pa.array([], pa.string())
        others = more.filter(pc.invert(pc.is_in(more, there))) if len(more) else more

        def each() -> Iterator[tuple[bytes, list[cells.Row]]]:
            yield from cells.by_entity(wanted, entity, self.features.view.columns)
            for name in others.to_pylist():
                yield name.encode(), []

        return self.online.compare(each(), len(there) + len(others), chunk.days)


def _no_rows(view: FeatureView) -> pa.Table:
    return schema(view.columns).empty_table()


def _sample(entities: pa.ChunkedArray, without: pa.Array, most: int) -> pa.Array:
    """Choose entities at random that have about so many rows together."""
    counted = entities.combine_chunks().value_counts()
    names, counts = counted.field("values"), counted.field("counts")
    others = pc.invert(pc.is_in(names, without))
    names, counts = names.filter(others), counts.filter(others).to_numpy(zero_copy_only=False)
    order = np.random.default_rng().permutation(len(names))
    chosen = order[: int(np.searchsorted(np.cumsum(counts[order]), most, side="right"))]
    return names.take(pa.array(chosen)).cast(pa.string())
