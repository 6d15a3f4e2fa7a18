"""What reading and writing an online table costs: units of capacity by Keyspaces' own formula, dollars by its prices.

Sources, as read in November 2026:
- units: docs.aws.amazon.com/keyspaces/latest/devguide/ReadWriteCapacityMode.OnDemand.html: a write unit for each KB
  of a row that has begun, a read unit for each 4 KB at LOCAL_QUORUM. A row that is deleted is written.
- size of a row: docs.aws.amazon.com/keyspaces/latest/devguide/calculating-row-size.html.
- prices: on demand, as published on 2025-11-05 (github.com/aws-samples/sample-pricing-calculator-for-keyspaces,
  src/calculator/data/mcs.json).
"""

from __future__ import annotations

from dataclasses import dataclass

from feature_store.function import Type
from feature_store.view import FeatureView

WRITE_UNIT_BYTES, READ_UNIT_BYTES = 1024, 4096
ENTITY_BYTES = 36  # of a name, where it is not known: as long as a UUID
PRICES_AS_OF = "2025-11-05"


@dataclass(frozen=True)
class Prices:
    """Dollars for a million units, on demand."""

    write_units: float
    read_units: float
    expired_rows: float


PRICES = {
    "af-south-1": Prices(0.8389, 0.1683, 0.3689),
    "ap-east-1": Prices(0.785, 0.155, 0.345),
    "ap-northeast-1": Prices(0.715, 0.1425, 0.315),
    "ap-northeast-2": Prices(0.68, 0.1355, 0.2975),
    "ap-south-1": Prices(0.71, 0.1425, 0.3125),
    "ap-southeast-1": Prices(0.71, 0.1425, 0.3125),
    "ap-southeast-2": Prices(0.71, 0.1425, 0.3125),
    "ca-central-1": Prices(0.6875, 0.1375, 0.3025),
    "eu-central-1": Prices(0.7625, 0.1525, 0.3355),
    "eu-north-1": Prices(0.67, 0.1345, 0.295),
    "eu-west-1": Prices(0.705, 0.1415, 0.31),
    "eu-west-2": Prices(0.7423, 0.1487, 0.3275),
    "eu-west-3": Prices(0.7423, 0.1487, 0.3275),
    "me-south-1": Prices(0.775, 0.1555, 0.3425),
    "sa-east-1": Prices(0.9375, 0.1875, 0.4125),
    "us-east-1": Prices(0.625, 0.125, 0.275),
    "us-east-2": Prices(0.625, 0.125, 0.275),
    "us-gov-east-1": Prices(0.75, 0.15, 0.33),
    "us-gov-west-1": Prices(0.75, 0.15, 0.33),
    "us-west-1": Prices(0.695, 0.1395, 0.3075),
    "us-west-2": Prices(0.625, 0.125, 0.275),
}

# Bytes of a value, at most. Whole numbers are stored in about a byte for two digits and one more.
VALUE_BYTES = {Type.INT: 6, Type.BIGINT: 11, Type.DOUBLE: 8, Type.DATE: 4}
COLUMNS_A_BYTE = 62  # a column's identifier takes a byte for each so many columns that there are
KEY_METADATA_BYTES = 3  # of an entity's


def row_bytes(view: FeatureView, entity_bytes: int) -> int:
    """The encoded size of a row of a view in bytes, at most: as if no value was null.

    Args:
        view: the declaration.
        entity_bytes: of the entity's name, in UTF-8.
    """
    identifier = -(-len(view.columns) // COLUMNS_A_BYTE)
    day = VALUE_BYTES[Type.DATE]
    # Keys are stored twice; a clustering column has a byte more for each five of its value.
    keys = 2 * entity_bytes + KEY_METADATA_BYTES + 2 * day + -(-day // 5) + 2 * identifier
    return keys + sum(VALUE_BYTES[column.type] + identifier for column in view.columns[len(view.keys) :])


def write_units(size: int) -> int:
    """Units of a row's write, by its bytes."""
    return max(1, -(-size // WRITE_UNIT_BYTES))


def read_units(size: int) -> int:
    """Units of a read at LOCAL_QUORUM, by the bytes that it found."""
    return max(1, -(-size // READ_UNIT_BYTES))


def dollars(region: str, *, writes: int = 0, reads: int = 0) -> float | None:
    """The price of units on demand; None for a region whose prices are not known here."""
    prices = PRICES.get(region)
    return None if prices is None else (writes * prices.write_units + reads * prices.read_units) / 1e6
