"""The address of a cluster's dashboard, checked before Ray is imported."""

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
    "Set RAY_AUTH_MODE=token here, and RAY_AUTH_TOKEN to the cluster's token or RAY_AUTH_TOKEN_PATH to a file with it; "
    "`ray get-auth-token` on the cluster's head prints the token"
)
_TIMEOUT_S = 10.0
_EXAMPLE = "expected the dashboard of a running Ray cluster, e.g. --address http://head:8265"


def dashboard_url(given: str | None, environment: Mapping[str, str]) -> str:
    """Return the URL of a cluster's dashboard, without a slash at its end.

    Args:
        given: the address in the command; None takes it from the environment.
        environment: RAY_API_SERVER_ADDRESS or RAY_ADDRESS count if they are http(s) URLs.

    Raises:
        JobError: there is no address, or it is not an http(s) URL, or it contains a password.
    """
    address = given or next((v for name in VARIABLES if (v := environment.get(name, "")).startswith("http")), None)
    if address is None:
        raise JobError([f"no address of a cluster: {_EXAMPLE}, or set {VARIABLES[0]}"])
    parts = urlsplit(address)
    if parts.username or parts.password:
        raise JobError([f"the address of the cluster contains a user or a password: leave it out. {ADVICE}"])
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise JobError([f"wrong address of a cluster: {_EXAMPLE}, not one of Ray's other ports; got {address!r}"])
    return address.rstrip("/")


def fetch_ray_version(address: str, environment: Mapping[str, str], *, timeout_s: float = _TIMEOUT_S) -> str:
    """Return the version of Ray on a cluster.

    Args:
        address: URL of the dashboard, see `dashboard_url`.
        environment: with RAY_AUTH_MODE and the token.
        timeout_s: seconds to wait for a response.

    Raises:
        JobError: there is no response, or none of a dashboard, or the token is missing or wrong.
    """
    request = Request(f"{address}/api/version", headers=_authorization(environment))  # noqa: S310 (http and https only)
    try:
        with urlopen(request, timeout=timeout_s) as response:  # noqa: S310
            return str(json.load(response)["ray_version"])
    except HTTPError as error:
        raise JobError([_refusal(address, error.code)]) from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise JobError([f"no response from {address} ({reason}): {_EXAMPLE}, reachable from this machine"]) from None
    except (ValueError, KeyError, TypeError):
        raise JobError([f"the server at {address} is not a Ray dashboard: {_EXAMPLE}"]) from None


def _refusal(address: str, status: int) -> str:
    if status == 401:
        return f"the cluster at {address} requires a token. {ADVICE}"
    if status == 403:
        return f"the cluster at {address} refuses the token that is set here. {ADVICE}"
    return f"the server at {address} is not a Ray dashboard (HTTP status {status}): {_EXAMPLE}"


def _authorization(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the header with the token, from the same places as Ray's own client."""
    if environment.get("RAY_AUTH_MODE") != "token":
        return {}
    token = environment.get("RAY_AUTH_TOKEN", "")
    if not token:
        path = Path(environment.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
        token = path.read_text(encoding="utf-8") if path.is_file() else ""
    return {"Authorization": f"Bearer {token.strip()}"} if token.strip() else {}
