"""What the documents show works: their Python runs, their job files are valid, their commands exist and run."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import tomlkit
from typer.testing import CliRunner

from ray_jobs.commands.app import app
from ray_jobs.job_file.reading import SECTIONS, read_job
from tools.notebook import run_notebook

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


def anchors(text: str) -> set[str]:
    """The places in a document that links can name: its headings, as GitHub turns them into anchors."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_links_to_sections_lead_to_headings():
    for document in DOCUMENTS:
        for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", document.read_text()):
            page = document.parent / target if target else document
            assert anchor in anchors(page.read_text()), f"{document.name}: {target}#{anchor}"


def test_every_page_is_reached_from_the_readme():
    reached, left = set[Path](), [ROOT / "README.md"]
    while left:
        page = left.pop()
        linked = {(page.parent / name).resolve() for name in re.findall(r"\]\(([^)#:]+\.md)[)#]", page.read_text())}
        left += linked - reached
        reached |= linked
    assert {page.name for page in DOCUMENTS} - {page.name for page in reached} <= {"README.md", "CHANGELOG.md"}


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
def test_the_commands_of_the_readme_run_in_their_order(tmp_path, monkeypatch):
    """In a folder with `photos/` and `examples/`, as the README has it."""
    from tests.strange_files import photo

    for i, colour in enumerate(("apple", "pear")):
        for j in range(5):
            target = tmp_path / ("photos" if j == 4 else f"examples/{colour}") / f"{colour}{j}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            photo(64, 48, seed=10 * i + j).save(target)
    monkeypatch.chdir(tmp_path)
    commands = [
        shlex.split(line, comments=True)
        for block in re.findall(r"^```bash\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
        for line in block.splitlines()
        if line.startswith("fewshot")
    ]
    assert [command[1] for command in commands] == [
        "classify",
        "init",
        "plan",
        "classify",
        "status",
        "report",
        "verify",
    ]
    for command in commands:
        result = CliRunner().invoke(app, command[1:])
        assert result.exit_code == 0, result.output
    assert len(list(tmp_path.glob("runs/groceries/predictions/*/part-*.parquet"))) >= 1
    assert (tmp_path / "runs/groceries/latest.json").is_file()
    shutil.rmtree(tmp_path / "runs")


@pytest.mark.slow
def test_the_readme_installs_a_package_whose_command_runs(tmp_path):
    """`uv tool install` and pip build the same wheel; what it depends on is installed here already."""
    (block,) = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert [line[:3] for line in lines] == [["uv", "tool", "install"]] * 2 + [["docker", "build", "--tag"]]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert all(line[-1] == ".[embedded]" for line in lines[:2])
    assert "embedded" in project["optional-dependencies"]
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        pytest.skip("uv is not installed")
    options = subprocess.run([uv, "tool", "install", "--help"], check=True, capture_output=True, text=True).stdout
    assert "--torch-backend" in options
    install = [uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([*install, str(tmp_path / "tool"), str(ROOT)], check=True, cwd=ROOT, env=_in_this_environment())
    run = [sys.executable, str(tmp_path / "tool" / "bin" / "fewshot"), "--version"]
    told = subprocess.run(run, check=True, capture_output=True, text=True, env=_in_this_environment(tmp_path / "tool"))
    assert told.stdout == f"fewshot {project['version']}\n"


def _in_this_environment(*folders: Path) -> dict[str, str]:
    """Environment variables with which uv installs into this environment, and folders come first on the path."""
    return os.environ | {"VIRTUAL_ENV": sys.prefix, "PYTHONPATH": os.pathsep.join(map(str, folders))}


@pytest.mark.slow
@pytest.mark.embedded
def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = run_notebook(ROOT / "docs" / "python.ipynb")
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    values = ["".join(output["data"]["text/plain"]) for output in outputs if "data" in output]
    assert "(True, 291, 6)" in values
    assert "(True, 'gda', 'index.html')" in values


def test_the_notebook_is_stored_with_its_outputs():
    cells = json.loads((ROOT / "docs" / "python.ipynb").read_text())["cells"]
    assert all(cell["outputs"] for cell in cells if cell["cell_type"] == "code")
