"""What a training set was made of, so that it can be made again: views, versions, options, events; and digests."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow.fs  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # the same

from feature_store import files
from feature_store.calendar import DayRange
from feature_store.function import Type
from feature_store.training.errors import TrainingError
from feature_store.training.options import Options, OptionsError
from feature_store.view import Column, FeatureView

FORMAT = 1  # of records; another one where the same record would come to another table
KEY = b"feature_store.training"  # of the metadata of a Parquet file: its record
FILE = "_training_record.json"  # in a folder of them: theirs; readers of Parquet pass over such a name
MICROSECOND = dt.timedelta(microseconds=1)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class RecordError(TrainingError):
    """What should be a record of a training set is none that this version of the feature store can read."""


class NotTheSameError(TrainingError):
    """A training set can't be rebuilt: events or tables are not those of the record, or the outcome is not."""


@dataclass(frozen=True)
class Version:
    """A version of a Delta table; where each event has its own, with the moment of its commit."""

    number: int
    committed: dt.datetime | None = None

    @property
    def microseconds(self) -> int:
        """The commit's moment since 1970; of one that has none, before all others."""
        return (self.committed - EPOCH) // MICROSECOND if self.committed else -(2**63)


@dataclass(frozen=True)
class ViewRecord:
    """What was taken of a view.

    Attributes:
        name: of the view.
        declaration: a digest of what its values follow from.
        uri: of the Delta table.
        id: of the table, which a copy keeps and another table has not.
        keys: entity and day.
        features: the columns, in order.
        versions: of the table, the oldest first; one, or those that the events know.
        held_back: days that were passed over.
    """

    name: str
    declaration: str
    uri: str
    id: str
    keys: tuple[Column, Column]
    features: tuple[Column, ...]
    versions: tuple[Version, ...]
    held_back: tuple[dt.date, ...]


@dataclass(frozen=True)
class ByDay:
    """No list of events: every entity, on every so many days of a range."""

    days: DayRange
    every: int


@dataclass(frozen=True)
class Record:
    """How a training set was made.

    Attributes:
        views: what was taken of each.
        options: the options, and the events' columns.
        entity: the events' column of entities.
        events: a digest of the events, in whatever order; or the days, where no events were given.
        rows: of the set.
        digest: of the set's content, its rows in whatever order.
        order: a digest of the events' order, where the set keeps it: Spark's does not.
    """

    views: tuple[ViewRecord, ...]
    options: Options
    entity: str
    events: str | ByDay
    rows: int = 0
    digest: str = ""
    order: str = ""

    def as_json(self) -> str:
        """Write it as one line of JSON: the same record is the same text."""
        said: dict[str, Any] = {"format": FORMAT, **asdict(self), "views": [_view_json(view) for view in self.views]}
        said["options"] |= {"lag": self.options.lag.total_seconds()}
        if isinstance(self.events, ByDay):
            days = self.events.days
            said["events"] = {"start": days.start, "end": days.end, "every": self.events.every}
        return json.dumps(said, sort_keys=True, separators=(",", ":"), default=_text)

    @classmethod
    def of_json(cls, text: str | bytes) -> Record:
        """Read what as_json wrote; RecordError if it is none."""
        try:
            said = json.loads(text)
            if said["format"] != FORMAT:
                raise RecordError(f"the record is of format {said['format']!r}, not {FORMAT}")
            options, events = said["options"], said["events"]
            known_on = options["known_on"] and dt.date.fromisoformat(options["known_on"])
            return cls(
                views=tuple(map(_view, said["views"])),
                options=Options(**{**options, "lag": dt.timedelta(seconds=options["lag"]), "known_on": known_on}),
                entity=str(said["entity"]),
                events=events if isinstance(events, str) else _by_day(events),
                rows=int(said["rows"]),
                digest=str(said["digest"]),
                order=str(said["order"]),
            )
        except (ValueError, KeyError, TypeError, OverflowError, OptionsError) as error:
            raise RecordError(f"it is no record of a training set: {error!r}") from error

    @classmethod
    def read(cls, uri: str) -> Record:
        """Read the record that a training set's Parquet file, or folder, holds; RecordError if there is none."""
        try:
            system, path = files.locate(uri)
            if system.get_file_info(path).type == pyarrow.fs.FileType.Directory:
                return cls._of_folder(uri, system, f"{path}/{FILE}")
            with system.open_input_file(path) as file:
                metadata = pq.read_schema(file).metadata or {}
        except (OSError, ValueError) as error:
            raise RecordError(f"{uri} can't be read: {(str(error) or repr(error)).splitlines()[0]}") from error
        if KEY not in metadata:
            raise RecordError(f"{uri} holds no record of a training set")
        return cls.of_json(metadata[KEY])

    @classmethod
    def _of_folder(cls, uri: str, system: pyarrow.fs.FileSystem, path: str) -> Record:
        if system.get_file_info(path).type == pyarrow.fs.FileType.NotFound:
            raise RecordError(f"{uri} holds no record of a training set: none was made there, or not to its end")
        with system.open_input_stream(path) as stream:
            return cls.of_json(stream.read())


def declaration_digest(view: FeatureView) -> str:
    """SHA-256 of what a view's values follow from: its keys, and of each column the type, function and window."""
    made_of = {
        column.name: [column.type.cql, *_made_of(view, column.name)] for column in view.columns[len(view.keys) :]
    }
    said = {"name": view.name, "keys": [key.name for key in view.keys], "columns": list(made_of.items())}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _made_of(view: FeatureView, column: str) -> list[str | dict[str, int] | None]:
    if column not in view.made_of:
        return []
    aggregation, window = view.made_of[column]
    lengths = {unit: getattr(window, unit) for unit in ("months", "days", "weeks", "years")}
    return [aggregation.function.name, aggregation.measure, {unit: n for unit, n in lengths.items() if n}]


def _view_json(view: ViewRecord) -> dict[str, Any]:
    return {
        **vars(view),
        "keys": [[column.name, column.type.cql] for column in view.keys],
        "features": [[column.name, column.type.cql] for column in view.features],
        "versions": [[version.number, version.committed] for version in view.versions],
    }


def _view(said: dict[str, Any]) -> ViewRecord:
    entity, day = _columns(said["keys"])
    versions = tuple(Version(int(n), at and dt.datetime.fromisoformat(at)) for n, at in said["versions"])
    held_back = tuple(map(dt.date.fromisoformat, said["held_back"]))
    of = {"keys": (entity, day), "features": _columns(said["features"]), "versions": versions, "held_back": held_back}
    return ViewRecord(**{**said, **of})


def _columns(said: list[list[str]]) -> tuple[Column, ...]:
    types = {kind.cql: kind for kind in Type}
    return tuple(Column(name, types[kind]) for name, kind in said)


def _by_day(said: dict[str, Any]) -> ByDay:
    days = DayRange(dt.date.fromisoformat(said["start"]), dt.date.fromisoformat(said["end"]))
    return ByDay(days, int(said["every"]))


def _text(value: object) -> str:
    if isinstance(value, dt.date):
        return value.isoformat()
    raise TypeError(f"{value!r} is nothing that a record holds")
