"""Names of environment variables are classified as secrets or settings."""

from __future__ import annotations

import pytest

from cluster.secrets import names_a_secret


@pytest.mark.parametrize(
    "name",
    [
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "HF_TOKEN",
        "RAY_AUTH_TOKEN",
        "db_password",
        "AZURE_SAS",
        "apikey",
        "ACCESSKEY",
        "DB_CONNECTION_STRING",
        "PGPASSWORD",
        "ACCESSTOKEN",
        "SECRETACCESSKEY",
        "AWS_SECRETKEY",
        "PRIVATE",
        "TOKEN1",
    ],
)
def test_the_name_of_a_secret_is_recognised(name):
    assert names_a_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "AWS_REGION",
        "TOKENIZERS_PARALLELISM",
        "RAY_AUTH_TOKEN_PATH",
        "RAY_AUTH_MODE",
        "KEYBOARD",
        "PWD",
        "SSH_AUTH_SOCK",
        "PGPASSFILE",
        "MYSQL_PASSWORD_FILE",
        "MONKEY",
        "COMPATIBLE",
    ],
)
def test_the_name_of_a_setting_is_not_a_secret(name):
    assert not names_a_secret(name)
