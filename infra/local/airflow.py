"""Airflow on this machine: its home, its database, its four processes."""

from __future__ import annotations

import configparser
import datetime as dt
import importlib.metadata
import io
import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from infra.dags import VARIABLE
from infra.local.files import write_private
from infra.local.settings import REGION, ROOT, VENV, Stack, StackError

AIRFLOW = [str(VENV / "bin" / "python"), "-m", "airflow"]
# Nothing but this machine reads the logs, and from files: two servers of logs less to bind a port.
COMMANDS = {
    "airflow-api-server": ["api-server"],
    "airflow-scheduler": ["scheduler", "--skip-serve-logs"],
    "airflow-dag-processor": ["dag-processor"],
    "airflow-triggerer": ["triggerer", "--skip-serve-logs"],
}
DATABASE = "airflow"  # the name of the database in PostgreSQL, and of its owner


def home(stack: Stack) -> Path:
    """The AIRFLOW_HOME of a stack: with it exported, the plain `airflow` command works on this stack."""
    return stack.home / "airflow"


def serve(stack: Stack, part: str) -> NoReturn:
    """Replace this process by one of Airflow's four, so that the supervisor's signals reach it."""
    os.execve(AIRFLOW[0], [*AIRFLOW, *COMMANDS[part]], {**os.environ, **_environment(stack)})  # noqa: S606 - no shell is wanted


def write_home(stack: Stack) -> None:
    """Write Airflow's configuration and its connection; the variable is the caller's (write_variables)."""
    write_private(home(stack) / "airflow.cfg", _configuration(stack))
    write_private(_connections(stack), json.dumps({"aws_default": f"aws://?region_name={REGION}"}))
    if not _variables(stack).exists():
        write_variables(stack, {})


def write_variables(stack: Stack, feature_store: Mapping[str, object]) -> None:
    """Write the Airflow variable that the DAGs read; running processes see it at their next look."""
    # A variable's value is text, here the text of a JSON object.
    write_private(_variables(stack), json.dumps({VARIABLE: json.dumps(feature_store)}))


def migrate(stack: Stack) -> None:
    """Bring the database to this Airflow's schema, unless it is there; StackError with the last line if that fails."""
    version = importlib.metadata.version("apache-airflow")
    stamp = home(stack) / "migrated-to"
    if stamp.exists() and stamp.read_text() == version and (home(stack) / "airflow.db").exists():
        return
    log = stack.logs / "airflow-migrate.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**stack.process_environment(), **_environment(stack)}
    with log.open("w") as out:
        done = subprocess.run(
            [*AIRFLOW, "db", "migrate"], env=environment, cwd=ROOT, stdout=out, stderr=out, check=False
        )
    if done.returncode:
        last = log.read_text().strip().splitlines()[-1:] or ["it said nothing"]
        raise StackError(f"Airflow's database could not be made: {last[0]} (all of it: {log}).")
    write_private(stamp, version)


def is_ready(stack: Stack, part: str, started: dt.datetime) -> bool:
    """Whether one of the four answers: the api-server by itself, the others by a heartbeat since they were started."""
    try:
        url = f"{stack.airflow_url}/api/v2/monitor/health"
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - a loopback address of our own
            health = json.load(answer)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False
    if part == "airflow-api-server":
        return True
    component = part.removeprefix("airflow-").replace("-", "_")
    beat = health[component][f"latest_{component}_heartbeat"]
    # The last heartbeat of a process that was killed counts as healthy for half a minute.
    return beat is not None and dt.datetime.fromisoformat(beat) >= started


def _environment(stack: Stack) -> dict[str, str]:
    return {"AIRFLOW_HOME": str(home(stack)), "PYTHONPATH": str(ROOT), **stack.asked_by("airflow")}


def _variables(stack: Stack) -> Path:
    return home(stack) / "variables.json"


def _connections(stack: Stack) -> Path:
    return home(stack) / "connections.json"


def _configuration(stack: Stack) -> str:
    """Only what differs from Airflow's defaults."""
    logs = stack.logs / "airflow"
    files = {"variables_file_path": str(_variables(stack)), "connections_file_path": str(_connections(stack))}
    sections = {
        "core": {
            "executor": "LocalExecutor",
            "parallelism": "4",
            "dags_folder": str(ROOT / "dags"),
            "plugins_folder": str(ROOT / "plugins"),
            "load_examples": "False",
            # Five minutes by default, for services far away.
            "default_task_retry_delay": "5",
            "fernet_key": stack.secrets.airflow_fernet_key,
            "execution_api_server_url": f"{stack.airflow_url}/execution/",
            # It listens on loopback only: who can reach it is who started it.
            "simple_auth_manager_all_admins": "True",
            # The default asks the network for the name of this machine, and waits where none answers.
            "hostname_callable": "socket.gethostname",
        },
        "api": {
            "host": stack.hosts.airflow_host,
            "port": str(stack.ports.airflow_port),
            "base_url": stack.airflow_page,
            "secret_key": stack.secrets.airflow_api_secret_key,
        },
        "api_auth": {"jwt_secret": stack.secrets.airflow_jwt_secret},
        "logging": {
            "base_log_folder": str(logs),
            "dag_processor_child_process_log_directory": str(logs / "dag_processor"),
        },
        "secrets": {
            "backend": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
            "backend_kwargs": json.dumps(files),
        },
        "usage_data_collection": {"enabled": "False"},
        # The defaults are for clusters: with them every task, failure and deferral costs seconds of waiting.
        "scheduler": {
            "scheduler_idle_sleep_time": "0.3",
            # A task whose scheduler was killed is found after a minute instead of five.
            "orphaned_tasks_check_interval": "30",
            "task_instance_heartbeat_timeout": "60",
        },
        "workers": {"min_heartbeat_interval": "1"},
        "triggerer": {"job_heartbeat_sec": "1"},
        "dag_processor": {"refresh_interval": "5"},
    }
    if stack.database:
        login = f"{DATABASE}:{stack.secrets.database_password}"
        # The driver by its name: SQLAlchemy's default for PostgreSQL is another one.
        sections["database"] = {"sql_alchemy_conn": f"postgresql+psycopg2://{login}@{stack.database}/{DATABASE}"}
    parser = configparser.ConfigParser(interpolation=None)
    # Airflow reads the file with interpolation: a % (in a path, say) is to be written twice.
    parser.read_dict(
        {name: {k: v.replace("%", "%%") for k, v in options.items()} for name, options in sections.items()}
    )
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()
