"""What a step has read and written, in OpenLineage's terms: files and Delta tables on S3, tables in Keyspaces.

Loaded only where OpenLineage is on (Airflow's setting `[openlineage] transport`); else nothing here costs anything.
Datasets are named as https://openlineage.io/docs/spec/naming asks (read on 2026-11-26), so that lineage of other
programs meets at the same names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow.providers.openlineage.extractors import OperatorLineage
from openlineage.client.event_v2 import Dataset, InputDataset, OutputDataset
from openlineage.client.facet_v2 import dataset_version_dataset, output_statistics_output_dataset, schema_dataset

from feature_store import layout, registry
from feature_store.view import FeatureView

# Of each job, the options that name what it reads, and what it writes.
READ = {
    "ingest": ("source",),
    "featurize": ("readings",),
    "validate": ("readings", "features"),
    "sync": ("features",),
}
WRITTEN = {"schema": ("table",), "ingest": ("readings",), "featurize": ("features",), "sync": ("table",)}


def lineage(
    job: str, arguments: Sequence[str], online: str, summary: Mapping[str, Any] | None
) -> OperatorLineage[Dataset, Any]:
    """Say what a step is about.

    Args:
        job: the name of its script in spark_jobs/, without suffix.
        arguments: what the script is told, without templates.
        online: host:port of the online store.
        summary: what the job says it did; None where it has not ended well: then there are no versions and no counts.
    """
    options: dict[str, list[str]] = {}
    for option, value in zip(arguments, [*arguments[1:], ""], strict=True):
        if option.startswith("--"):
            options.setdefault(option[2:], []).append(value)
    views = [registry.view(name) for name in options.get("view", ())]

    def datasets(of_job: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str, FeatureView | None, str]]:
        for option in of_job.get(job, ()):
            (place,) = options[option]
            of: list[FeatureView | None] = [*views] if layout.VIEW in place else [None]
            for view in of:
                at = place.replace(layout.VIEW, view.name) if view else place
                if option == "table":
                    yield f"cassandra://{online}", f"{options['keyspace'][0]}.{at}", view, option
                else:
                    bucket, _, key = at.removeprefix("s3://").partition("/")
                    yield f"s3://{bucket}", key.rstrip("/"), view, option

    did = summary or {}
    return OperatorLineage(
        inputs=[
            InputDataset(namespace=namespace, name=name, facets=_facets(view, option, did))
            for namespace, name, view, option in datasets(READ)
        ],
        outputs=[
            OutputDataset(
                namespace=namespace, name=name, facets=_facets(view, option, did), outputFacets=_written(view, did)
            )
            for namespace, name, view, option in datasets(WRITTEN)
        ],
    )


def _of(view: FeatureView | None, did: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a summary says of a view; of all there is where the step is of no view."""
    found: Mapping[str, Any] = did.get("views", {}).get(view.name, {}) if view else did
    return found


def _facets(view: FeatureView | None, option: str, did: Mapping[str, Any]) -> dict[str, Any]:
    facets: dict[str, Any] = {}
    if view:
        facets["schema"] = schema_dataset.SchemaDatasetFacet(
            fields=[
                schema_dataset.SchemaDatasetFacetFields(
                    name=each.name, type=each.type.cql if option == "table" else each.type.spark
                )
                for each in view.columns
            ]
        )
    if (version := _of(view, did).get(f"{option}_version")) is not None:
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=str(version))
    return facets


def _written(view: FeatureView | None, did: Mapping[str, Any]) -> dict[str, Any]:
    of = _of(view, did)
    rows = of.get("rows_written", of.get("rows_valid"))
    if rows is None:
        return {}
    return {"outputStatistics": output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=rows)}
