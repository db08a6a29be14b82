"""Rules for imports: `fewshot` computes, `cluster` distributes, and only `ray_jobs` imports both."""

import ast

import pytest

from tests.sources import ROOT, imports, is_within, modules

FORBIDDEN = {
    "fewshot": (
        "cluster",
        "ray_jobs",
        "ray",
        "fsspec",
        "s3fs",
        "boto3",
        "botocore",
        "typer",
        "rich",
        "datetime",
        "time",
        "socket",
        "requests",
        "urllib",
    ),
    "cluster": (
        "fewshot",
        "ray_jobs",
        "torch",
        "torchvision",
        "PIL",
        "simplejpeg",
        "open_clip",
        "timm",
        "transformers",
        "diffusers",
        "safetensors",
        "typer",
        "rich",
    ),
    "ray_jobs": ("tests",),
}
TABLE = ("fewshot.methods.table", "fewshot.methods.building", "fewshot.methods.METHODS", "fewshot.methods.build_method")
USES_THE_TABLE = "fewshot.methods.auto"
"""The method that chooses among others by name."""
BUILT_ON_OTHERS = {"fewshot.methods.archive_heads", "fewshot.methods.gda_u", "fewshot.methods.ship"}
"""Methods that extend other methods."""
GLOBAL_STATE = ("os.environ", "os.getenv", "random.seed", "np.random.seed", "numpy.random.seed", "torch.manual_seed")


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_package_imports_nothing_of_a_forbidden_layer(package):
    assert [
        f"{module} imports {name}"
        for module, tree in modules(package)
        for name in sorted(imports(module, tree))
        if any(is_within(name, forbidden) for forbidden in FORBIDDEN[package])
    ] == []


def test_a_method_imports_no_other_method():
    folder = ROOT / "fewshot" / "methods"
    methods = {f"fewshot.methods.{path.parent.name}" for path in folder.glob("*/__init__.py")}
    assert [
        f"{module} imports {name}"
        for module, tree in modules("fewshot/methods")
        for name in sorted(imports(module, tree))
        for own in methods - BUILT_ON_OTHERS
        for others in [[*(methods - {own}), *(TABLE if own != USES_THE_TABLE else ())]]
        if is_within(module, own) and any(is_within(name, other) for other in others)
    ] == []


def test_the_library_uses_no_global_state():
    assert [
        f"{module}, line {node.lineno}: {ast.unparse(node)}"
        for module, tree in modules("fewshot")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in GLOBAL_STATE
    ] == []


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import ray.util", "ray.util"),
        ("from ray import get", "ray.get"),
        ("from . import data", "fewshot.images.data"),
        ("from ..data import tables", "fewshot.data.tables"),
        ("import_module('ray')", "ray"),
        ("importlib.import_module('ray')", "ray"),
        ("__import__('ray')", "ray"),
    ],
)
def test_every_form_of_import_is_found(line, name):
    hidden = f"class A:\n  def f(self):\n    if self:\n      {line}"
    assert imports("fewshot.images.decode", ast.parse(hidden)) == {name}


def test_a_shared_prefix_is_not_a_package():
    assert is_within("ray.util", "ray")
    assert not is_within("ray_jobs.commands.app", "ray")
