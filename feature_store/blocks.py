"""Fold many windows of values at once, each by a tree of its own: no bit of a result depends on anything else.

A window's n values are folded by blocks of 2^k values, one for each bit of n, the smallest first; a block is folded by
halves. The blocks of all positions are made level by level, those of 2^k values out of those of half the size: log2(n)
vectorised steps, and none of them subtracts what has slid out of a window.

A sum is a pair of doubles: the rounded sum, and the sum of all its rounding errors (Ogita, Rump and Oishi, 2005).
Squared deviations of two blocks are merged as Chan, Golub and LeVeque do (1979), with the difference of the means taken
from the pairs: it does not cancel, however far from zero the means are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Counts = NDArray[np.int64]
Numbers = NDArray[Any]  # doubles or integers, as the measure is

HIGH_BITS = np.int64(-1 << 27)  # keeps the sign, the exponent and 26 significant bits of a double


class Moments(NamedTuple):
    """Of each window, or of the block at each position: sum, the sum's rounding errors, squared deviations if asked."""

    total: Doubles
    error: Doubles
    squares: Doubles | None

    def at(self, places: Counts | slice) -> Moments:
        """Those of some places."""
        squares = None if self.squares is None else self.squares[places]
        return Moments(self.total[places], self.error[places], squares)

    def put(self, places: Counts, moments: Moments) -> None:
        """Replace those of some places."""
        self.total[places], self.error[places] = moments.total, moments.error
        if self.squares is not None:
            self.squares[places] = moments.squares


def moments(values: Doubles, starts: Counts, counts: Counts, *, deviate: bool) -> Moments:
    """Fold windows, given by their first values' positions and their lengths, into sums and squared deviations."""
    zeros = [np.zeros(starts.shape) for _ in range(3)]
    found = Moments(zeros[0], zeros[1], zeros[2] if deviate else None)
    exact = np.zeros(values.shape)
    level = Moments(values, exact, exact if deviate else None)
    at, size, most = starts.copy(), 1, int(counts.max(initial=0))
    while size <= most:
        windows = np.flatnonzero((counts & size) != 0)
        if windows.size:
            before = counts[windows] & (size - 1)
            found.put(windows, _appended(found.at(windows), before, level.at(at[windows]), size))
            at[windows] += size
        if 2 * size <= most:
            level = _doubled(level.at(slice(None, -size)), level.at(slice(size, None)), size)
        size *= 2
    return found


def extremes(values: Numbers, starts: Counts, counts: Counts, better: Callable[..., Numbers]) -> Numbers:
    """Fold windows by np.minimum or np.maximum; 0 where there is no value.

    Two blocks cover a window, if they overlap: that a value is looked at twice changes nothing here.
    """
    found = np.zeros(starts.shape, values.dtype)
    level, size, most = values, 1, int(counts.max(initial=0))
    while size <= most:
        windows = np.flatnonzero((counts >= size) & (counts < 2 * size))
        if windows.size:
            first = starts[windows]
            found[windows] = better(level[first], level[first + (counts[windows] - size)])
        level = better(level[:-size], level[size:])
        size *= 2
    return found


def _doubled(one: Moments, other: Moments, size: int) -> Moments:
    """Join blocks of some size with the blocks of that size that follow them."""
    total, lost = _two_sum(one.total, other.total)
    error = (one.error + other.error) + lost
    if one.squares is None or other.squares is None:
        return Moments(total, error, None)
    apart = (other.total - one.total) + (other.error - one.error)
    return Moments(total, error, (one.squares + other.squares) + apart * apart * (0.5 / size))


def _appended(one: Moments, before: Counts, other: Moments, size: int) -> Moments:
    """Join windows of so many values with the blocks of some larger size that follow them."""
    total, lost = _two_sum(one.total, other.total)
    error = (one.error + other.error) + lost
    if one.squares is None or other.squares is None:
        return Moments(total, error, None)
    # The means are (share * other - one) / before apart. The share has no more bits than the size, so that its products
    # with the block's sum are exact, that one taken in two halves. Without values before, all of this is 0.
    share = before / size
    high = (other.total.view(np.int64) & HIGH_BITS).view(np.float64)
    apart = ((high * share - one.total) + (other.total - high) * share) + (other.error * share - one.error)
    weight = np.maximum(share, 1 / size) * (before + size)
    return Moments(total, error, (one.squares + other.squares) + apart * apart / weight)


def _two_sum(one: Doubles, other: Doubles) -> tuple[Doubles, Doubles]:
    """The rounded sum, and exactly what rounding took from it (Knuth)."""
    total = one + other
    part = total - one
    return total, (one - (total - part)) + (other - part)
