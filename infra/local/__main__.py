"""The command line of the one-machine stack; the Makefile's targets call it."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
from pathlib import Path

from feature_store import layout
from feature_store.energy import ENERGY
from infra.local.settings import BUCKET, HERE, HOST, VENV, Hosts, Stack, StackError


def parser() -> argparse.ArgumentParser:
    """Describe the commands and what they take."""
    parser = argparse.ArgumentParser(prog="python -m infra.local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="the main job: stack up, data landed, the daily DAG run and watched")
    run.add_argument("--data", help="a CSV, a CSV.gz or a folder of them (default: generated readings)")
    run.add_argument("--day", help="the day to compute, YYYY-MM-DD (default: the newest in the data)")
    commands.add_parser("stop", help="end every process of the stack")
    commands.add_parser("status", help="which parts are up")
    env = commands.add_parser("env", help="print export lines for other programs, while the stack is up")
    env.add_argument("--outside", action="store_true", help="for programs outside the containers, on their machine")
    serve = commands.add_parser("serve", help="run one part of the stack in the foreground")
    serve.add_argument("part")
    secrets = commands.add_parser("secrets", help="make the stack's secrets, unless they are there")
    secrets.add_argument("--database-password", type=Path, help="a file to leave the database's password in")
    commands.add_parser("migrate", help="write Airflow's configuration and bring its database up to date")
    ready = commands.add_parser("ready", help="exit 0 if a part of the stack answers, 1 if not")
    ready.add_argument("part")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; exit 0 done, 1 the run failed, 2 something for the person to do."""
    arguments = parser().parse_args(argv)
    try:
        return _dispatch(arguments)
    except StackError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2


def _dispatch(arguments: argparse.Namespace) -> int:
    # Imported late: each command pays only for what it needs, and `serve` is on the way of every process of the stack.
    from infra.local import stack  # noqa: PLC0415

    this = Stack.from_environment()
    os.environ.update(_without_the_callers_aws(this.hosts))
    match arguments.command:
        case "run":
            from infra.local import main_job  # noqa: PLC0415 - as above

            try:
                main_job.run(arguments.data, arguments.day)
            except main_job.RunFailedError as error:
                print(error, file=sys.stderr)  # noqa: T201
                return 1
        case "stop":
            stack.down(this)
        case "status":
            for part, state in stack.status(this).items():
                print(f"{part:<22}{state}")  # noqa: T201
        case "env":
            if not stack.is_up(this):
                raise StackError("The stack is not up: start it with `make run`.")
            for name, value in environment(this, outside=arguments.outside).items():
                print(f"export {name}={shlex.quote(value)}")  # noqa: T201
            if not arguments.outside:
                print(f'export PATH={shlex.quote(str(VENV / "bin"))}:"$PATH"')  # noqa: T201
        case "serve":
            stack.serve(arguments.part)
        case _:
            return _step_of_run(this, arguments)
    return 0


def _step_of_run(this: Stack, arguments: argparse.Namespace) -> int:
    """Do what `run` does by itself where the parts are its own; in containers, each step has one."""
    from infra.local import airflow, parts  # noqa: PLC0415 - as above
    from infra.local.files import write_private  # noqa: PLC0415 - as above

    match arguments.command:
        case "secrets":
            made = this.secrets
            if arguments.database_password:
                write_private(arguments.database_password, made.database_password)
        case "migrate":
            airflow.write_home(this)
            airflow.migrate(this)
        case "ready":
            return 0 if parts.answers(this, arguments.part) else 1
    return 0


def _without_the_callers_aws(hosts: Hosts) -> dict[str, str]:
    """Keep the caller's proxy, AWS session and AWS profile, where there are any, away from the stack."""
    proxied = {name: os.environ.get(name, "") for name in ("NO_PROXY", "no_proxy")}
    direct = {
        name: ",".join(dict.fromkeys([*filter(None, old.split(",")), HOST, "localhost", *vars(hosts).values()]))
        for name, old in proxied.items()
    }
    neutral = {"AWS_SESSION_TOKEN": "", "AWS_SECURITY_TOKEN": "", "AWS_PROFILE": "default"}
    return direct | {name: value for name, value in neutral.items() if os.environ.get(name)}


def environment(this: Stack, *, outside: bool = False) -> dict[str, str]:
    """Collect what any other program needs to look inside the running stack.

    Outside of containers their ports are this machine's, and their files are not there.
    """
    from infra.local import prepare  # noqa: PLC0415 - as above

    files = {
        "AIRFLOW_HOME": str(this.home / "airflow"),
        "KEYSPACES_CA": str(this.ca),
        "KEYSPACES_DRIVER_CONFIG": str(prepare.driver_config(this)),
    }
    if outside:
        this, files = dataclasses.replace(this, hosts=HERE), {}
    return {
        **_without_the_callers_aws(this.hosts),
        **this.aws_environment(),
        "AIRFLOW_URL": this.airflow_url,
        "FEATURE_STORE_BUCKET": BUCKET,
        "READINGS_URI": layout.uri(BUCKET, layout.READINGS),
        "FEATURES_URI": layout.uri(BUCKET, layout.features(ENERGY)),
        "KEYSPACES_HOST": this.hosts.keyspaces_host,
        "KEYSPACES_PORT": str(this.ports.keyspaces_port),
        "KEYSPACES_USERNAME": this.secrets.keyspaces_username,
        "KEYSPACES_PASSWORD": this.secrets.keyspaces_password,
        **files,
    }


if __name__ == "__main__":
    sys.exit(main())
