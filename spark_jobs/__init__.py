"""The Spark jobs, one entry script each: ingest, featurize, validate, sync. Airflow is never imported here."""
