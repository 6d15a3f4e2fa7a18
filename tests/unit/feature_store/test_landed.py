"""Headers of landed files."""

import pytest

from feature_store.energy import ENERGY
from feature_store.landed import Header, HeaderError, read_header

pytestmark = pytest.mark.unit

MEASURES = "energy_median,energy_mean,energy_max,energy_count,energy_std,energy_sum,energy_min"


@pytest.mark.parametrize("entity", ["household_id", "LCLid"])
def test_both_names_of_the_entity_are_known(entity: str) -> None:
    assert read_header(f"{entity},day,{MEASURES}", ENERGY) == Header(0, 1, (2, 3, 4, 5, 6, 7, 8))


def test_the_order_of_columns_is_free() -> None:
    assert read_header(f"{MEASURES},day,LCLid", ENERGY) == Header(8, 7, (0, 1, 2, 3, 4, 5, 6))


def test_a_byte_order_mark_and_quotes_are_no_part_of_a_name() -> None:
    assert read_header(f'\ufeff"LCLid","day",{MEASURES}', ENERGY).entity == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "first line is empty"),
        (f"day,{MEASURES}", "one column household_id or LCLid, and has none"),
        (f"LCLid,household_id,day,{MEASURES}", "has LCLid, household_id"),
        ("LCLid,day,energy_median", "lacks energy_mean, energy_max"),
        (f"LCLid,day,{MEASURES},tariff", "not known: 'tariff'"),
        (f"LCLid,day,day,{MEASURES}", "'day' twice"),
        ("x" * 200_000, "no header: field larger"),
        ("MAC000002,2012-10-12,1,1,1,1,1,1,1", "household_id or LCLid|twice"),
    ],
)
def test_any_other_header_is_refused(line: str, message: str) -> None:
    with pytest.raises(HeaderError, match=message):
        read_header(line, ENERGY)
