"""What must not be sent along: Ray keeps what comes with a job in the clear, and shows it to whoever may list jobs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.secrets import names_a_secret, secrets_in, without_credentials

ADVICE = (
    "Ray stores what comes with a job in the clear. Give credentials to the cluster's own processes: a secret in the "
    "pods' environment, or the machines' identity"
)


def credential_in(text: str, environment: Mapping[str, str]) -> str | None:
    """The name of the variable whose secret value occurs in the text, if there is one."""
    return next((name for name, value in secrets_in(environment).items() if value in text), None)


def settings_to_send(given: Sequence[str], environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Environment variables that go with a job.

    Args:
        given: "NAME", whose value is taken from here, or "NAME=VALUE".
        environment: of this process.

    Returns:
        the variables, and every problem: what is unset, what looks like a secret.
    """
    settings: dict[str, str] = {}
    problems = []
    for item in given:
        name, separator, value = item.partition("=")
        if not separator:
            value = environment.get(name, "")
        if names_a_secret(name):
            problems.append(f"--env {name}: this looks like a credential. {ADVICE}")
        elif without_credentials(value) != value or credential_in(value, environment):
            problems.append(f"--env {name}: its value holds a credential. {ADVICE}")
        elif not re.fullmatch(r"[A-Za-z_]\w*", name) or (not separator and name not in environment):
            problems.append(f"--env {name}: expected a variable that is set here, or NAME=VALUE")
        else:
            settings[name] = value
    return settings, problems


def credentials_in_job(job: Mapping[str, Any], environment: Mapping[str, str], where: str = "") -> list[str]:
    """Problems: keys of a job file whose values hold a credential.

    Args:
        job: sections by name, as plain values.
        environment: whose secrets are looked for.
        where: how the mapping itself is called.
    """
    problems = []
    for key, value in job.items():
        called = f"{where}.{key}" if where else f"[{key}]"
        if isinstance(value, Mapping):
            problems += credentials_in_job(value, environment, called)
        elif isinstance(value, list | tuple):
            problems += credentials_in_job({str(i): item for i, item in enumerate(value)}, environment, called)
        elif isinstance(value, str) and (without_credentials(value) != value or credential_in(value, environment)):
            problems.append(f"{called} holds a credential, or the query of a URL. {ADVICE}")
    return problems
