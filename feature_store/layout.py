"""Where things are in the bucket of a feature store: keys relative to the bucket, and which of them are landed files.

The jobs are told each place by an argument, so the places are for those who tell them; the files' names are for both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from feature_store.view import FeatureView

VIEW = "{view}"  # stands for the name of each view, where several are named at once
LANDING = "Dataset/"
READINGS = "delta/readings"
FEATURES = f"delta/{VIEW}"  # of each view
# Beside the features, of all views: what validation has measured of each day, and what it has found.
METRICS, VERDICTS = "validation_metrics", "validation_verdicts"
CERTIFICATES = "sync_certificates"  # and which days are online, and proven to be
OWN = (METRICS, VERDICTS, CERTIFICATES)
VIEW_METRICS = f"metrics/{VIEW}.json"  # of each view, what the page in Airflow shows: see metrics.py
RELEASES = "releases"  # a folder for each release of the code, named after its content
SIMULATIONS = "simulation_results"  # a folder for each simulation: its workers' samples, and the report of them
SIMULATION_NAME = r"[a-z0-9][a-z0-9._-]{0,99}"  # what its name is, from one end to the other
AUTHORITIES = "certs/"  # in it, PEM files of the certificate authorities that the online store is trusted by

CSV_SUFFIXES = (".csv", ".csv.gz")
HIDDEN = ("_", ".")  # to Spark, and so to the ingest step
LAST_DAY = "last-day"  # metadata of a landed object: the newest day in it, YYYY-MM-DD; without it, it may hold any


def features(view: FeatureView) -> str:
    """Name the key of a view's Delta table."""
    return FEATURES.replace(VIEW, view.name)


def simulation(name: str) -> str:
    """Name the folder of a simulation."""
    return f"{SIMULATIONS}/{name}/"


def simulation_workers(name: str) -> str:
    """Name the folder that has one for each worker of a simulation."""
    return f"{simulation(name)}workers/"


def simulation_worker(name: str, worker: int) -> str:
    """Name the folder of a worker, by its number from 0."""
    return f"{simulation_workers(name)}{worker:02}/"


def simulation_report(name: str, suffix: str) -> str:
    """Name the report of a simulation as `json` or as `html`."""
    return f"{simulation(name)}report.{suffix}"


def beside(features: str, table: str) -> str:
    """Name the table of a store of features, by the URI or path of one of its tables of features."""
    folder, slash, _ = features.rstrip("/").rpartition("/")
    return f"{folder}{slash}{table}"


def uri(bucket: str, key: str) -> str:
    """Name a key as the s3:// URI that jobs and other programs take; the bucket may be a template."""
    return f"s3://{bucket}/{key}"


def is_csv(name: str) -> bool:
    """Whether the ingest step takes a landed file of that name (without its folder)."""
    return name.endswith(CSV_SUFFIXES) and not name.startswith(HIDDEN)
