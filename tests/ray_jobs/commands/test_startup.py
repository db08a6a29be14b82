"""The command starts at once: what help, version, completion and lists may import, and what they may cost."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sources import ROOT

RUN = """
import sys
before = set(sys.modules)
sys.argv = ["fewshot", *sys.argv[1:]]
from ray_jobs.commands.app import main
try:
    main()
finally:
    sys.stderr.write(" ".join(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""
TYPER = {"annotated_doc", "shellingham", "typer"}
HELP = {"attr", "linkify_it", "markdown_it", "mdurl", "pygments", "rich"}
"""Packages by which typer shows help texts; some are imported where they are installed."""
ARGUMENTS = {"annotated_types", "pydantic", "pydantic_core", "typing_extensions", "typing_inspection"}
"""Packages by which typer reads the arguments of a command."""
OWN = {"fewshot", "ray_jobs"}

COMPLETION = {"_FEWSHOT_COMPLETE": "complete_bash", "COMP_WORDS": "fewshot m", "COMP_CWORD": "1"}
CASES = [
    (["--help"], {}, OWN | TYPER | HELP),
    (["--version"], {}, OWN | TYPER),
    (["classify", "--help"], {}, OWN | TYPER | HELP | ARGUMENTS),
    (["submit", "--help"], {}, OWN | TYPER | HELP | ARGUMENTS),
    ([], COMPLETION, OWN | TYPER | ARGUMENTS),
    (["methods"], {}, OWN | TYPER | ARGUMENTS | HELP),
    (["methods", "tip_adapter"], {}, OWN | TYPER | ARGUMENTS | HELP),
    (["schema"], {}, OWN | TYPER | ARGUMENTS),
]
MAX_CPU_S = 0.4
"""CPU seconds of such a command, with compiled bytecode; where the machine is slow or busy, twice `BASELINE` counts."""
BASELINE = "import pydantic, typer, typer.rich_utils"


@pytest.fixture(scope="module")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for compiled bytecode that all commands share."""
    return tmp_path_factory.mktemp("bytecode")


def run(
    words: list[str], environment: dict[str, str], bytecode: Path, program: str = RUN
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own; it ends with a line of the packages that it imported."""
    variables = {"PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(bytecode), "PYTHONDONTWRITEBYTECODE": ""}
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        env=os.environ | variables | environment,
        capture_output=True,
        text=True,
        check=True,
    )


def imported(done: subprocess.CompletedProcess[str]) -> set[str]:
    """The packages that a command imported, without those of the standard library."""
    packages = done.stderr.splitlines()[-1].split()
    return {package for package in packages if package not in sys.stdlib_module_names and package[0] != "_"}


def cpu_s(words: list[str], environment: dict[str, str], bytecode: Path, program: str = RUN) -> float:
    """The CPU seconds of a command, the least of three runs."""
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run(words, environment, bytecode, program)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(times)


@pytest.mark.parametrize(("words", "environment", "allowed"), CASES)
def test_a_quick_command_imports_and_costs_little(words, environment, allowed, bytecode):
    intruders = imported(run(words, environment, bytecode)) - allowed
    assert not intruders, f"fewshot {' '.join(words)} imports {', '.join(sorted(intruders))}"
    least = cpu_s(words, environment, bytecode)
    limit = MAX_CPU_S if least <= MAX_CPU_S else max(MAX_CPU_S, 2 * cpu_s([], {}, bytecode, BASELINE))
    assert least <= limit, f"fewshot {' '.join(words)}: {least:.2f} CPU seconds"


def test_an_intruder_is_found(bytecode):
    assert "rich" in imported(run(["--help"], {}, bytecode))
    assert "rich" not in imported(run(["--version"], {}, bytecode))


def test_completion_completes_commands(bytecode):
    assert set(run([], COMPLETION, bytecode).stdout.split()) == {"methods", "models", "manifest"}


def test_completion_completes_methods(bytecode):
    words = {"_FEWSHOT_COMPLETE": "complete_bash", "COMP_WORDS": "fewshot methods tip", "COMP_CWORD": "2"}
    assert set(run([], words, bytecode).stdout.split()) == {"tip_adapter", "tip_adapter_f", "tip_x"}


def test_a_plan_without_a_probe_loads_no_torch(place, bytecode):
    done = run(["plan", str(place.job), "--no-probe"], {}, bytecode)
    assert {"torch", "open_clip", "ray"}.isdisjoint(imported(done))
