"""The demo: classify 285 animals and foods in one drawn style, from examples in two other styles.

The pictures are emoji of three free projects (`LICENSES.md`), packed by `tools/build_demo_archive.py` into one zip of
WebP files for each style and `classes.csv`. The styles represent the usual difference between a few labelled examples
and an archive: the same things, photographed differently.
"""

from fewshot.demo.write import ARCHIVE_STYLE, EXAMPLE_STYLES, DemoPaths, write_demo

__all__ = ["ARCHIVE_STYLE", "EXAMPLE_STYLES", "DemoPaths", "write_demo"]
