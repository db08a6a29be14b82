"""Camera RAW that is a TIFF inside: recognised, so that its small preview is never taken for the photograph."""

from __future__ import annotations

from collections.abc import Sequence

from fewshot.images.tiff.directories import Directory, Tag

_SENSOR = {32803, 34892}
"""Photometric interpretations of what a sensor measured: a colour filter array, or linear values."""
_COMPRESSIONS = {32767, 32769, 32770, 34713, 65000, 65535}
"""Methods of compression that only cameras use (Sony, Epson, Samsung, Nikon, Kodak, Pentax)."""
_MAKE_BYTES = 32
_BY_MAKE = {
    b"NIKON": "NEF",
    b"SONY": "ARW",
    b"CANON": "CR2",
    b"PENTAX": "PEF",
    b"RICOH": "PEF",
    b"SAMSUNG": "SRW",
    b"HASSELBLAD": "3FR",
    b"EPSON": "ERF",
    b"SEIKO EPSON": "ERF",
    b"EASTMAN KODAK": "DCR",
    b"KODAK": "DCR",
    b"PHASE ONE": "IIQ",
    b"LEAF": "MOS",
    b"MAMIYA": "MEF",
}


def camera_raw(data: bytes, directories: Sequence[Directory]) -> str | None:
    """Return the name of the kind of RAW, such as "camera RAW (NEF)"; None for any other TIFF."""
    if data[8:10] == b"CR":
        return "camera RAW (CR2)"
    if any(Tag.DNG_VERSION in directory.entries for directory in directories):
        return "camera RAW (DNG)"
    if not any(map(_is_sensor, directories)):
        return None
    make = bytes(value & 0xFF for d in directories for value in d.values(Tag.MAKE, _MAKE_BYTES)).upper()
    name = next((name for start, name in _BY_MAKE.items() if make.startswith(start)), None)
    return f"camera RAW ({name})" if name else "camera RAW"


def _is_sensor(directory: Directory) -> bool:
    return directory.number(Tag.PHOTOMETRIC, 0) in _SENSOR or directory.number(Tag.COMPRESSION, 0) in _COMPRESSIONS
