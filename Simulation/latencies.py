"""How long calls took, counted so that what all workers have counted merges without loss."""

from __future__ import annotations

from collections.abc import Iterable

# The library ships no types.
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

from Simulation.recording import RecordError

# Latencies from a microsecond to an hour, to three digits: with these the counts of any two can be added, each to each.
LEAST, MOST, DIGITS = 1, 3600 * 10**6, 3


class Latencies:
    """How long calls took, counted in an HDR histogram: in microseconds, to three digits."""

    def __init__(self, histogram: HdrHistogram | None = None) -> None:
        """Have none, or those of a histogram."""
        self._histogram = HdrHistogram(LEAST, MOST, DIGITS) if histogram is None else histogram

    def __len__(self) -> int:
        """How many calls."""
        return int(self._histogram.get_total_count())

    def __eq__(self, other: object) -> bool:
        """Whether both have the same counts."""
        return isinstance(other, Latencies) and bytes(self._histogram.counts) == bytes(other._histogram.counts)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def record(self, seconds: float) -> None:
        """Count a call; less than a microsecond is one, more than an hour is an hour."""
        self._histogram.record_value(min(max(round(seconds * 1e6), LEAST), MOST))

    def quantile(self, share: float) -> float:
        """Seconds within which that share (0 to 1) of the calls had ended.

        Raises:
            ValueError: there was no call.
        """
        if not len(self):
            raise ValueError("there was no call")
        return float(self._histogram.get_value_at_percentile(share * 100)) / 1e6

    @property
    def mean(self) -> float:
        """Seconds; 0 without a call."""
        return float(self._histogram.get_mean_value()) / 1e6

    def add(self, other: Latencies) -> None:
        """Count what another has, too."""
        self._histogram.add(other._histogram)

    def encode(self) -> str:
        """As text: HDR's own compressed form, V2, in base64."""
        return str(self._histogram.encode().decode())

    @classmethod
    def decode(cls, text: str) -> Latencies:
        """Take what `encode` has given.

        Raises:
            RecordError: it is none of it.
        """
        try:
            decoded = HdrHistogram.decode(text.encode())
        except Exception as error:
            # Base64's, zlib's, struct's and the library's own errors have no class in common.
            raise RecordError(f"{text[:40]!r} is no histogram: {error}") from error
        bounds = (decoded.lowest_trackable_value, decoded.highest_trackable_value, decoded.significant_figures)
        if bounds != (LEAST, MOST, DIGITS):
            raise RecordError(f"A histogram is of {bounds}, where those of workers are of {(LEAST, MOST, DIGITS)}.")
        return cls(decoded)

    @classmethod
    def merged(cls, encoded: Iterable[str]) -> Latencies:
        """All calls of several, as if they had been counted in one.

        Raises:
            RecordError: one is no histogram.
        """
        found = cls()
        for text in encoded:
            found.add(cls.decode(text))
        return found
