"""What the windows of one measure come to: sums, extremes, deviations. Each result follows from its window alone.

The pairs of doubles of feature_store.blocks hold sums exactly, unless values are more than 10^11 times apart: a sum is
math.fsum's, bit for bit, and deviations are right to some 1e-15. Where values are further apart, too large or too small
for that, the windows that it harms are found, and folded exactly, one by one.
"""

from __future__ import annotations

import math
import statistics
from fractions import Fraction
from functools import cached_property

import numpy as np

from feature_store.blocks import Counts, Doubles, Moments, Numbers, extremes, moments

DIGITS = 53  # significant bits of a double
# Pairs hold all sums exactly if the values are multiples of one bit, and their absolute sum is below 2^100 of it: two
# times 53 bits, less what the rounding errors of up to 2^26 values can add up to.
EXACT_BITS = 100
# Multiples of 2^-450 up to 2^450 have differences whose squares neither overflow nor lose digits.
MODERATE = 450
TINY_SQUARES = 2.0**-902  # less than any squared deviations of such numbers, other than 0
CANCELLED = 2.0**-60  # of its terms: a sum that small has fewer than 40 digits left of its pair's 100


class TooLargeError(ArithmeticError):
    """A result that its type can't hold; `window` is its window's place."""

    def __init__(self, window: int) -> None:
        """Take the place."""
        super().__init__(f"the result of window {window} is too large")
        self.window = window


