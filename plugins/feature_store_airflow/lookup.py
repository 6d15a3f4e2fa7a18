"""A look at one entity: its row in Delta beside its newest row online.

It is the one thing of the pages that opens the lake, and only as far as a day goes: the newest one that is certified,
at the version that is certified; and where the entity has no row of that day, the day of its online row.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.hooks.secrets_manager import SecretsManagerHook
from botocore.exceptions import BotoCoreError, ClientError

from feature_store import keyspaces, layout
from feature_store.calendar import DayRange
from feature_store.metrics import ViewMetrics
from feature_store.view import FeatureView
from feature_store_airflow.bucket import Bucket, StoreError

if TYPE_CHECKING:
    from feature_store.endpoint import Endpoint
    from feature_store.online import Connection

Row = Mapping[str, Any]

# Of the files that have a day: what is more is not looked through while someone waits for a page.
MOST_BYTES = 256 * 2**20
CONNECT_SECONDS = 3.0  # to an online store that may not be there: the page is to come all the same


@dataclass(frozen=True)
class Line:
    """One column of both rows."""

    name: str
    offline: object
    online: object
    differs: bool


@dataclass(frozen=True)
class LookUp:
    """What was found.

    Attributes:
        entity: which.
        offline: its row in Delta, None if there is none or it could not be read.
        offline_note: which day and version it is of, or why there is none.
        online: its newest row online, None as above.
        online_note: where it is from, or why there is none.
        lines: all columns of the view, if both are there.
    """

    entity: str
    offline: Row | None
    offline_note: str
    online: Row | None
    online_note: str
    lines: tuple[Line, ...]

    @property
    def differing(self) -> int:
        """How many columns differ."""
        return sum(line.differs for line in self.lines)


def look_up(entity: str, view: FeatureView, metrics: ViewMetrics, bucket: Bucket) -> LookUp:
    """Read both rows of an entity; what can't be read is said in the notes."""
    online, online_note = _online(entity, view, bucket)
    offline, offline_note = _offline(entity, view, metrics, bucket, metrics.online)
    newest = online[view.day] if online else None
    if offline is None and newest in metrics.certified and newest != metrics.online:
        offline, note = _offline(entity, view, metrics, bucket, newest)
        offline_note = f"{offline_note} {note}"
    lines = [Line(column.name, *_pair(column.name, offline, online)) for column in view.columns]
    return LookUp(entity, offline, offline_note, online, online_note, tuple(lines) if offline or online else ())


def fault(entity: str) -> str | None:
    """Say why there can't be an entity of that name, if there can't."""
    if len(entity.encode()) > keyspaces.ENTITY_BYTES:
        return f"No entity has a name of more than {keyspaces.ENTITY_BYTES} bytes."
    return None


def _pair(name: str, offline: Row | None, online: Row | None) -> tuple[object, object, bool]:
    one, other = ((row or {}).get(name) for row in (offline, online))
    return one, other, bool(offline and online) and not _same(one, other)


def _same(one: object, other: object) -> bool:
    both_nan = all(isinstance(each, float) and math.isnan(each) for each in (one, other))
    return both_nan or one == other


def _offline(
    entity: str, view: FeatureView, metrics: ViewMetrics, bucket: Bucket, day: dt.date | None
) -> tuple[Row | None, str]:
    """Read the row of a day that is certified, and say what was read."""
    # What reads Delta is for whoever looks something up: not for each process that loads the plugins.
    import pyarrow as pa  # type: ignore[import-untyped]  # noqa: PLC0415 - it has no types, nor are there stubs of its own

    from feature_store.sync.changes import Features, FeaturesError  # noqa: PLC0415

    if day is None:
        return None, "No day is known to be online: there is no version to look into."
    version = metrics.certified[day].features_version
    try:
        features = Features(_uri(bucket, view), view, version, _storage(bucket))
        size = features.size(DayRange(day, day))
        if size > MOST_BYTES:
            return None, (
                f"The files that have {day} are {size / 2**20:,.0f} MB, and a page looks through "
                f"{MOST_BYTES / 2**20:,.0f}: read version {version} of {features.uri} by other means."
            )
        rows: list[Row] = features.rows([day], pa.array([entity], pa.string())).to_pylist()
    except (FeaturesError, BotoCoreError, ClientError) as error:
        return None, f"The lake can't be read: {error}."
    found = f"of {day}, version {version} of the table, which is the one that is certified to be online"
    if not rows:
        return None, f"There is no row {found}."
    return rows[0], f"The row {found}."


