"""Folders whose subfolders are classes, and folders of images with a table of labels beside them.

Ambiguous folders are refused, and the message lists the choices: folders of splits in the place of classes, deeper
folders that may be the classes, folders without an image, labels in a table that differ from the names of the folders.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from cluster import Storage, Store
from cluster.records.listing import Entry
from cluster.records.names import is_hidden, printable
from fewshot.data import Example
from fewshot.data.split_names import ALL, names_chosen, split_of, suggested_split
from fewshot.errors import DataError, MissingColumnError
from ray_jobs.inputs.example_tables import FoundExamples, LabelOptions, read_table
from ray_jobs.inputs.mask_names import notice_of_example_masks

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Tables beside images, as `imagefolder` of Hugging Face `datasets` has them."""
FEW = 5
"""Folders that a message names."""


@dataclass(frozen=True, slots=True)
class FolderImage:
    """An image in a folder.

    Attributes:
        entry: as it was listed, relative to the whole folder.
        folders: the folders that it lies in, below that of its split.
    """

    entry: Entry
    folders: tuple[str, ...]

    def without(self, level: int) -> FolderImage:
        """Return the image without one of its folders."""
        return replace(self, folders=self.folders[:level] + self.folders[level + 1 :])


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFolder:
    """A folder of images of one split.

    Attributes:
        root: where the whole folder is; paths of images are relative to it.
        split: name of the split's folder in it; "" if the whole folder is of one split.
        images: the images of the split.
    """

    root: str
    split: str = ""
    images: Sequence[FolderImage]

    @property
    def uri(self) -> str:
        """Where the folder of the split is."""
        return f"{self.root.rstrip('/')}/{self.split}" if self.split else self.root

    @property
    def classes(self) -> list[str]:
        """The folders right below, with images at any depth."""
        return sorted({image.folders[0] for image in self.images if image.folders})

    @property
    def loose(self) -> list[str]:
        """Images that lie in no folder below."""
        return [image.entry.key for image in self.images if not image.folders]


def read_class_folders(
    entries: Sequence[Entry],
    uri: str,
    options: LabelOptions,
    known: Collection[str],
    storage: Storage,
    *,
    has_others: bool,
) -> FoundExamples:
    """Read examples from a folder of images.

    Args:
        entries: the images in the folder.
        uri: where it is.
        options: which split is used, and which folder names the class.
        known: labels of classes that need no example.
        storage: how S3 is reached.
        has_others: whether there are files beside the images, one of which may be a table of labels.

    Raises:
        DataError: the folders are not classes with images, or can be read in several ways.
        ClusterError: they cannot be read.
    """
    if links := [entry.key for entry in entries if entry.leads_out]:
        found = f"{len(links)} symbolic links out of it, e.g. {links[0]}"
        raise DataError(f"{uri}: {found}; set support.follow_links = true to follow them")
    images = [FolderImage(entry, tuple(entry.path.split("/")[:-1])) for entry in entries]
    whole = ImageFolder(root=uri, images=images)
    folder = _of_split(whole, options)
    if has_others and (labelled := _read_metadata(folder or whole, options, storage)) is not None:
        return labelled
    if folder is None:
        raise DataError(
            f"{uri} has no folder of a split, so {options.split.setting(options.split.split or '')} selects nothing; it"
            f" has {_listed(whole.classes) or 'no folders'}"
        )
    _check_images(folder)
    _check_empty(folder, known, storage)
    label_level = _label_level(folder, options)
    examples = [Example(image.entry.path, image.folders[label_level]) for image in folder.images]
    notice = notice_of_example_masks(example.image for example in examples)
    return FoundExamples(examples, uri, notices=() if notice is None else (notice,))


def _check_images(folder: ImageFolder) -> None:
    """Raise DataError unless there are images, all of them in folders of classes."""
    expected = f"{folder.uri}: expected a folder per class with images in it"
    if loose := folder.loose:
        raise DataError(f"{expected}, found {len(loose)} images that are in no class folder, e.g. {loose[0]}")
    if not folder.images:
        raise DataError(f"{expected}, found no images")


