"""What Amazon Keyspaces can hold: limits that a declaration is checked against before there is a table.

Sources, as read in November 2026:
- names: docs.aws.amazon.com/keyspaces/latest/APIReference/API_TableSummary.html ([a-zA-Z0-9][a-zA-Z0-9_]{0,47}).
- columns, keys and rows: docs.aws.amazon.com/keyspaces/latest/devguide/quotas.html.
- reserved words: cassandra.apache.org/doc/latest/cql/appendices.html, and those that older versions had.
"""

from __future__ import annotations

import re

# A table's limit. No document gives one for columns: the same, to be safe.
NAME_LENGTH = 48
# Narrower than Keyspaces: what is lower-case and begins with a letter needs no quotes in any tool, CQL or SQL.
NAME = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
# We quote every name; whoever types a query does not.
_RESERVED = """
    add allow alter and apply asc authorize batch begin by columnfamily create default delete desc describe drop entries
    execute from full grant if in index infinity insert into is keyspace limit materialized mbean mbeans modify nan
    norecursive not null of on or order primary rename replace revoke schema select set table to token truncate unlogged
    unset update use using view where with
"""
RESERVED = frozenset(_RESERVED.split())
# Columns beside the key that one INSERT may set; 166 where it sets a time to live, which none of ours does.
COLUMNS = 225
ENTITY_BYTES = 2048  # of a partition key
ROW_BYTES = 2**20
RETENTION_DAYS = 36_500  # a bound for slips of the pen: Keyspaces has none


def name_fault(name: str) -> str | None:
    """Say why a table or a column can't have a name, if it can't."""
    if not NAME.fullmatch(name):
        return f"can't be a name: {name!r} is not lower-case letters, digits and _, a letter first"
    if len(name) > NAME_LENGTH:
        return f"can't be a name: {name} has {len(name)} characters, and Keyspaces holds {NAME_LENGTH}"
    if name in RESERVED:
        return f"can't be a name: {name} is a reserved word of CQL"
    return None


def columns_fault(columns: int) -> str | None:
    """Say why a table can't have so many columns beside its key, if it can't."""
    return None if columns <= COLUMNS else f"makes {columns} columns beside the key, and Keyspaces writes {COLUMNS}"


def retention_fault(days: int | None) -> str | None:
    """Say why rows can't be kept for so long, if they can't."""
    # bool is an int to Python, and a file that is no typed program can hold anything.
    if days is None or (type(days) is int and 1 <= days <= RETENTION_DAYS):
        return None
    return f"is {days!r}: it takes a whole number of days from 1 to {RETENTION_DAYS}, or None for ever"
