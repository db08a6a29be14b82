"""Checks of all committed files: forbidden text, large files, pickles, prints."""

import ast
import re
import shutil
import subprocess

import pytest

from tests.sources import PACKAGES, ROOT, imports, is_within, modules

MAX_BYTES = 12_000_000
HOSTS = (
    ("pypi", "org"),
    ("files", "pythonhosted", "org"),
    ("registry", "npmjs", "org"),
    ("registry", "yarnpkg", "com"),
)
FORBIDDEN_TEXT = {
    "a package index": "|".join(re.escape(".".join(parts)) for parts in HOSTS),
    "a path of one machine": r"(?<![\w.*-])/(work|root|Users)/\w",
    "a private key": "-----BEGIN [A-Z ]*PRIVATE" + " KEY-----",
    "a cloud credential": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
}
UNSAFE_MODULES = ("pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve")


def committed():
    """Return the paths of all tracked files that exist; skip the test outside a checkout."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    return [path for name in listed.decode().split("\0") if name and (path := ROOT / name).is_file()]


def unsafe_load(node: ast.AST) -> bool:
    """Return whether a node is a `torch.load` without weights_only=True, or a `numpy.load` that allows pickles."""
    match node:
        case ast.Call(ast.Attribute(ast.Name("torch"), "load"), _, options):
            return not any(option.arg == "weights_only" and ast.unparse(option.value) == "True" for option in options)
        case ast.Call(ast.Attribute(attr="load"), _, options):
            return any(option.arg == "allow_pickle" and ast.unparse(option.value) != "False" for option in options)
    return False


@pytest.mark.parametrize("what", FORBIDDEN_TEXT)
def test_no_committed_file_contains(what):
    pattern = re.compile(FORBIDDEN_TEXT[what])
    found = []
    for path in committed():
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="ignore").splitlines(), start=1):
            found += [f"{path.relative_to(ROOT)}:{number}: {match[0]}" for match in pattern.finditer(line)]
    assert found == []


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("a package index", "see https://" + "registry.npmjs" + ".org/left-pad"),
        ("a path of one machine", "cd /" + "work/main"),
        ("a private key", "-----BEGIN RSA PRIVATE" + " KEY-----"),
        ("a cloud credential", "key = " + "AKIA" + "IOSFODNN7EXAMPLE"),
    ],
)
def test_forbidden_text_is_recognised(what, line):
    assert re.search(FORBIDDEN_TEXT[what], line)


def test_committed_files_are_small():
    assert [str(path.relative_to(ROOT)) for path in committed() if path.stat().st_size >= MAX_BYTES] == []


def test_no_module_that_unpickles_is_imported():
    assert [
        f"{module} imports {name}"
        for module, tree in modules(*PACKAGES)
        for name in sorted(imports(module, tree))
        if any(is_within(name, unsafe) for unsafe in UNSAFE_MODULES)
    ] == []


def test_weights_are_loaded_without_pickles():
    assert [
        f"{module}, line {node.lineno}"
        for module, tree in modules(*PACKAGES)
        for node in ast.walk(tree)
        if unsafe_load(node)
    ] == []


@pytest.mark.parametrize(
    ("call", "unsafe"),
    [
        ("torch.load(f)", True),
        ("torch.load(f, weights_only=False)", True),
        ("torch.load(f, weights_only=True)", False),
        ("np.load(f, allow_pickle=True)", True),
        ("np.load(f)", False),
    ],
)
def test_an_unsafe_load_is_recognised(call, unsafe):
    assert unsafe_load(ast.parse(call, mode="eval").body) is unsafe


def test_only_the_command_line_prints():
    assert [
        f"{module}, line {node.lineno}"
        for module, tree in modules(*PACKAGES)
        if not is_within(module, "ray_jobs.commands.app")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ] == []
