"""What the documents show works: their Python runs, their job files are valid, their commands exist and run."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest
import tomlkit
from typer.testing import CliRunner

from ray_jobs.commands.app import app
from ray_jobs.job_file.reading import SECTIONS, read_job

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for document in DOCUMENTS:
        for number, block in enumerate(re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.M | re.S)):
            found.append((f"{document.name}-{number}", block))
    return found


def each(language: str) -> pytest.MarkDecorator:
    found = blocks(language)
    return pytest.mark.parametrize("block", [block for _, block in found], ids=[name for name, _ in found])


@each("python")
def test_the_python_runs(block, tmp_path):
    (tmp_path / "block.py").write_text(block)
    runpy.run_path(str(tmp_path / "block.py"), run_name="__main__")


@each("toml")
def test_the_job_files_are_valid(block, tmp_path):
    sections = tomllib.loads(block)
    job_file = tmp_path / "job.toml"
    head = "" if "job" in sections else '[job]\nname = "x"\noutput = "runs"\n'
    job_file.write_text(head + block)
    job, problems = read_job(job_file)
    assert not problems
    assert all(getattr(job, name) is not None for name in sections)
    assert set(sections) <= set(SECTIONS)


@each("bash")
def test_the_make_targets_exist(block):
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([a-z0-9-]+)", block, re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_the_links_lead_somewhere():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_manifests_of_the_page_about_clusters_are_made_from_its_job_files(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "cluster.md").read_text()
    whole, _, on_machines = (tomllib.loads(block) for block in re.findall(r"^```toml\n(.*?)^```", page, re.M | re.S))
    monkeypatch.chdir(tmp_path)
    commands = [
        shlex.split(line)[1:]
        for block in re.findall(r"^```bash\n(.*?)^```", page, re.M | re.S)
        for line in block.splitlines()
        if line.startswith("fewshot manifest")
    ]
    assert ["launcher" in command for command in commands] == [False, False, True]
    for command in commands:
        text = tomlkit.dumps(whole | on_machines if "launcher" in command else whole)
        (tmp_path / "job.toml").write_text(text)
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
        written = tmp_path / command[command.index("--output") + 1]
        assert "groceries" in written.read_text()
        written.unlink()


@pytest.mark.slow
@pytest.mark.embedded
def test_the_commands_of_the_readme_run_on_its_own_job_file(tmp_path, monkeypatch):
    """In a folder with `photos/` and `examples/`, as the README has it."""
    from tests.strange_files import photo

    readme = (ROOT / "README.md").read_text()
    (tmp_path / "job.toml").write_text(re.findall(r"^```toml\n(.*?)^```", readme, re.M | re.S)[0])
    for i, colour in enumerate(("apple", "pear")):
        for j in range(5):
            target = tmp_path / ("photos" if j == 4 else f"examples/{colour}") / f"{colour}{j}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            photo(64, 48, seed=10 * i + j).save(target)
    monkeypatch.chdir(tmp_path)
    commands = [
        shlex.split(line, comments=True)
        for block in re.findall(r"^```bash\n(.*?)^```", readme, re.M | re.S)
        for line in block.splitlines()
        if line.startswith("fewshot")
    ]
    assert [command[1] for command in commands] == ["plan", "classify", "status", "report"]
    for command in commands:
        result = CliRunner().invoke(app, command[1:])
        assert result.exit_code == 0, result.output
    assert len(list(tmp_path.glob("runs/groceries/runs/*/predictions/part-*.parquet"))) == 1
    shutil.rmtree(tmp_path / "runs")
