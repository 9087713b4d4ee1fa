"""What XMP packets say that concerns pixels, edited in place: all else stays byte for byte."""

from __future__ import annotations

import re
from functools import lru_cache

HDR_NAMESPACES = (b"http://ns.adobe.com/hdr-gain-map/1.0/", b"http://ns.apple.com/HDRGainMap/1.0/")
_TIFF_NAMESPACE = b"http://ns.adobe.com/tiff/1.0/"
_CONTAINER_NAMESPACE = b"http://ns.google.com/photos/1.0/container/"
_GAIN_MAP_ITEM = re.compile(rb"""Semantic\s*(?:=\s*["']|>\s*)GainMap""")
_RDF = re.compile(rb"<rdf:RDF\b[^>]*>(.*)</rdf:RDF\s*>", re.DOTALL)
_RDF_END = re.compile(rb"</rdf:RDF\s*>")
_EXTENSION = re.compile(rb"""\s+xmpNote:HasExtendedXMP\s*=\s*(["'])[0-9A-Fa-f]{32}\1""")
_EXTENSION_ELEMENT = re.compile(rb"<xmpNote:HasExtendedXMP>[^<]*</xmpNote:HasExtendedXMP>")


def xmp_orientation(xmp: bytes) -> int | None:
    """Return the orientation that a packet gives, 1 to 8; None where it gives none."""
    found = _orientation(_prefixes(xmp, _TIFF_NAMESPACE)).search(xmp)
    value = int(found[2]) if found else 0
    return value if 1 <= value <= 8 else None


def upright_xmp(xmp: bytes) -> bytes:
    """Return a packet with its orientation, if it has one, set to 1."""
    return _orientation(_prefixes(xmp, _TIFF_NAMESPACE)).sub(rb"\g<1>1", xmp)


def claims_gain_map(xmp: bytes) -> bool:
    """Tell whether a packet says that its file holds an HDR gain map."""
    return any(name in xmp for name in HDR_NAMESPACES) or bool(_GAIN_MAP_ITEM.search(xmp))


def without_gain_map(xmp: bytes) -> bytes:
    """Return a packet that does not say so any more."""
    for namespace in HDR_NAMESPACES:
        for prefix in _prefixes(xmp, namespace):
            xmp = _without_prefix(xmp, prefix)
    if _GAIN_MAP_ITEM.search(xmp):
        for prefix in _prefixes(xmp, _CONTAINER_NAMESPACE):
            xmp = _without_elements(xmp, prefix + b":Directory")
    return xmp


def merged(main: bytes, extension: bytes) -> bytes | None:
    """Return a packet with what a JPEG's extended XMP adds to it; None where they do not fit."""
    inside = _RDF.search(extension)
    end = _RDF_END.search(main)
    if inside is None or end is None:
        return None
    whole = main[: end.start()] + inside[1] + main[end.start() :]
    return _EXTENSION_ELEMENT.sub(b"", _EXTENSION.sub(b"", whole))


def has_extension(xmp: bytes) -> bool:
    """Tell whether a packet says that another one belongs to it."""
    return b"HasExtendedXMP" in xmp


def standing_for(guid: bytes) -> bytes:
    """Return a packet that says no more than that the extended one of that name is all of it."""
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
        b'syntax-ns#"><rdf:Description rdf:about="" xmlns:xmpNote="http://ns.adobe.com/xmp/note/" '
        b'xmpNote:HasExtendedXMP="' + guid + b'"/></rdf:RDF></x:xmpmeta>'
    )


def _prefixes(xmp: bytes, namespace: bytes) -> tuple[bytes, ...]:
    """Return the prefixes that a packet binds to a namespace, the usual one of TIFF at least."""
    pattern = rb"""xmlns:([\w.-]+)\s*=\s*["']""" + re.escape(namespace)
    found: set[bytes] = set(re.findall(pattern, xmp))
    return tuple(sorted(found | ({b"tiff"} if namespace == _TIFF_NAMESPACE else set())))


@lru_cache(maxsize=8)
def _orientation(prefixes: tuple[bytes, ...]) -> re.Pattern[bytes]:
    """Return a pattern of what precedes an orientation, and of its digit."""
    names = b"|".join(re.escape(prefix) for prefix in prefixes)
    name = rb"(?:" + names + rb"):Orientation"
    return re.compile(rb"(" + name + rb"""(?:\s*=\s*["']\s*|[^<>]*>\s*))([0-9])""")


def _without_prefix(xmp: bytes, prefix: bytes) -> bytes:
    """Take the attributes and elements of a prefix out, and its binding."""
    name = re.escape(prefix)
    value = rb"""\s*=\s*(?:"[^"]*"|'[^']*')"""
    xmp = re.sub(rb"\s+(?:xmlns:" + name + rb"|" + name + rb":[\w.-]+)" + value, b"", xmp)
    for element in sorted(set(re.findall(rb"<(" + name + rb":[\w.-]+)", xmp))):
        xmp = _without_elements(xmp, element)
    return xmp


def _without_elements(xmp: bytes, name: bytes) -> bytes:
    name = re.escape(name)
    xmp = re.sub(rb"<" + name + rb"(?:\s[^<>]*)?/>", b"", xmp)
    return re.sub(
        rb"<" + name + rb"(?:\s[^<>]*)?>.*?</" + name + rb"\s*>", b"", xmp, flags=re.DOTALL
    )
