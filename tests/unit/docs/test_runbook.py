"""The runbook and the code name the same things: messages, error classes, alarms, links within pages."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.settings import ROOT

pytestmark = pytest.mark.unit

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
ROOMS = ("plugins", "dags", "spark_jobs", "feature_store", "infra")
GAP = "…"

# Never shown to anyone by themselves: what each becomes is in the runbook.
INTERNAL = {
    "FeatureStoreFailure": "the base of those that are not tried again",
    "NotHereError": "why this process leaves the work to Spark; else a JobError says it",
    "RequestError": "becomes an OnlineError, with the table",
    "TooLargeError": "becomes a ValueRefusedError, with the column and the key",
    "UnreadableError": "the check `readable` of a report",
    "_MalformedError": "becomes a LandedFileError, with the file and the row",
    "ClusterEndedError": "of the local AWS: a cluster's end, for its own thread",
    "NotStartedError": "of the local AWS: why a task of ECS did not start, as ECS says it",
    "S3Error": "of the local AWS: a bootstrap script that is not there, as EMR says it",
}
# Where each message of a job or a task has to be in the runbook, not the class alone; and of which classes.
MESSAGES_OF = (
    *("plugins/feature_store_airflow", "spark_jobs", "feature_store/sync", "infra/aws/"),
    *(f"feature_store/{module}.py" for module in ("endpoint", "online_schema", "small_table", "backfill")),
)
NO_MESSAGES = {
    *INTERNAL,
    *("ValueError", "OSError", "ArgumentTypeError", "AirflowSkipException", "FileNotFoundError"),
    *("DownstreamTasksSkipped", "OrderError"),
    *("TemplateError", "TablesError"),  # of those who change a template
}


def tables() -> Iterator[list[str]]:
    """The cells of each row of the runbook's tables, but for their heads."""
    for line in RUNBOOK.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and not set(cells) <= {"---"} and cells[0] not in ("message", "alarm", "class"):
            yield cells


def messages() -> list[str]:
    """The messages that the runbook explains, their gaps marked: what is quoted in the first cell of a row."""
    found = []
    for cells in tables():
        found += [text.strip() for _, text in re.findall(r"(`+)(.+?)\1", cells[0])]
    return [text for text in found if not re.fullmatch(r"\w+", text)]  # names of alarms and classes


