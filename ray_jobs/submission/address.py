"""Where a cluster's dashboard is, and who answers there. What can be wrong is told before Ray is imported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from ray_jobs.errors import JobError

VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
ADVICE = (
    "Set RAY_AUTH_MODE=token here, and the cluster's token as RAY_AUTH_TOKEN or the file that holds it as "
    "RAY_AUTH_TOKEN_PATH; `ray get-auth-token` tells it on the cluster's head."
)
_PROBE_S = 10.0
_EXAMPLE = "Expected the dashboard of a running Ray, e.g. --address http://head:8265"


def dashboard(given: str | None, environment: Mapping[str, str]) -> str:
    """The URL of a cluster's dashboard.

    Args:
        given: what the user said; None looks into the environment.
        environment: RAY_API_SERVER_ADDRESS or RAY_ADDRESS count if they are http(s) URLs.

    Raises:
        JobError: there is none, or it is no http(s) URL, or it holds a password.
    """
    address = given or next((v for name in VARIABLES if (v := environment.get(name, "")).startswith("http")), None)
    if address is None:
        raise JobError([f"no cluster is named. {_EXAMPLE}, or set {VARIABLES[0]}"])
    parts = urlsplit(address)
    if parts.username or parts.password:
        raise JobError([f"the address of the cluster holds a name or a password: leave it out. {ADVICE}"])
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise JobError([f"got the address {address!r}. {_EXAMPLE}; jobs are sent to it, not to Ray's own ports"])
    return address.rstrip("/")


def probe(address: str, environment: Mapping[str, str], *, timeout_s: float = _PROBE_S) -> str:
    """Ask who answers at an address.

    Args:
        address: as `dashboard` returns it.
        environment: where RAY_AUTH_MODE and the token are.
        timeout_s: seconds to wait for an answer.

    Returns:
        the version of Ray that the cluster runs.

    Raises:
        JobError: nobody answers, or it is no dashboard, or it wants another token.
    """
    request = Request(f"{address}/api/version", headers=_authorization(environment))  # noqa: S310 (http and https only)
    try:
        with urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
            return str(json.load(answer)["ray_version"])
    except HTTPError as error:
        raise JobError([_refused(address, error.code)]) from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise JobError([f"no dashboard answers at {address} ({reason}). {_EXAMPLE}, and a way to it"]) from None
    except (ValueError, KeyError, TypeError):
        raise JobError([f"something answers at {address}, but no Ray. {_EXAMPLE}"]) from None


def _refused(address: str, status: int) -> str:
    if status == 401:
        return f"the cluster at {address} wants a token. {ADVICE}"
    if status == 403:
        return f"the cluster at {address} does not know the token that is set here. {ADVICE}"
    return f"something answers at {address}, with HTTP status {status}, but no Ray. {_EXAMPLE}"


def _authorization(environment: Mapping[str, str]) -> dict[str, str]:
    """The header with the token, found where Ray finds it."""
    if environment.get("RAY_AUTH_MODE") != "token":
        return {}
    token = environment.get("RAY_AUTH_TOKEN", "")
    if not token:
        path = Path(environment.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
        token = path.read_text(encoding="utf-8") if path.is_file() else ""
    return {"Authorization": f"Bearer {token.strip()}"} if token.strip() else {}
