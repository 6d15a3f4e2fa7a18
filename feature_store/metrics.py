"""What is known of a view's days and what they cost, in one small JSON object for those who look: metrics/VIEW.json.

It is derived, and nothing depends on it: the verdicts, the certificates and the reports are what counts. The jobs put
in what they have done at their end. If it is lost, the next run of each brings back the days; what is not known then
is what earlier checks said (their names are) and what earlier syncs have cost.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

from feature_store.calendar import DayRange, parse_day
from feature_store.validation.verdict import Verdict

FORMAT = 1
KEPT_DAYS = 400  # the newest ones: a year, and what it is compared with
PLACES = 6  # of a share of nulls

T = TypeVar("T")


class MetricsError(Exception):
    """A document is not one of these; the message says why, as a clause."""


@dataclass(frozen=True)
class Validated:
    """What validation found of a day.

    Attributes:
        verdict: what becomes of it.
        rows: of features.
        nulls: the share of these that have no value, by column.
        failed: checks that hold it back, or would if it were not released: what each says, or None if that is lost.
        warned: checks that are only reported, as above.
        released_by: who lets it go online although it failed.
        release_reason: why.
        report: URI of the report, JSON.
        judged_at: when.
    """

    verdict: Verdict
    rows: int
    nulls: Mapping[str, float]
    failed: Mapping[str, str | None]
    warned: Mapping[str, str | None]
    released_by: str | None
    release_reason: str | None
    report: str
    judged_at: dt.datetime


@dataclass(frozen=True)
class Certified:
    """What is online of a day, and proven to be: so many rows, those of a version of the Delta table."""

    rows: int
    features_version: int
    certified_at: dt.datetime


@dataclass(frozen=True)
class Synced:
    """What one run of the sync has done and used: dollars on demand, None where the region's prices are not known."""

    at: dt.datetime
    days: int
    rows_written: int
    rows_deleted: int
    write_units: int
    read_units: int
    dollars: float | None


@dataclass(frozen=True)
class ViewMetrics:
    """All of it.

    Attributes:
        view: its name.
        validated: days.
        certified: days that are online.
        syncs: in order of time.
    """

    view: str
    validated: Mapping[dt.date, Validated] = field(default_factory=dict)
    certified: Mapping[dt.date, Certified] = field(default_factory=dict)
    syncs: tuple[Synced, ...] = ()

    @property
    def computed(self) -> dt.date | None:
        """The newest day that has features, whatever validation says of them; None if none is known."""
        return max((day for day, each in self.validated.items() if each.rows), default=None)

    @property
    def passed(self) -> dt.date | None:
        """The newest day that validation lets go online."""
        there = (day for day, each in self.validated.items() if each.verdict is not Verdict.QUARANTINED)
        return max(there, default=None)

    @property
    def online(self) -> dt.date | None:
        """The newest day that is online with any row."""
        return max((day for day, each in self.certified.items() if each.rows), default=None)

    def with_validated(self, days: DayRange, made: Mapping[dt.date, Validated]) -> ViewMetrics:
        """Replace what validation found of some days: what `made` has not of them has neither row nor reading."""
        others = {day: each for day, each in self.validated.items() if not days.start <= day <= days.end}
        return replace(self, validated=_newest({**others, **made}))

    def with_certified(self, made: Mapping[dt.date, Certified]) -> ViewMetrics:
        """Replace what is known to be online: these days, and no others."""
        return replace(self, certified=_newest(made))

    def with_sync(self, made: Synced) -> ViewMetrics:
        """Put in what a sync has used; again is the same as once."""
        oldest = made.at - dt.timedelta(days=KEPT_DAYS)
        kept = {each for each in self.syncs if each.at > oldest} | {made}
        return replace(self, syncs=tuple(sorted(kept, key=lambda each: each.at)))

    def dump(self) -> str:
        """Write it as JSON."""
        said = {
            "format": FORMAT,
            "view": self.view,
            "validated": {str(day): _plain(each) for day, each in sorted(self.validated.items())},
            "certified": {str(day): _plain(each) for day, each in sorted(self.certified.items())},
            "syncs": [_plain(each) for each in self.syncs],
        }
        return json.dumps(said, separators=(",", ":")) + "\n"


def load(text: str, view: str) -> ViewMetrics:
    """Read what `dump` has written of a view; MetricsError if it is something else."""
    try:
        said = json.loads(text)
        if said["format"] != FORMAT or said["view"] != view:
            raise MetricsError(f"it is of {said['view']!r} in format {said['format']}, not of {view!r} in {FORMAT}")
        return ViewMetrics(
            view,
            {parse_day(day): _validated(each) for day, each in said["validated"].items()},
            {parse_day(day): Certified(**_timed(each, "certified_at")) for day, each in said["certified"].items()},
            tuple(Synced(**_timed(each, "at")) for each in said["syncs"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MetricsError(f"it is no JSON of metrics ({type(error).__name__}: {error})") from error


def rounded(nulls: Mapping[str, float]) -> dict[str, float]:
    """Shares of nulls with no more digits than anyone needs."""
    return {name: round(share, PLACES) for name, share in nulls.items()}


def _validated(of: Mapping[str, Any]) -> Validated:
    return Validated(**{**_timed(of, "judged_at"), "verdict": Verdict(of["verdict"])})


def _timed(of: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {**of, name: dt.datetime.fromisoformat(of[name])}


def _plain(each: Validated | Certified | Synced) -> dict[str, Any]:
    return {name: _text(value) for name, value in asdict(each).items()}


def _text(value: object) -> object:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return value.value if isinstance(value, Verdict) else value


def _newest(days: Mapping[dt.date, T]) -> dict[dt.date, T]:
    """Keep the newest days, as many of the calendar as are kept."""
    if not days:
        return {}
    oldest = max(days).toordinal() - KEPT_DAYS
    return {day: each for day, each in sorted(days.items()) if day.toordinal() > oldest}