class WindowValues:
    """The values of one measure in many windows, and what can be made of them.

    Properties have a number for each window, of no meaning where the window has fewer values than the function takes
    (feature_store.function). Deviations of integers are those of the doubles nearest to them.
    """

    def __init__(self, values: Numbers, starts: Counts, ends: Counts, *, deviate: bool) -> None:
        """Take the windows.

        Args:
            values: all values that are there, by day within each entity; finite.
            starts: per window, the position of its first value.
            ends: per window, the position after its last value.
            deviate: whether deviations will be asked for: they and the sums are made in one go.
        """
        # Minus zero and zero are equal, so it is chance which of them is the larger: there is but one zero here.
        self._values = values + 0.0 if values.dtype.kind == "f" else values
        self._starts = starts
        self._ends = ends
        self._deviate = deviate

    @cached_property
    def count(self) -> Counts:
        """How many values."""
        return self._ends - self._starts

    @cached_property
    def total(self) -> Numbers:
        """Their sum, of integers in 64 bits; TooLargeError if one does not fit."""
        total: Numbers
        if self._is_whole:
            total = self._summed(self._values)
            # 2^32 times the upper half is what 64 bits hold, from -2^31 to 2^31 - 1.
            unfit = np.abs(2 * self._halves[0] + 1) > 2**32 if self._may_outgrow else np.zeros(0, np.bool_)
        else:
            total = self._rounded_total
            unfit = ~np.isfinite(total)
        if unfit.any():
            raise TooLargeError(int(unfit.argmax()))
        return total

    @cached_property
    def mean(self) -> Doubles:
        """Their mean."""
        total: Numbers
        if not self._is_whole:
            total = self._rounded_total
        elif self._may_outgrow:
            high, low = self._halves
            total = high * 2.0**32 + low
        else:
            total = self._summed(self._values)
        mean: Doubles = total / np.maximum(self.count, 1)
        for window in np.flatnonzero(~np.isfinite(mean)).tolist():
            mean[window] = float(sum(map(Fraction, self._of(window))) / int(self.count[window]))
        return mean

    @cached_property
    def deviation(self) -> Doubles:
        """Their sample standard deviation; TooLargeError if a double does not hold one."""
        squares = self._moments.squares
        if squares is None:
            raise ValueError("this takes WindowValues(deviate=True)")
        deviation: Doubles = np.sqrt(squares / np.maximum(self.count - 1, 1))
        if not self._is_ordinary:
            equal = self.smallest == self.largest
            deviation[equal] = 0
            lost = ~((squares >= TINY_SQUARES) & np.isfinite(squares)) & ~equal
            for window in np.flatnonzero(lost).tolist():
                try:
                    deviation[window] = statistics.stdev(self._of(window))  # by way of fractions: exact, rounded once
                except OverflowError:
                    raise TooLargeError(window) from None
        return deviation

    @cached_property
    def smallest(self) -> Numbers:
        """The smallest."""
        return extremes(self._values, self._starts, self.count, np.minimum)

    @cached_property
    def largest(self) -> Numbers:
        """The largest."""
        return extremes(self._values, self._starts, self.count, np.maximum)

    @cached_property
    def newest(self) -> Numbers:
        """The last."""
        found = np.zeros(self._ends.shape, self._values.dtype)
        there = self.count > 0
        found[there] = self._values[self._ends[there] - 1]
        return found

    def _of(self, window: int) -> list[float]:
        values: list[float] = self._values[self._starts[window] : self._ends[window]].tolist()
        return values

    @cached_property
    def _is_whole(self) -> bool:
        return self._values.dtype.kind == "i"

    @cached_property
    def _may_outgrow(self) -> bool:
        """Whether a sum of so many of the largest integers would not fit into 64 bits."""
        largest = max(int(self._values.max(initial=0)), -int(self._values.min(initial=0)))
        return largest * int(self.count.max(initial=0)) >= 2**63

    @cached_property
    def _halves(self) -> tuple[Counts, Counts]:
        """The sums of integers, as high * 2^32 + low with low from 0 to 2^32 - 1."""
        wide: Counts = self._values.astype(np.int64)
        low = self._summed(wide & 0xFFFFFFFF)
        return self._summed(wide >> 32) + (low >> 32), low & 0xFFFFFFFF

    def _summed(self, values: Numbers) -> Counts:
        # Of the sums up to the windows' ends and starts, modulo 2^64, the difference is exact if it fits.
        before = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
        total: Counts = before[self._ends] - before[self._starts]
        return total

    @cached_property
    def _rounded_total(self) -> Doubles:
        """The sums of doubles; infinite where no double holds one."""
        with np.errstate(over="ignore", invalid="ignore"):  # those sums are taken anew
            total: Doubles = self._moments.total + self._moments.error
            if not self._is_ordinary:
                kept = (np.abs(total) > self._size * CANCELLED * self.count) & np.isfinite(total)
                for window in np.flatnonzero(~kept & (self._size > 0)).tolist():
                    total[window] = _correct_sum(self._of(window))
        return total

    @cached_property
    def _is_ordinary(self) -> bool:
        """Whether all values are so near to each other, and to 1, that pairs are exact and squares are in range."""
        if self._is_whole:
            return True
        sizes = np.abs(self._values)
        _, highest = math.frexp(sizes.max(initial=0))
        _, lowest = math.frexp(sizes.min(initial=math.inf, where=sizes > 0))
        bits = highest + int(self.count.max(initial=0)).bit_length() - (lowest - DIGITS)
        return bits <= EXACT_BITS and lowest - DIGITS >= -MODERATE and highest <= MODERATE

    @cached_property
    def _size(self) -> Doubles:
        """The largest absolute value, 0 where there is none."""
        return extremes(np.abs(self._values), self._starts, self.count, np.maximum)

    @cached_property
    def _moments(self) -> Moments:
        values = self._values.astype(np.float64, copy=False)
        with np.errstate(over="ignore", invalid="ignore"):  # the windows that it harms are folded anew
            return moments(values, self._starts, self.count, deviate=self._deviate)


def _correct_sum(values: list[float]) -> float:
    """The exact sum, rounded once; infinite if no double holds it."""
    try:
        return math.fsum(values)
    except OverflowError:  # also where only fsum's own partial sums outgrow a double
        exact = sum(map(Fraction, values))
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf
