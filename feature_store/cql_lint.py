"""What Amazon Keyspaces does not do of CQL, and its limits: told from a statement's text, before it is sent.

Each rule has its source. It errs on the side of saying nothing: what can't be told from the text (the size of a row,
the consistency of a request) is for those who send it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from feature_store import keyspaces

AS_OF = "2026-11"
GUIDE = "docs.aws.amazon.com/keyspaces/latest/devguide/"
IN_VALUES = 100
LOGGED, UNLOGGED = 100, 30  # statements of a batch
COLUMNS_WITH_TTL = 166

# A string, a quoted name, a comment, a word or a number, or one other sign.
TOKEN = re.compile(
    r"""(?P<blank>\s+|--[^\n]*|//[^\n]*|/\*.*?\*/)|(?P<text>'(?:[^']|'')*'|\$\$.*?\$\$)|(?P<name>"(?:[^"]|"")*")"""
    r"""|(?P<word>\w+)|(?P<sign>.)""",
    re.DOTALL,
)
AGGREGATES = {"count", "min", "max", "sum", "avg"}
IGNORED = {
    *("bloom_filter_fp_chance", "caching", "compaction", "compression", "crc_check_chance"),
    *("dclocal_read_repair_chance",),
    *("gc_grace_seconds", "max_index_interval", "memtable_flush_period_in_ms", "min_index_interval"),
    *("read_repair", "read_repair_chance", "speculative_retry", "cdc", "additional_write_policy"),
}
STRATEGIES = {"singleregionstrategy", "networktopologystrategy"}
CLASS = "'class'"  # of a keyspace's replication


@dataclass(frozen=True)
class Rule:
    """What Keyspaces does not do.

    Attributes:
        name: of the rule.
        says: a clause that says it.
        source: where that is written.
        as_of: when it was read there.
    """

    name: str
    says: str
    source: str
    as_of: str = AS_OF


_APIS, _QUOTAS = f"{GUIDE}cassandra-apis.html", f"{GUIDE}quotas.html"
_DIFFERENCES = f"{GUIDE}functional-differences.html"
STATEMENT = Rule("unsupported-statement", "Keyspaces has no such statement", _APIS)
ROLES = Rule("roles", "Keyspaces has no roles, users and grants: IAM has them", _DIFFERENCES)
AGGREGATE = Rule("aggregate", "Keyspaces has no aggregate functions: count by paging", _APIS)
SELECT = Rule("select-clause", "Keyspaces' SELECT has no such clause", f"{GUIDE}cql.dml.select.html")
ALTER = Rule("alter-table", "Keyspaces' ALTER TABLE only adds columns and sets options", f"{GUIDE}cql.ddl.table.html")
OPTION = Rule("ignored-option", "Keyspaces takes the option and does nothing by it", _DIFFERENCES)
REPLICATION = Rule(
    "replication",
    "Keyspaces replicates by SingleRegionStrategy or NetworkTopologyStrategy",
    f"{GUIDE}cql.ddl.keyspace.html",
)
BATCH = Rule(
    "batch-size", f"Keyspaces takes {UNLOGGED} statements in an unlogged batch, {LOGGED} in a logged one", _QUOTAS
)
BATCH_CONDITION = Rule(
    "batch-condition", "Keyspaces takes no condition in an unlogged batch", f"{GUIDE}batchStatements.html"
)
IN = Rule("in-values", f"Keyspaces takes {IN_VALUES} values of IN in a query", _QUOTAS)
COLUMNS = Rule(
    "columns",
    f"Keyspaces writes {keyspaces.COLUMNS} columns beside the key at once, {COLUMNS_WITH_TTL} with a time to live",
    _QUOTAS,
)
TIMESTAMP = Rule(
    "client-timestamp",
    "Keyspaces takes it only where the table has client-side timestamps",
    f"{GUIDE}client-side-timestamps.html",
)
NAME = Rule(
    "name-length",
    f"a name has {keyspaces.NAME_LENGTH} characters at most",
    "docs.aws.amazon.com/keyspaces/latest/APIReference/API_TableSummary.html",
)
RULES = (
    *(STATEMENT, ROLES, AGGREGATE, SELECT, ALTER, OPTION, REPLICATION),
    *(BATCH, BATCH_CONDITION, IN, COLUMNS, TIMESTAMP, NAME),
)


@dataclass(frozen=True)
class Finding:
    """A rule that a statement breaks, and by what."""

    rule: Rule
    found: str

    def __str__(self) -> str:
        """Say it in a clause."""
        return f"{self.found}: {self.rule.says} ({self.rule.source})"


class UnsupportedCqlError(ValueError):
    """A statement is none for Keyspaces."""


def checked(statement: str) -> str:
    """Return a statement as it is; UnsupportedCqlError says what of it Keyspaces would not do."""
    if found := lint(statement):
        short = " ".join(statement.split())[:80]
        why = "; ".join(map(str, found))
        raise UnsupportedCqlError(f"{short!r} is nothing for Keyspaces: {why}. Write it otherwise.")
    return statement


def lint(statement: str) -> list[Finding]:
    """Find what Keyspaces would not do of one statement."""
    tokens = [_token(found) for found in TOKEN.finditer(statement) if not found["blank"]]
    while tokens and tokens[-1] == ";":
        tokens.pop()
    return list(_statement(tokens))


def _token(found: re.Match[str]) -> str:
    """Words in lower case; strings and quoted names with their first quote, so that they are no words."""
    return found[0].lower() if found["word"] else found[0]


