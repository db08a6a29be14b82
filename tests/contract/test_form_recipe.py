"""The form of archive that CONTRIBUTING.md adds, added to a copy of the project and held to the contract."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.sources import ROOT


def blocks(language: str) -> list[str]:
    """The code blocks of the section about forms."""
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## Add a form of archive\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.M | re.S)


def apply(diff: str, copy: Path) -> None:
    """Insert the added lines of each hunk beside its other lines, which must occur once."""
    head, _, body = diff.partition("\n")
    path = copy / head.removeprefix("+++ ")
    text = path.read_text()
    for hunk in body.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] == " ")
        assert text.count(before) == 1, before
        text = text.replace(before, "".join(line[1:] or "\n" for line in lines))
    path.write_text(text)


def test_the_form_of_the_recipe_keeps_the_contract(tmp_path):
    for name in ("cluster", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("fewshot", "ray_jobs", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (module,) = blocks("python")
    (tmp_path / module.partition("\n")[0].removeprefix("# ")).write_text(module)
    for diff in blocks("diff"):
        apply(diff, tmp_path)
    command = [sys.executable, "-m", "pytest", "tests/contract/test_sources.py", "-k", "cpio"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout
    assert int(passed[1]) > 20
