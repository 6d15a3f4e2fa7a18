"""A view's features offline: its table in the lake of the store that the environment names.

table = offline.table(registry.view("energy_recent_features"))
table.version(), table.to_pandas()
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from feature_store import layout, live_table
from feature_store.view import FeatureView

if TYPE_CHECKING:
    from deltalake import DeltaTable

BUCKET = "FEATURE_STORE_BUCKET"


class OfflineError(Exception):
    """The environment names no store, or the view has no table there; the message says which."""


def uri(view: FeatureView) -> str:
    """Name a view's table, in the bucket that FEATURE_STORE_BUCKET says; OfflineError if it says none."""
    bucket = os.environ.get(BUCKET)
    if not bucket:
        raise OfflineError(f'{BUCKET} is not set: `eval "$(make -s env)"` sets it while the stack is up.')
    return layout.uri(bucket, layout.features(view))


def table(view: FeatureView, version: int | None = None) -> DeltaTable:
    """Open a view's table, with what S3 needs taken from the environment (AWS_...).

    Args:
        view: the declaration.
        version: of the table; None is the newest.

    Raises:
        OfflineError: the environment names no store, there is no such table, or it can't be reached.
    """
    from deltalake import DeltaTable  # noqa: PLC0415 - whoever only declares views, or names a table, needs no Delta
    from deltalake.exceptions import DeltaError, TableNotFoundError  # noqa: PLC0415

    from feature_store import files  # noqa: PLC0415 - Arrow, as above

    where = uri(view)
    try:
        return DeltaTable(where, version=version, storage_options=live_table.storage_options(os.environ))
    except TableNotFoundError as error:
        raise OfflineError(f"{where} is not a Delta table: no day of {view.name} was featurized yet.") from error
    except (DeltaError, OSError) as error:
        raise OfflineError(f"{where} can't be opened: {files.first_line(error)}") from error
