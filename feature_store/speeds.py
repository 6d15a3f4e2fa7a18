"""How fast the work goes, as it was measured: for those who say before how long it will take and what it will cost.

All on two cores of one machine, which server and client share; benchmarks/ and docs/adr/ have the whole tables.
"""

from __future__ import annotations

CORES = 2
STEP_SECONDS = 15.0  # of a step by itself, whatever it does
# Rows of features a second, of days that are done together, of 5,500 households (ADR 0012, 0015, 0017); the sync's were
# measured on a slower machine than the others.
FEATURIZE_ROWS, VALIDATE_ROWS, SYNC_ROWS = 60_000, 24_000, 2_800
# Of one day, which is computed from a year: 482,880 rows from 178 million readings by Spark in 461 s, judged in 39 s by
# one process, which uses all cores (ADR 0015).
DAY_READINGS, DAY_VALIDATED = 178_000_000 / 461, 482_880 / 39
# Rows that Spark reads and writes where nothing is computed: 3,539,404 in 22.2 s (ADR 0012). No more is known of
# ingest, which reads CSV, and that is slower.
SPARK_ROWS = 3_539_404 / 22.2