def _of_split(folder: ImageFolder, options: LabelOptions) -> ImageFolder | None:
    """Return the chosen split; the folder itself if none was chosen, None if it has no folders of splits."""
    choice, names = options.split, folder.classes
    if choice.split is None:
        _refuse_splits(folder, options)
        return folder
    if choice.split.casefold() == ALL and ALL not in names:
        raise DataError(f'{folder.root}: "{ALL}" splits can be chosen in tables; of a folder, name one')
    folders = [name for name in names if split_of(name) is not None or name.casefold() == choice.split.casefold()]
    if folders:
        chosen = _only(names_chosen(choice.split, folders, where=folder.root), folder.root)
        kept = [image.without(0) for image in folder.images if image.folders[:1] == (chosen,)]
        return replace(folder, split=chosen, images=kept)
    if not _are_below_classes(folder):
        return None
    chosen_names = names_chosen(choice.split, _second_level(folder), where=folder.root)
    return replace(folder, images=[image.without(1) for image in folder.images if image.folders[1] in chosen_names])


def _refuse_splits(folder: ImageFolder, options: LabelOptions) -> None:
    """Refuse folders of splits in the place of classes, or right below them, as MVTec AD has them."""
    names = folder.classes
    splits = [name for name in names if split_of(name) is not None]
    if len(splits) > 1 or (splits and splits == names):
        way = options.split.setting(suggested_split(splits))
        raise DataError(
            f"{folder.root} has {_listed(splits)}: these are splits, not classes. Set {way}, or point uri at "
            f"{folder.root.rstrip('/')}/{suggested_split(splits)} (if they are classes, list the images in a table)"
        )
    if _are_below_classes(folder) and len(_second_level(folder)) > 1:
        way = options.split.setting(suggested_split(_second_level(folder)))
        raise DataError(f"{folder.root}: the folders of classes have {_listed(_second_level(folder))}. Set {way}")


def _are_below_classes(folder: ImageFolder) -> bool:
    """Return whether the second folder of every image is one of a split."""
    second = _second_level(folder)
    deep = all(len(image.folders) > 1 for image in folder.images)
    return bool(second) and deep and all(split_of(name) is not None for name in second)


def _second_level(folder: ImageFolder) -> list[str]:
    return sorted({image.folders[1] for image in folder.images if len(image.folders) > 1})


def _only(names: Collection[str], where: str) -> str:
    if len(names) > 1:
        raise DataError(f"{where} has {_listed(sorted(names))}, which differ only in case: rename one")
    (name,) = names
    return name


def _read_metadata(folder: ImageFolder, options: LabelOptions, storage: Storage) -> FoundExamples | None:
    """Read labels from a table beside the images; None if there is none, or only its folders name classes."""
    table = _metadata(folder.uri, storage)
    if table is None and folder.split:
        return _metadata_of_all(folder, options, storage)
    names = folder.classes
    are_classes = not folder.loose and len(names) > 1
    if table is None or (are_classes and options.class_folder is not None):
        return None
    split = replace(options.split, split=None) if folder.split else options.split
    try:
        found = read_table(table, replace(options, split=split), storage)
    except MissingColumnError:
        if are_classes:
            return None
        raise
    if are_classes and any(example.image.split("/")[0] != example.label for example in found.examples if example.image):
        raise DataError(
            f"{table} has labels, and the folders beside it have other names: {_listed(names)}. Point uri at "
            f'{table} for its labels, or set class_folder = "first" for those of the folders'
        )
    return found