def _online(entity: str, view: FeatureView, bucket: Bucket) -> tuple[Row | None, str]:
    """Read the newest row, and say where it is from."""
    from feature_store.endpoint import OnlineError  # noqa: PLC0415 - the driver, as with Delta above

    try:
        with _connected(bucket) as connection:
            row = connection.latest(entity, view)
    except (OnlineError, StoreError) as error:
        return None, f"The online store can't be read: {str(error).rstrip('.')}."
    if row is None:
        return None, "There is no row online."
    return row, f"The newest row online, of {row[view.day]}."


@contextmanager
def _connected(bucket: Bucket) -> Iterator[Connection]:
    from feature_store.endpoint import OnlineError, open_session  # noqa: PLC0415
    from feature_store.online import Connection  # noqa: PLC0415

    try:
        where = bucket.settings["keyspaces"]
        keyspace = str(where["keyspace"])
        with TemporaryDirectory(prefix="keyspaces-") as folder:  # the driver takes authorities from a file
            endpoint = _endpoint(bucket, where, Path(folder) / "ca.pem")
            session = open_session(endpoint, lambda cluster: setattr(cluster, "connect_timeout", CONNECT_SECONDS))
    except KeyError as error:
        raise OnlineError(f"the Airflow Variable feature_store has no {error} to find it by") from error
    connection = Connection(session, keyspace)
    try:
        yield connection
    finally:
        connection.close()


def _endpoint(bucket: Bucket, where: Mapping[str, Any], ca: Path) -> Endpoint:
    """Where it is, and who signs in: by the Variable that the clusters are made with, and the secret that it names.

    The authorities are those that each node gets with the release of the code: so no server of Airflow's has to be
    given any.
    """
    from feature_store.endpoint import Endpoint, OnlineError, login_of  # noqa: PLC0415

    folder = f"{layout.RELEASES}/{bucket.settings['release']}/{layout.AUTHORITIES}"
    texts = [bucket.text(key) or "" for key in bucket.names(folder)]
    if not texts:
        raise OnlineError(f"s3://{bucket.name}/{folder} has no certificate authorities to trust: publish the release")
    ca.write_text("\n".join(texts))
    region, secret = str(bucket.settings["region"]), where["credentials"]
    try:
        hook = SecretsManagerHook(region_name=region)  # type: ignore[no-untyped-call] # the provider's __init__
        login = login_of(hook.get_secret(secret), secret) if secret else None
    except (BotoCoreError, ClientError) as error:
        raise OnlineError(f"the secret {secret} in {region} can't be read: {error}") from error
    return Endpoint(str(where["host"]), int(where["port"]), ca, region, login)


def _uri(bucket: Bucket, view: FeatureView) -> str:
    return layout.uri(bucket.name, layout.features(view))


def _storage(bucket: Bucket) -> dict[str, str]:
    """Whom delta-rs asks S3 as: the tasks' connection, where it would only take this process's environment."""
    signed = S3Hook().get_credentials()
    given = {
        "AWS_ACCESS_KEY_ID": signed.access_key,
        "AWS_SECRET_ACCESS_KEY": signed.secret_key,
        "AWS_SESSION_TOKEN": signed.token,
        "AWS_REGION": bucket.settings.get("region"),
    }
    return {name: value for name, value in given.items() if value}
