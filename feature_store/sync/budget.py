"""What writing online may cost: said before it is done, and refused where it is more."""

from __future__ import annotations

from dataclasses import dataclass

from feature_store import cost
from feature_store.sync.online_table import Usage


class BudgetError(Exception):
    """What is to be written would cost more than may be spent, or nobody knows what it costs; nothing of it was."""


@dataclass(frozen=True)
class Budget:
    """What a run may spend on writing, at on-demand prices.

    Attributes:
        region: AWS', for its prices.
        dollars: at most; None is no limit.
    """

    region: str
    dollars: float | None = None

    def said(self, units: int) -> str:
        """Name write units and their price."""
        price = cost.dollars(self.region, writes=units)
        what = "in a region whose prices are not known here" if price is None else f"${price:.6f} on demand"
        return f"{units:,} write units, {what}"

    def check(self, rows: int, units: int, spent: Usage) -> None:
        """Refuse to write so many rows if that takes more than is left.

        Raises:
            BudgetError: it does, or the region's prices are not known.
        """
        if self.dollars is None:
            return
        price = cost.dollars(self.region, writes=units)
        before = cost.dollars(self.region, writes=spent.write_units)
        if price is None or before is None:
            raise BudgetError(
                f"Whether {units:,} write units keep to the budget can't be told: feature_store/cost.py has no prices "
                f"of {self.region}. Nothing was written."
            )
        if before + price > self.dollars:
            written = spent.rows_written + spent.rows_deleted
            done = f"{written:,} row(s) were written before, for ${before:.6f}" if written else "Nothing was written"
            raise BudgetError(
                f"Bringing {rows:,} row(s) online would take {self.said(units)}, and the budget is "
                f"${self.dollars:.6f}. {done}. Next: fewer days, or a larger budget."
            )
