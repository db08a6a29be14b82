"""Few-shot classification of image archives.

    import fewshot

    run = fewshot.classify("photos/", "examples/")
    run.predictions().to_pandas()

This package computes: it runs without Ray and without storage, and therefore never imports `cluster` or `ray_jobs`.
The functions above it are registered by whoever defines them, as entry points of the group `fewshot.interface` in
pyproject.toml, and are looked up when they are first used. So the dependency points from `ray_jobs` to `fewshot` only,
and importing this package imports nothing else.
"""

from __future__ import annotations

GROUP = "fewshot.interface"
"""The group of entry points that names in `__all__` are found in."""

__all__ = ["JobError", "__version__", "classify", "evaluate", "load_classifier", "methods", "open_run"]


def __getattr__(name: str) -> object:
    """Return a name of the interface, imported on first use.

    Raises:
        AttributeError: there is no such name, or the package is on the path without being installed.
    """
    if name not in __all__:
        raise AttributeError(f"module 'fewshot' has no attribute {name!r}. Its interface: {', '.join(__all__)}")
    value = _find(name)
    globals()[name] = value
    return value


def _find(name: str) -> object:
    from importlib import import_module, metadata

    if name == "methods":
        return import_module("fewshot.methods")
    try:
        if name == "__version__":
            return metadata.version("fewshot")
        (entry,) = metadata.entry_points(group=GROUP, name=name)
    except (metadata.PackageNotFoundError, ValueError):
        raise AttributeError(
            f"fewshot.{name} needs an installed package: its metadata were not found. Run `pip install .` or `make`"
            " in the project's folder"
        ) from None
    return entry.load()


def __dir__() -> list[str]:
    """Return the names of the interface, for completion."""
    return sorted([*__all__, *globals()])
