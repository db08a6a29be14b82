"""XMP sidecars: `photo.jpg.xmp` for `photo.jpg`, in a copy of the archive's tree.

`dc:subject` has the label as a keyword, `lr:hierarchicalSubject` puts it below "fewshot", and the namespace `fewshot`
has score, status and key. darktable and digiKam name sidecars so; Lightroom reads them once they are applied to the
files, for example by exiftool.
"""

from __future__ import annotations

from contextlib import closing
from xml.etree import ElementTree as ET

from ray_jobs.export.destination import Destination
from ray_jobs.export.exported_rows import ExportedRow, ExportedRows
from ray_jobs.export.safe_names import TakenNames, tree_path, xml_text

SUFFIX = ".xmp"
META, RDF = "adobe:ns:meta/", "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DC, LR = "http://purl.org/dc/elements/1.1/", "http://ns.adobe.com/lightroom/1.0/"
OWN = "urn:fewshot:prediction#"
ROOT = "fewshot"
"""Keyword that all labels lie below."""
LEVEL = "|"
"""Separates the levels of a hierarchical keyword, so a label must not have it there."""
_BEGIN = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'.encode()
_END = b'\n<?xpacket end="w"?>\n'


def write(rows: ExportedRows, out: Destination) -> None:
    """Write the sidecars."""
    for prefix, name in {"x": META, "rdf": RDF, "dc": DC, "lr": LR, ROOT: OWN}.items():
        ET.register_namespace(prefix, name)
    with closing(TakenNames(fold=False)) as taken:
        for row in rows:
            key = f"{row.source}/{row.image}" if row.source else row.image
            out.put(taken.take(tree_path(key, suffix=SUFFIX)), sidecar(row))


def sidecar(row: ExportedRow) -> bytes:
    """Return the sidecar of a row."""
    meta = ET.Element(f"{{{META}}}xmpmeta")
    about = ET.SubElement(ET.SubElement(meta, f"{{{RDF}}}RDF"), f"{{{RDF}}}Description", {f"{{{RDF}}}about": ""})
    for name, value in row.details().items():
        about.set(f"{{{OWN}}}{'key' if name == 'image' else name}", xml_text(str(value)))
    if row.label is not None:
        _add_bag(about, f"{{{DC}}}subject", row.label)
        _add_bag(about, f"{{{LR}}}hierarchicalSubject", f"{ROOT}{LEVEL}{row.label.replace(LEVEL, '/')}")
    return b"".join((_BEGIN, ET.tostring(meta, encoding="utf-8"), _END))


def _add_bag(about: ET.Element, name: str, text: str) -> None:
    """Add an unordered list with one text."""
    bag = ET.SubElement(ET.SubElement(about, name), f"{{{RDF}}}Bag")
    ET.SubElement(bag, f"{{{RDF}}}li").text = xml_text(text)
