"""The image cannot be built here; what it is built from can be looked at, and the package built from what it copies."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest

from ray_jobs.manifest.path_problems import NEEDED_FOLDERS
from ray_jobs.manifest.pods import USER
from tests.sources import PACKAGES, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions() -> list[list[str]]:
    """The instructions of the Dockerfile, as words."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    return [shlex.split(line) for line in text.splitlines() if line.strip() and not line.startswith("#")]


def arguments(name: str) -> list[list[str]]:
    return [words for instruction, *words in instructions() if instruction == name]


def copied() -> list[str]:
    """What is copied from the checkout."""
    return [source for words in arguments("COPY") if not words[0].startswith("--from") for source in words[:-1]]


def locked() -> dict[str, bool]:
    """The packages of the lock, and whether each is pinned with hashes."""
    entries = re.split(r"^(?=[a-z0-9])", (ROOT / "requirements.lock").read_text(), flags=re.M)[1:]
    return {re.match(r"[\w.-]+", entry)[0]: "==" in entry and "--hash=sha256:" in entry for entry in entries}


def test_all_that_is_copied_exists_and_reaches_the_build():
    context = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(copied()) == sorted(context)
    assert all((ROOT / name).exists() for name in context)


def test_versions_come_from_the_lock_with_hashes():
    installs = [" ".join(words) for words in arguments("RUN") if words[:2] == ["pip", "install"]]
    assert [("--require-hashes --requirement requirements.lock" in line, "--no-deps" in line) for line in installs] == [
        (True, False),
        (False, True),
    ]
    assert all(locked().values())


@pytest.mark.parametrize("group", ["dependencies", *PROJECT["optional-dependencies"]])
def test_the_lock_has_every_dependency(group):
    wanted = PROJECT["dependencies"] if group == "dependencies" else PROJECT["optional-dependencies"][group]
    names = {re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-") for requirement in wanted}
    assert names <= locked().keys()


def test_the_image_is_what_manifests_expect():
    assert arguments("USER") == [[f"{USER}:{USER}"]]
    assert arguments("FROM")[-1] == ["python:3.11-slim"]
    environment = {word.partition("=")[0]: word.partition("=")[2] for words in arguments("ENV") for word in words}
    assert environment["HOME"] in NEEDED_FOLDERS
    assert environment["PATH"].startswith("/opt/fewshot/bin:")
    assert "/opt/fewshot" in NEEDED_FOLDERS


def test_the_package_is_built_from_what_the_image_copies(tmp_path):
    for name in set(copied()):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    subprocess.run([sys.executable, "-m", "hatchling", "build", "--target", "wheel"], cwd=tmp_path, check=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file())
    assert {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts} <= inside
