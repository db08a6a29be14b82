"""The demo: label 285 animals and foods in one drawn style, having seen them in two others.

The pictures are emoji of three free projects (`LICENSES.md`), packed by `tools/build_demo_archive.py`: one zip of
WebP files a style and `classes.csv`. A style stands for what separates somebody's few labelled examples from the
archive they want labelled: the same things, photographed differently.
"""

from fewshot.demo.write import ARCHIVE_STYLE, EXAMPLE_STYLES, DemoPaths, write_demo

__all__ = ["ARCHIVE_STYLE", "EXAMPLE_STYLES", "DemoPaths", "write_demo"]
