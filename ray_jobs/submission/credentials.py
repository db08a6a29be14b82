"""Keep credentials out of submissions: Ray stores what comes with a job in the clear, for all who may list jobs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.secrets import names_a_secret, quotes_secret, secrets_in, without_credentials

CREDENTIALS_ADVICE = (
    "Ray stores what comes with a job in the clear. Give credentials to the cluster's own processes: by a Secret in "
    "the environment of the pods, or by the identity of the machines"
)


def credential_in(text: str, environment: Mapping[str, str]) -> str | None:
    """Return the name of a variable whose secret value occurs in the text; None if there is none."""
    return next((name for name, value in secrets_in(environment).items() if quotes_secret(text, value)), None)


def variables_to_send(given: Sequence[str], environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the environment variables to send with a job.

    Args:
        given: "NAME" for a variable with its value here, or "NAME=VALUE".
        environment: of this process.

    Returns:
        the variables, and every problem: variables that are not set, and those that look like a secret.
    """
    variables: dict[str, str] = {}
    problems = []
    for item in given:
        name, separator, value = item.partition("=")
        if not separator:
            value = environment.get(name, "")
        if names_a_secret(name):
            problems.append(f"--env {name}: the name is that of a credential. {CREDENTIALS_ADVICE}")
        elif without_credentials(value) != value or credential_in(value, environment):
            problems.append(f"--env {name}: the value contains a credential. {CREDENTIALS_ADVICE}")
        elif not re.fullmatch(r"[A-Za-z_]\w*", name) or (not separator and name not in environment):
            problems.append(f"--env {name}: expected a variable that is set here, or NAME=VALUE")
        else:
            variables[name] = value
    return variables, problems


def credentials_in_job(job: Mapping[str, Any], environment: Mapping[str, str], where: str = "") -> list[str]:
    """Return a problem for each key of a job file whose value contains a credential.

    Args:
        job: sections by name, as plain values.
        environment: its secrets are searched for.
        where: section and keys that lead to the mapping, for messages.
    """
    problems = []
    for key, value in job.items():
        place = f"{where}.{key}" if where else f"[{key}]"
        if isinstance(value, Mapping):
            problems += credentials_in_job(value, environment, place)
        elif isinstance(value, list | tuple):
            problems += credentials_in_job({str(i): item for i, item in enumerate(value)}, environment, place)
        elif isinstance(value, str) and (without_credentials(value) != value or credential_in(value, environment)):
            problems.append(f"{place} contains a credential, or the query of a URL. {CREDENTIALS_ADVICE}")
    return problems
