"""Names of entries: make them printable, and recognise images, sidecars, archives and system folders."""

from __future__ import annotations

import unicodedata

_TEXTS = {"txt", "md", "rst", "log", "caption", "cap", "cls", "html", "htm", "pdf", "text", "lst", "cff", "bib", "url"}
_RECORDS = {"json", "jsonl", "ndjson", "geojson", "csv", "tsv", "xml", "yaml", "yml", "toml", "ini"}
_TABLES = {"npy", "npz", "parquet", "pq", "arrow", "feather", "db", "sqlite", "idx", "index", "avro", "orc"}
_ARRAYS = {"h5", "hdf5", "mat"}
_TOOLS = {"md5", "sha1", "sha256", "sha512", "crc", "sfv", "py", "ipynb", "sh", "dvc", "lock", "tag", "lnk", "webloc"}
_EDITORS = {"xmp", "aae", "thm", "pp3", "dop", "cos", "on1", "vrd", "nksc", "exif", "mie", "gpx", "kml"}
_WEBDATASET = {"cls2", "id", "inx", "count", "len", "transcript", "pyd", "pkl", "pickle", "pt", "pth", "ten", "tb"}
_PACKERS = {"mp", "msg", "msgpack", "cbor"}
_SIDECAR_SUFFIXES = frozenset(_TEXTS | _RECORDS | _TABLES | _ARRAYS | _TOOLS | _EDITORS | _WEBDATASET | _PACKERS)
_SIDECAR_NAMES = frozenset(
    {"_success", "_metadata", "_common_metadata", "__len__"}  # Spark, dask, pyarrow, open_clip
    | {"license", "licence", "readme", "notice", "copying", "authors", "changelog", "citation", "version", "manifest"}
    | {"checksums", "md5sums", "sha1sums", "sha256sums", "makefile", "dockerfile"}
    | {"thumbs.db", "desktop.ini", "icon\r"}
)
_SIDECAR_STARTS = ("_committed_", "_started_")  # Databricks
_PACKED = frozenset({"gz", "bz2", "xz", "zst"})
_ARCHIVES = _PACKED | {"zip", "tar", "7z", "rar", "tgz", "tbz", "tbz2", "txz", "tzst", "lz4", "z"}
_SYSTEM_FOLDERS = frozenset(
    {"__macosx", "$recycle.bin", "system volume information", "lost+found", "__pycache__"}
    | {"@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot"}  # network disks of Synology and QNAP
    | {"_delta_log", "_change_data", "_spark_metadata", "_temporary"}
)
_ANNOTATIONS = frozenset(
    {"mask", "masks", "seg", "segm", "segmentation", "semantic", "instance", "panoptic", "label", "labels", "gt"}
    | {"depth", "matte", "trimap", "cls"}
)
_PHOTOGRAPHS = frozenset({"jpg", "jpeg", "jpe", "jfif", "webp"})
_MASKS = frozenset({"png", "tif", "tiff"})
_OTHER_IMAGES = frozenset(
    {"gif", "bmp", "ppm", "pgm", "pbm", "pnm", "heic", "heif", "hif", "avif", "jxl", "jp2", "j2k", "jpx"}
    | {"tga", "ico", "psd", "exr", "hdr", "dng", "cr2", "cr3", "nef", "nrw", "arw", "srf", "sr2", "orf", "rw2", "raf"}
    | {"pef", "srw", "3fr", "iiq"}
)
_IMAGES = _PHOTOGRAPHS | _MASKS | _OTHER_IMAGES
DESCRIBES_IMAGES = "metadata.parquet"
"""A table that only describes the images beside it, as `imagefolder` of Hugging Face `datasets` has it."""
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})


def printable(name: str) -> str:
    r"""Return a one-line name; different names have different printable names.

    Control characters, line ends, bytes that are not UTF-8 (surrogates) and backslashes are escaped as in Python.
    """
    return "".join(
        char.encode("unicode_escape").decode() if char == "\\" or unicodedata.category(char) in _UNPRINTABLE else char
        for char in name
    )


def plain_path(path: str) -> str:
    """Return a path without "." and empty parts, which lead to the same file; a URL is returned as it is."""
    if "://" in path:
        return path
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return "/" * path.startswith("/") + "/".join(parts) or path


def is_hidden(path: str) -> bool:
    """Whether any component of a relative path begins with a dot, or is a system folder."""
    return any(part.startswith(".") or part.lower() in _SYSTEM_FOLDERS for part in path.split("/"))


def is_sidecar(path: str) -> bool:
    """Whether the name is that of a file beside images: a caption, a table, a licence, a mask such as "x.mask.png"."""
    name = _base(path)
    if name in _SIDECAR_NAMES or name.startswith(_SIDECAR_STARTS):
        return True
    extensions = name.split(".")[1:]
    if extensions and extensions[-1] in _PACKED:
        extensions.pop()
    if not extensions:
        return False
    is_annotation = len(extensions) > 1 and extensions[-2] in _ANNOTATIONS and extensions[-1] in _MASKS
    return is_annotation or extensions[-1] in _SIDECAR_SUFFIXES


def is_entry(path: str, component: str | None = None) -> bool:
    """Whether a file or a member counts as an image by its name.

    Args:
        path: relative, with "/".
        component: what the name must have after the first dot of its base name, in any case; several are separated by
            ";". None counts every name that is not that of a sidecar.
    """
    if is_hidden(path):
        return False
    if component is None:
        return not is_sidecar(path)
    return component_of(path) in {part.strip().removeprefix(".") for part in component.lower().split(";")}


def component_of(path: str) -> str:
    """Return what WebDataset calls the extension: everything after the first dot of the base name, in lower case."""
    return _base(path).partition(".")[2]


def sample_of(path: str) -> str:
    """Return what WebDataset calls the key: the path up to the first dot of its base name."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + name.partition(".")[0]


def suffix_of(path: str) -> str:
    """Return the last extension in lower case, without its dot; "" if there is none."""
    _, dot, suffix = _base(path).rpartition(".")
    return suffix if dot else ""


def is_image(path: str) -> bool:
    """Whether the suffix is that of an image format, decodable here or not."""
    return suffix_of(path) in _IMAGES


def is_packed(path: str) -> bool:
    """Whether the name is that of an archive or of a compressed file."""
    return suffix_of(path) in _ARCHIVES


def is_table(path: str) -> bool:
    """Whether the name is that of a Parquet table, which may hold images."""
    return suffix_of(path) in ("parquet", "pq")


def annotated_stem(path: str) -> str | None:
    """Return the path without suffix of the image that a file may annotate by its name: "a/x" for "a/x_mask.png".

    None for a name that does not end in "_mask", "_segmentation" or another such word.
    """
    stem, _, word = stem_of(path).rpartition("_")
    return stem if _base(stem) and word.lower() in _ANNOTATIONS else None


def stem_of(path: str) -> str:
    """Return a path without its last extension."""
    suffix = suffix_of(path)
    return path[: -len(suffix) - 1] if suffix else path


def may_be_mask(path: str, other: str) -> bool:
    """Whether one of two images of a sample may be a mask of the other, see `may_be_mask_of`."""
    return may_be_mask_of(path, other) or may_be_mask_of(other, path)


def may_be_mask_of(path: str, image: str) -> bool:
    """Whether an image may be a mask of another one of its sample: a PNG or TIFF beside a JPEG or WebP."""
    return suffix_of(path) in _MASKS and suffix_of(image) in _PHOTOGRAPHS


def _base(path: str) -> str:
    return path.rpartition("/")[2].lower()