def text_of(node: ast.AST) -> str | None:
    """What a literal says, a gap for each value in it."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or GAP for part in node.values)
    return GAP if isinstance(node, ast.FormattedValue) else None


def parsed() -> Iterator[tuple[Path, ast.Module]]:
    for room in ROOMS:
        for file in sorted((ROOT / room).rglob("*.py")):
            yield file, ast.parse(file.read_text())


def literals() -> list[str]:
    """Every text in the code, and every line of the scripts."""
    found = [text for _, tree in parsed() for node in ast.walk(tree) if (text := text_of(node))]
    scripts = (ROOT / "EMR" / "emr_bootstrap_script.sh").read_text().splitlines()
    return [*found, *(re.sub(r"\$\{[^}]*\}|\$\w+", GAP, line) for line in scripts)]


def says(pattern: str, text: str) -> bool:
    """Whether a message of the runbook can be (a part of) a text of the code, or the other way round."""
    at = 0
    for piece in (piece.strip(" .") for piece in pattern.split(GAP)):
        found = text.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def error_classes() -> dict[str, Path]:
    """The exceptions that the code declares, by name."""
    bases = {"Exception", "ValueError", "LookupError", "ArithmeticError", "AirflowException", "AirflowFailException"}
    declared = [(node, file) for file, tree in parsed() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    found: dict[str, Path] = {}
    before = -1
    while len(found) != before:  # those that derive from one that was found
        before = len(found)
        for node, file in declared:
            if {ast.unparse(base).rpartition(".")[2] for base in node.bases} & (bases | found.keys()):
                found[node.name] = file
    return found


def raised(node: ast.AST) -> tuple[str, str] | None:
    """The class and the message of a `raise` whose message is a literal with enough words to look for."""
    if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args):
        return None
    text = text_of(node.exc.args[0])
    if text is None or not re.search(r"[a-z]{3,}[^…]{6,}", text):
        return None
    return ast.unparse(node.exc.func).rpartition(".")[2], text


def test_each_message_of_the_runbook_is_in_the_code() -> None:
    said = literals()
    unknown = [message for message in messages() if not any(says(message, text) for text in said)]
    assert not unknown
    assert len(messages()) > 100


def twice(runbook: str) -> list[str]:
    """What two rows of one section explain."""
    return [
        message
        for section in runbook.split("\n## ")
        for message, count in Counter(re.findall(r"^\| (`+.+?`+) \|", section, re.M)).items()
        if count > 1
    ]


def test_no_message_is_explained_twice() -> None:
    assert twice(RUNBOOK) == []
    row = next(line for line in RUNBOOK.splitlines() if line.startswith("| `The Airflow Variable feature_store says"))
    assert twice(f"{row}\n{row}") == [row.split(" | ")[0].removeprefix("| ")]


def test_each_message_is_long_enough_to_be_found_by() -> None:
    short = [text for text in messages() if max(len(piece.strip()) for piece in text.split(GAP)) < 9]
    assert not short


def test_each_error_class_is_in_the_runbook() -> None:
    named = set(re.findall(r"`(\w+)`", RUNBOOK))
    classes = error_classes()
    assert set(INTERNAL) <= classes.keys()
    missing = {name: str(file) for name, file in classes.items() if name not in named | set(INTERNAL)}
    assert not missing
    assert not {name for name in named if re.fullmatch(r"\w+Error", name)} - classes.keys()


def test_each_message_of_a_task_or_a_job_is_in_the_runbook() -> None:
    known, classes = messages(), error_classes()
    missing = []
    for file, tree in parsed():
        if not str(file.relative_to(ROOT)).startswith(MESSAGES_OF):
            continue
        for node in ast.walk(tree):
            kind, text = raised(node) or ("", "")
            # Not what is raised in the name of a library, nor by a function that has the message.
            if kind in classes and kind not in NO_MESSAGES and not any(says(message, text) for message in known):
                missing.append(f"{file.name}: {kind}: {text}")
    assert not missing


def test_each_failure_of_the_bootstrap_script_is_in_the_runbook() -> None:
    script = (ROOT / "EMR" / "emr_bootstrap_script.sh").read_text()
    failures = [re.sub(r"\$\{[^}]*\}|\$\w+", GAP, text) for text in re.findall(r'fail "([^"]+)"', script)]
    assert len(failures) > 10
    known = messages()
    assert [text for text in failures if not any(says(message, text) for message in known)] == []


def test_each_alarm_of_the_templates_is_in_the_runbook() -> None:
    template = (ROOT / "infra" / "aws" / "templates" / "monitoring.yaml").read_text()
    kinds = r"(?:CloudWatch::(?:Composite)?Alarm|Events::Rule|Budgets::Budget)"
    made = re.findall(rf"^  (\w+):\n    Type: AWS::{kinds}$", template, re.M)
    told = [cells[0].strip("`") for cells in tables() if re.fullmatch(r"`[A-Z][a-z]\w+`", cells[0]) and len(cells) == 4]
    assert sorted(made) == sorted(told)
    assert len(made) > 5


@pytest.mark.parametrize(
    ("page", "link"),
    [
        (page, link)
        for page in sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
        for link in re.findall(r"\]\(([^)]*#[^)]+)\)", page.read_text())
        if "://" not in link
    ],
    ids=lambda value: value.name if isinstance(value, Path) else value,
)
def test_each_link_to_a_heading_leads_to_one(page: Path, link: str) -> None:
    file, _, heading = link.partition("#")
    target = (page.parent / file) if file else page
    there = [
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", target.read_text(), re.M)
    ]
    assert heading in there


def test_the_tests_find_what_is_wrong() -> None:
    """Planted: a message that nobody says, one that nobody explains."""
    assert not any(says("the moon is in the wrong house", text) for text in literals())
    assert says("There is no feature view …: there are …", "There is no feature view …: there are …. Next: …")
    assert not says("There is no feature view …: there were …", "There is no feature view …: there are …. Next: …")
    planted = ast.parse('raise StepFailed(f"The moon {phase} is in the wrong house.")').body[0]
    kind, text = raised(planted) or ("", "")
    assert (kind, text) == ("StepFailed", f"The moon {GAP} is in the wrong house.")
    assert not any(says(message, text) for message in messages())
