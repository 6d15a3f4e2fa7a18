"""The command line of the platform on AWS; the Makefile's targets call it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.aws import settings as settings_of
from infra.aws import templates as templates_of
from infra.aws.cloudformation import Stacks
from infra.aws.deploy import deploy
from infra.aws.destroy import destroy
from infra.aws.errors import DeploymentError, SettingsError
from infra.aws.settings import Settings
from infra.aws.status import status
from infra.aws.target import Person, Target
from infra.aws.upload import MADE, Upload
from infra.local.settings import StackError

COMMANDS = {
    "deploy": "bring the stacks to their templates and settings, after showing what would change",
    "upload": "publish the code: a release for the clusters, DAGs, plugins and packages for Airflow",
    "destroy": "delete the stacks, after saying what goes and what stays",
    "status": "say what there is, and which release is in use",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; exit 0 done, 1 it failed or was declined, 2 settings that are not fit."""
    parser = argparse.ArgumentParser(prog="python -m infra.aws", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in COMMANDS.items():
        command = commands.add_parser(name, help=what, description=what)
        command.add_argument("--settings", type=Path, default=settings_of.SETTINGS, help="default: %(default)s")
        command.add_argument("--yes", action="store_true", help="agree to everything, as a pipeline does")
    arguments = parser.parse_args(argv)
    try:
        templates = templates_of.load()
        settings = settings_of.load(arguments.settings, templates, MADE)
        run(arguments.command, settings, templates, _agree(always=arguments.yes))
    except SettingsError as error:
        return _end(str(error), 2)
    except (DeploymentError, StackError) as error:
        return _end(str(error), 1)
    except (Boto3Error, BotoCoreError, ClientError) as error:
        return _end(f"AWS refuses: {error}. Next: mend that, and run the same command again; it goes on from here.", 1)
    except KeyboardInterrupt:
        return _end("Interrupted. What AWS has begun goes on; run the same command again, and it takes that up.", 1)
    return 0


def run(
    command: str, settings: Settings, templates: Sequence[templates_of.Template], agree: Callable[[str], bool]
) -> None:
    """Run one command with checked settings.

    Raises:
        DeploymentError: as deploy, upload and destroy do, or the credentials are of another account.
    """
    # Also for what makes clients of its own, by the environment: the upload of a release.
    os.environ["AWS_DEFAULT_REGION"] = settings.region
    session = boto3.Session()
    caller = session.client("sts").get_caller_identity()
    say(f"account {caller['Account']}, region {settings.region}, as {caller['Arn']}")
    if caller["Account"] != settings.account:
        raise DeploymentError(
            f"The settings are for the account {settings.account}: these credentials are of another one."
        )
    # CloudFormation allows few calls a second, and a deployment asks for hours.
    patient = Config(retries={"mode": "adaptive", "total_max_attempts": 10})
    stacks = Stacks(session.client("cloudformation", config=patient), say)
    target = Target(settings, templates, stacks, session, Person(agree, say))
    upload = Upload(target)
    match command:
        case "deploy":
            deploy(target, upload.makers())
            say("Deployed. Next: `make upload`.")
        case "upload":
            upload.run()
        case "destroy":
            destroy(target)
        case "status":
            upload.say_what_is_in_use(status(target))


def say(line: str) -> None:
    """Tell the person at the terminal something, at once also where the output is a pipe."""
    print(line, flush=True)  # noqa: T201


def _agree(*, always: bool) -> Callable[[str], bool]:
    def ask(question: str) -> bool:
        if always:
            return True
        try:
            return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
        except EOFError:
            say("\nThere is nobody to ask: --yes agrees to everything.")
            return False

    return ask


def _end(message: str, code: int) -> int:
    print(message, file=sys.stderr)  # noqa: T201
    return code


if __name__ == "__main__":
    sys.exit(main())