def _statement(tokens: Sequence[str]) -> Iterator[Finding]:
    first, second = (*tokens[:2], "", "")[:2]
    yield from _names(tokens)
    if first == "truncate":
        yield Finding(STATEMENT, "TRUNCATE")
    elif first in {"grant", "revoke"} or second in {"role", "user", "roles", "users"}:
        yield Finding(ROLES, f"{first} {second}".upper())
    elif first in {"create", "alter", "drop"}:
        yield from _ddl(tokens, first)
    elif first == "select":
        yield from _select(tokens)
    elif first == "begin":
        yield from _batch(tokens)
    elif first in {"insert", "update", "delete"}:
        yield from _write(tokens, first)


def _names(tokens: Sequence[str]) -> Iterator[Finding]:
    for token in tokens:
        name = token.strip('"')
        if re.fullmatch(r"[^\W\d]\w*", name) and len(name) > keyspaces.NAME_LENGTH:
            yield Finding(NAME, name)


def _ddl(tokens: Sequence[str], verb: str) -> Iterator[Finding]:
    kind = next((token for token in tokens[1:] if token not in {"or", "replace", "custom"}), "")
    if kind in {"index", "materialized", "trigger", "function", "aggregate"} or (verb, kind) == ("alter", "type"):
        yield Finding(STATEMENT, f"{verb} {kind}".upper())
        return
    top = _top_level(tokens)
    if (verb, kind) == ("alter", "table"):
        # The word after the table's name, which may have its keyspace's before it.
        at = 4 if tokens[3:4] != ["."] else 6
        action = tokens[at - 1] if len(tokens) >= at else ""
        if action in {"drop", "rename", "alter"}:
            yield Finding(ALTER, f"ALTER TABLE ... {action.upper()}")
    for at, token in enumerate(tokens):
        if at in top and token in IGNORED and tokens[at + 1 : at + 2] == ["="]:
            yield Finding(OPTION, token)
        if kind == "keyspace" and token == CLASS and tokens[at + 2 : at + 3]:
            strategy = tokens[at + 2].strip("'").rpartition(".")[2]
            if strategy.lower() not in STRATEGIES:
                yield Finding(REPLICATION, strategy)


def _select(tokens: Sequence[str]) -> Iterator[Finding]:
    clause = tokens[: tokens.index("from")] if "from" in tokens else tokens
    for one, two in pairwise(clause):
        if two == "(" and one in AGGREGATES:
            yield Finding(AGGREGATE, f"{one}()".upper())
        if two == "(" and one == "writetime":
            yield Finding(TIMESTAMP, "WRITETIME()")
    if clause[1:2] == ["distinct"]:
        yield Finding(SELECT, "DISTINCT")
    for words in (("group", "by"), ("per", "partition", "limit")):
        if any(tuple(tokens[at : at + len(words)]) == words for at in range(len(tokens))):
            yield Finding(SELECT, " ".join(words).upper())
    yield from _in(tokens)


def _in(tokens: Sequence[str]) -> Iterator[Finding]:
    for at, token in enumerate(tokens[:-1]):
        if token == "in" and tokens[at + 1] == "(" and (values := len(_items(tokens[at + 1 :]))) > IN_VALUES:  # noqa: S105
            yield Finding(IN, f"IN ({values} values)")


def _write(tokens: Sequence[str], verb: str) -> Iterator[Finding]:
    using = {tokens[at + 1] for at, token in enumerate(tokens[:-1]) if token in {"using", "and"}}
    starts = "using" in tokens
    if starts and "timestamp" in using:
        yield Finding(TIMESTAMP, "USING TIMESTAMP")
    most = COLUMNS_WITH_TTL if starts and "ttl" in using else keyspaces.COLUMNS
    columns = 0
    if verb == "insert" and "(" in tokens:
        columns = len(_items(tokens[tokens.index("(") :])) - 2  # the key has two, or one more counts as a column
    elif verb == "update" and "set" in tokens:
        columns = len(_split([*tokens[tokens.index("set") + 1 : _index(tokens, "where")]]))
    if columns > most:
        yield Finding(COLUMNS, f"{columns} columns")
    yield from _in(tokens)


def _batch(tokens: Sequence[str]) -> Iterator[Finding]:
    logged = tokens[1] == "batch"
    inner: list[list[str]] = [[]]
    for token in tokens[tokens.index("batch") + 1 :]:
        if token in {"insert", "update", "delete"}:
            inner.append([])
        if token != "apply":  # noqa: S105
            inner[-1].append(token)
    statements = [each for each in inner if each and each[0] in {"insert", "update", "delete"}]
    if len(statements) > (LOGGED if logged else UNLOGGED):
        yield Finding(BATCH, f"{len(statements)} statements")
    for statement in statements:
        if not logged and "if" in statement:
            yield Finding(BATCH_CONDITION, "IF")
        yield from _statement(statement)


def _index(tokens: Sequence[str], word: str) -> int:
    return tokens.index(word) if word in tokens else len(tokens)


def _top_level(tokens: Sequence[str]) -> set[int]:
    """Places that are in no brackets."""
    found, depth = set(), 0
    for at, token in enumerate(tokens):
        depth -= token in {")", "]", "}"}
        if depth == 0:
            found.add(at)
        depth += token in {"(", "[", "{"}
    return found


def _items(tokens: Sequence[str]) -> list[list[str]]:
    """What the bracket that the tokens begin with holds, between its commas."""
    depth = 0
    for at, token in enumerate(tokens):
        depth += (token in {"(", "[", "{"}) - (token in {")", "]", "}"})
        if depth == 0:
            return _split(tokens[1:at])
    return _split(tokens[1:])


def _split(tokens: Sequence[str]) -> list[list[str]]:
    top = _top_level(tokens)
    items: list[list[str]] = [[]]
    for at, token in enumerate(tokens):
        if token == "," and at in top:  # noqa: S105
            items.append([])
        else:
            items[-1].append(token)
    return [item for item in items if item]