def _metadata_of_all(folder: ImageFolder, options: LabelOptions, storage: Storage) -> FoundExamples | None:
    """Read labels from a table beside the folders of splits, whose paths begin with the name of the split."""
    table = _metadata(folder.root, storage)
    if table is None or (not folder.loose and len(folder.classes) > 1):
        return None
    found = read_table(table, replace(options, split=replace(options.split, split=None)), storage)
    kept = [example for example in found.examples if example.image.startswith(f"{folder.split}/")]
    return replace(found, examples=kept)


def _metadata(uri: str, storage: Storage) -> str | None:
    """Return the table of labels in a folder; None if there is none."""
    store = Store(uri, storage=storage)
    tables = [name for name in METADATA if store.exists(name)]
    if len(tables) > 1:
        raise DataError(f"{uri} has {' and '.join(tables)}: point uri at one of them")
    return f"{uri.rstrip('/')}/{tables[0]}" if tables else None


def _check_empty(folder: ImageFolder, known: Collection[str], storage: Storage) -> None:
    """Refuse folders without an image, of which a class would be missing. Object storage has no empty folders."""
    store = Store(folder.uri, storage=storage)
    if not store.is_local:
        return
    names = [printable(name) for name in store.folders() if not is_hidden(name)]
    labels = {Example("", label).label for label in known}
    without = [name for name in names if name not in folder.classes and Example("", name).label not in labels]
    if without:
        raise DataError(
            f"{folder.uri} has {_listed(without)} without an image. Add images, remove the folder, or, for a class "
            f'that is known by its name alone, add [[support.classes]] with label = "{without[0]}"'
        )


def _label_level(folder: ImageFolder, options: LabelOptions) -> int:
    """Return which of the folders of an image names its class: 0 for the first, -1 for the last."""
    if options.class_folder is not None:
        return 0 if options.class_folder == "first" else -1
    branches = {name: branch for name in folder.classes if (branch := _branch(folder, name)) is not None}
    if not branches:
        _refuse_other_names_below(folder)
        return 0
    path, names = next(iter(branches.values()))
    inside, below = f"{folder.uri.rstrip('/')}/{path}", _listed(names)
    if len(folder.classes) == 1:
        raise DataError(f"the only folder of {folder.uri} is {path}/, which has {below}: point uri at {inside}")
    raise _ambiguous(folder, f"{path}/ has {below}")


def _ambiguous(folder: ImageFolder, found: str) -> DataError:
    return DataError(
        f"{folder.uri}: {found}, so that the classes can be the first or the last folders. Set "
        'class_folder = "first" or "last", point uri at one of the folders, or list the images in a table'
    )


def _refuse_other_names_below(folder: ImageFolder) -> None:
    """Refuse class folders with one folder each if these have several names, as in animals/cat and plants/rose."""
    for depth in range(1, min(len(image.folders) for image in folder.images)):
        paths = {image.folders[depth]: "/".join(image.folders[:depth]) for image in reversed(folder.images)}
        if len(paths) > 1:
            one, other = (f"{printable(paths[name])}/ has {printable(name)}/" for name in sorted(paths)[:2])
            raise _ambiguous(folder, f"{one} and {other}")


def _branch(folder: ImageFolder, name: str) -> tuple[str, list[str]] | None:
    """Return the first folder in a class folder, or that itself, that has several folders, and these."""
    images = [image for image in folder.images if image.folders[0] == name]
    for depth in range(1, max(len(image.folders) for image in images)):
        below: defaultdict[str, set[str]] = defaultdict(set)
        for image in images:
            if len(image.folders) > depth:
                below["/".join(image.folders[:depth])].add(image.folders[depth])
        if found := next(((path, sorted(names)) for path, names in sorted(below.items()) if len(names) > 1), None):
            return found
    return None


def _listed(names: Iterable[str]) -> str:
    """Return names of folders for a message, such as "train/, val/ and test/"."""
    found = [f"{printable(name)}/" for name in names]
    if len(found) > FEW:
        return f"{', '.join(found[:FEW])} and {len(found) - FEW} more"
    return " and ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)
