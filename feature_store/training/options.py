"""What is asked for: features of views, and what "at or before an event" is to mean."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from feature_store.training.errors import TrainingError
from feature_store.view import Column, FeatureView

UTC = "UTC"
TOO_LARGE = 2**31  # for a number of days, and of a version


class OptionsError(TrainingError):
    """What is asked for makes no sense: a feature that its view has not, or options that contradict each other."""


@dataclass(frozen=True)
class Asked:
    """Features of a view, and where they are; OptionsError if the view has none of that name.

    Attributes:
        view: the declaration.
        uri: of its Delta table: a path, or s3://bucket/key.
        features: which columns, in this order; None for all but the keys.
        version: of the table; None is the newest, or what Options say.
    """

    view: FeatureView
    uri: str
    features: tuple[str, ...] | None = None
    version: int | None = None

    def __post_init__(self) -> None:
        """Look for what the view has not, and for what a record could not hold."""
        known = [column.name for column in self._all]
        if not isinstance(self.uri, str):
            raise OptionsError(f"where the table of {self.view.name} is takes text, and no {_type(self.uri)}")
        if self.features is not None and not isinstance(self.features, tuple | list):
            raise OptionsError(f"features of {self.view.name} take a tuple of names, and no {_type(self.features)}")
        if self.version is not None and (type(self.version) is not int or not 0 <= self.version < TOO_LARGE):
            raise OptionsError(f"the version of {self.view.name} takes a whole number from 0, and not {self.version!r}")
        named = known if self.features is None else self.features
        if not named:
            raise OptionsError(f"no feature of view {self.view.name} is asked for")
        for name in named:
            if name not in known:
                raise OptionsError(f"view {self.view.name} has no feature {name!r}: it has {', '.join(known)}")
            if named.count(name) > 1:
                raise OptionsError(f"feature {name} of view {self.view.name} is asked for twice")

    @property
    def _all(self) -> tuple[Column, ...]:
        return self.view.columns[len(self.view.keys) :]

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The features asked for: a row's own measures can be among them."""
        by_name = {column.name: column for column in self._all}
        return self._all if self.features is None else tuple(by_name[name] for name in self.features)


@dataclass(frozen=True)
class Options:
    """How events and features are brought together; OptionsError if that contradicts itself.

    A row of features of day d is made of all of that day, so it is known from the end of the day on: from 0:00 of the
    next day in `zone`, plus `lag`. An event takes the newest row of its entity that is known at its moment:

    - An event with a time of day, on day D, takes a row of D - 1 or before: D is not over yet.
    - An event that is a date, D, stands for the end of that day, and so takes a row of D or before.

    Attributes:
        entity: the events' column of entities; None for the name that the views' key has.
        time: the events' column of dates, or of moments.
        zone: the time zone whose days the features are of: moments with a zone are converted into it, those without
            one are taken to be in it.
        lag: how long after the end of a day its features are there to be read, such as the hour at which a daily run is
            through. Zero asks for what could have been known at best.
        max_age: how many days may lie between an event's day (in `zone`) and the row's; with an older row all features
            of the view are null, and its day and age say so. None takes a row of any age.
        known_on: take the tables as they were at the end of that day (UTC), for all events.
        as_known: for each event take the tables as they were just before its moment: rows that were committed later,
            or corrected, do not count. None, as known_on, takes the newest versions.
        held_back: take rows of days that validation holds back, too.
        full_names: call every feature VIEW__FEATURE, and not only those whose names clash.
    """

    entity: str | None = None
    time: str = "event_time"
    zone: str = UTC
    lag: dt.timedelta = dt.timedelta()
    max_age: int | None = None
    known_on: dt.date | None = None
    as_known: bool = False
    held_back: bool = False
    full_names: bool = False

    def __post_init__(self) -> None:
        """Check them."""
        for fault in self._faults():
            raise OptionsError(fault)

    def _faults(self) -> Iterator[str]:
        # Before they are compared, and as a record holds them: numpy's numbers and pandas' moments would be others.
        kinds: dict[str, tuple[type | None, ...]] = {
            "entity": (str, None),
            "time": (str,),
            "zone": (str,),
            "max_age": (int, None),
            "known_on": (dt.date, None),
            "as_known": (bool,),
            "held_back": (bool,),
            "full_names": (bool,),
        }
        for name, known in kinds.items():
            value = getattr(self, name)
            if (None if value is None else type(value)) not in known:
                said = " or ".join(kind.__name__ if kind else "None" for kind in known)
                yield f"{name} takes {said}, and no {_type(value)}"
        if not isinstance(self.lag, dt.timedelta):
            yield f"lag takes timedelta, and no {_type(self.lag)}"
        if self.lag < dt.timedelta():
            yield "the lag is negative: no day's features are known before the day is over"
        if self.lag % dt.timedelta(seconds=1):
            yield "the lag is no whole number of seconds"
        if self.max_age is not None and self.max_age < 0:
            yield "the maximal age is negative: it takes a number of days from 0"
        if self.max_age is not None and self.max_age >= TOO_LARGE:
            yield f"the maximal age is no number of days: {self.max_age}"
        if self.as_known and self.known_on is not None:
            yield "as_known is for each event's own moment, known_on for one day: give one of them"
        try:
            zoneinfo.ZoneInfo(self.zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            yield f"there is no time zone {self.zone!r}: names are like Europe/London"


def _type(value: object) -> str:
    return type(value).__name__
