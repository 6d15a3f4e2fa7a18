"""Landed CSV files as Arrow tables, strictly: a malformed row is an error that names its file, not a row less."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.compute as pc  # type: ignore[import-untyped]  # the same
import pyarrow.csv  # type: ignore[import-untyped]  # the same
import pyarrow.fs  # type: ignore[import-untyped]  # the same

from feature_store.arrow_readings import ARROW, ReadingsError, schema
from feature_store.calendar import DayRange, parse_day
from feature_store.landed import LARGEST, NUMBER, WHOLE_NUMBER, HeaderError, place, read_names
from feature_store.view import Column, FeatureView, Measure

BLOCK = 8 << 20  # bytes of a file that are taken together: no row is longer


class LandedFileError(ReadingsError):
    """A landed file that is no CSV of readings, or has a malformed row; the message names the file and the row."""


class _MalformedError(ValueError):
    """What is wrong with a value, and its place in the batch."""

    def __init__(self, place: int, fault: str) -> None:
        super().__init__(fault)
        self.place = place


@dataclass(frozen=True)
class File:
    """A file in a file system of Arrow's."""

    system: pyarrow.fs.FileSystem
    path: str


def read(files: Sequence[File], view: FeatureView, days: DayRange | None, entities: pa.Array | None) -> pa.Table:
    """Read the readings of landed files.

    What the ingest step takes and what it puts into quarantine is the rule here as well, but that
    - a row that it would put there is an error;
    - columns that the view has not are passed over: a view that is tried out may take fewer measures;
    - a field in quotes is refused if it has a comma or a quote in it;
    - a key that stands twice, in one file or in two, is refused by the kernel: no file is the newer one.

    Args:
        files: those to read, gzipped where their names say so.
        view: the declaration.
        days: those whose readings are wanted, or None for all.
        entities: those whose readings are wanted, or None for all.

    Raises:
        LandedFileError: a header or a row is malformed, or a file is cut short.
    """
    found = []
    for file in files:
        for batch in _read_file(file, view):
            wanted = batch
            if days is not None:
                day = wanted[view.day]
                wanted = wanted.filter(pc.and_(pc.greater_equal(day, days.start), pc.less_equal(day, days.end)))
            if entities is not None:
                wanted = wanted.filter(pc.is_in(wanted[view.entity], entities))
            found.append(wanted)
    return pa.Table.from_batches(found, schema(view.readings))


def _read_file(file: File, view: FeatureView) -> Iterator[pa.RecordBatch]:
    rows = 0
    try:
        compression = "gzip" if file.path.endswith(".gz") else None
        with file.system.open_input_stream(file.path, compression=compression) as stream:
            content = io.BufferedReader(stream)
            names = _columns(content.readline().decode(errors="replace"), view)
            for texts in _batches(content, names):
                columns = [_typed(texts[column.name], column, view) for column in view.readings]
                yield pa.RecordBatch.from_arrays(columns, schema=schema(view.readings))
                rows += texts.num_rows
    except _MalformedError as error:
        raise LandedFileError(f"{file.path}, row {rows + error.place + 1}: {error}") from None
    except HeaderError as error:
        raise LandedFileError(f"{file.path} is no file of readings: {error}") from None
    except (pa.ArrowInvalid, OSError, EOFError) as error:
        said = (str(error).strip() or "it ends too early").splitlines()[0]
        raise LandedFileError(f"{file.path} can't be read after row {rows}: {said}") from error


def _columns(line: str, view: FeatureView) -> list[str]:
    """Name the columns of a file as the view does; others as they are, after a comma, which no name has."""
    names = read_names(line.rstrip("\r\n"))
    ours = {view.source.landed_day: view.day, **{measure.name: measure.name for measure in view.measures}}
    ours |= dict.fromkeys(view.source.landed_entities, view.entity)
    place([name for name in names if name in ours], view)
    return [ours.get(name, f"{number},{name}") for number, name in enumerate(names)]


def _batches(content: io.BufferedReader, names: list[str]) -> Iterator[pa.RecordBatch]:
    """Read what follows the header, all of it as text; blank lines are none."""
    if not content.peek(1):
        return
    wrong: list[pyarrow.csv.InvalidRow] = []

    def judge(row: pyarrow.csv.InvalidRow) -> str:
        if not row.text.strip():
            return "skip"
        wrong.append(row)
        return "error"

    # Quotes are taken off later: Arrow would take them for text in the middle of a field, and off at its begin.
    parse = pyarrow.csv.ParseOptions(quote_char=False, invalid_row_handler=judge)
    convert = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        include_columns=[name for name in names if "," not in name],
        strings_can_be_null=True,
        null_values=[""],
    )
    options = pyarrow.csv.ReadOptions(column_names=names, block_size=BLOCK)
    try:
        yield from pyarrow.csv.open_csv(content, options, parse, convert)
    except pa.ArrowInvalid as error:
        if wrong:
            row = wrong[0]
            fault = f"{row.actual_columns} fields instead of {row.expected_columns}: {row.text!r}"
            raise pa.ArrowInvalid(fault) from error
        raise


def _typed(texts: pa.Array, column: Column, view: FeatureView) -> pa.Array:
    if pc.any(pc.match_substring(texts, '"')).as_py():
        inner = pc.replace_substring_regex(texts, '^"([^"]*)"$', r"\1")
        _refuse(pc.match_substring(inner, '"'), inner, column, "has a quote in it, which is not supported here")
        texts = pc.if_else(pc.equal(inner, ""), None, inner)
    if column in view.keys:
        _refuse(texts.is_null(), texts, column, "is empty")
        return texts if column.name == view.entity else _days(texts, column)
    return _numbers(texts, view.measure(column.name))


def _days(texts: pa.Array, column: Column) -> pa.Array:
    encoded = texts.dictionary_encode()
    days: list[dt.date] = []
    for number, text in enumerate(encoded.dictionary.to_pylist()):
        try:
            days.append(parse_day(text))
        except ValueError as error:
            place = pc.index(encoded.indices, number).as_py()
            raise _MalformedError(place, f"{column.name} {error}") from None
    return pa.array(days, pa.date32()).take(encoded.indices)


def _numbers(texts: pa.Array, measure: Measure) -> pa.Array:
    largest = LARGEST.get(measure.type)
    form, kind = (WHOLE_NUMBER, "a whole number") if largest else (NUMBER, "a number")
    _refuse(pc.invert(pc.match_substring_regex(texts, form)), texts, measure, f"is not {kind}")
    numbers = texts.cast(pa.float64())  # integers by way of it too: 48.0 is a whole number
    size = pc.abs(numbers)
    # The largest 64-bit number itself is no double: 2^63 is, and is too large.
    too_large = pc.greater_equal(size, float(largest + 1)) if largest else pc.is_inf(size)
    _refuse(too_large, texts, measure, "is too large")
    if measure.minimum is not None:
        _refuse(pc.less(numbers, measure.minimum), texts, measure, f"is less than {measure.minimum}")
    return numbers.cast(ARROW[measure.type])


def _refuse(wrong: pa.Array, texts: pa.Array, column: Column | Measure, fault: str) -> None:
    """Refuse the first value that is wrong."""
    place = pc.index(wrong, value=True).as_py()
    if place >= 0:
        value = texts[place].as_py()
        raise _MalformedError(place, f"{column.name} {'' if value is None else repr(value) + ' '}{fault}")
