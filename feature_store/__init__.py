"""The domain: feature views, days and windows, CQL, online reads. Neither Airflow nor Spark is imported here."""
