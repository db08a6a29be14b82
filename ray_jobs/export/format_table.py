"""The formats that predictions can be exported to. Importing this imports none of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fewshot.errors import UnknownNameError

ALL = ("ok", "abstained", "unknown", "unreadable")
"""Every `status` of a prediction."""
LABELLED = ("ok",)
SHOWABLE = ("ok", "abstained", "unknown")


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """A format.

    Attributes:
        name: for the command line.
        summary: one line for the help text.
        module: that writes it, in this package.
        is_folder: whether it is a folder of files; if not, it is one file.
        statuses: of the rows that it has unless others are named.
        images: "unread" does without the images; "measured" reads them, and they stay where they are; "copied" writes
            them into the folder.
        has_links: whether links to copied images can take their place.
        loading: how another program loads PATH, one line.
    """

    name: str
    summary: str
    module: str
    is_folder: bool
    statuses: tuple[str, ...]
    images: Literal["unread", "measured", "copied"]
    loading: str
    has_links: bool = False


FORMATS = (
    ExportFormat(
        "csv", "a table with a row an image; lists are JSON", "csv_table", False, ALL, "unread", "pandas.read_csv(PATH)"
    ),
    ExportFormat(
        "jsonl",
        "a JSON object a line",
        "json_lines",
        False,
        ALL,
        "unread",
        "pandas.read_json(PATH, lines=True), or DuckDB's read_json",
    ),
    ExportFormat(
        "coco",
        "COCO annotations, each box the whole image",
        "coco",
        False,
        LABELLED,
        "measured",
        "pycocotools.coco.COCO(PATH), or CVAT: COCO 1.0",
    ),
    ExportFormat(
        "imagefolder",
        "a folder of images a class",
        "image_folder",
        True,
        LABELLED,
        "copied",
        "torchvision.datasets.ImageFolder(PATH)",
        has_links=True,
    ),
    ExportFormat(
        "huggingface",
        "images with a table of metadata, for `datasets`",
        "hugging_face",
        True,
        LABELLED,
        "copied",
        "datasets.load_dataset(PATH)",
    ),
    ExportFormat(
        "fiftyone",
        "a FiftyOneImageClassificationDataset",
        "fiftyone_dataset",
        True,
        LABELLED,
        "copied",
        "fiftyone.Dataset.from_dir(PATH, dataset_type=fiftyone.types.FiftyOneImageClassificationDataset)",
        has_links=True,
    ),
    ExportFormat(
        "labelstudio",
        "tasks with predictions, and the labelling configuration",
        "label_studio",
        True,
        SHOWABLE,
        "copied",
        "import tasks-*.json into a project of Label Studio with config.xml",
        has_links=True,
    ),
    ExportFormat(
        "xmp",
        "an XMP sidecar an image, for Lightroom, darktable and digiKam",
        "xmp_sidecars",
        True,
        LABELLED,
        "unread",
        "copy the tree over the images, then let the program read metadata from files",
    ),
)
"""In the order of help texts."""


def find_format(name: str) -> ExportFormat:
    """Return a format by its name.

    Raises:
        UnknownNameError: there is none.
    """
    by_name = {each.name: each for each in FORMATS}
    if name not in by_name:
        raise UnknownNameError("format", name, by_name)
    return by_name[name]
