"""Texts with keywords, as PNG files hold them, and the payload of a `.vaec` chunk of them.

text    entries, one behind the other: keyword, language, translated keyword and text, each of
        them a u32 length and as many bytes of UTF-8
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

XMP_KEYWORD = "XML:com.adobe.xmp"
"""Of the text of a PNG that is an XMP packet."""
KEYWORD_CHARACTERS = 79
"""What PNG allows."""
TEXTS_MAX = 1024
TEXTS_BYTES = 2**24
"""Texts that one file keeps, and the bytes of all of them."""
_LENGTH = struct.Struct("<I")
_FIELDS = 4


@dataclass(frozen=True, slots=True)
class Text:
    """A text with a keyword.

    Attributes:
        keyword: 1 to 79 characters of Latin-1, such as Copyright or Description.
        value: the text.
        language: its language, as in RFC 3066; empty where it is not known.
        translated: the keyword in that language.

    Raises:
        ValueError: The keyword is none.
    """

    keyword: str
    value: str
    language: str = ""
    translated: str = ""

    def __post_init__(self) -> None:
        if not 1 <= len(self.keyword) <= KEYWORD_CHARACTERS or "\0" in self.keyword:
            raise ValueError(f"a keyword has 1 to {KEYWORD_CHARACTERS} characters")
        self.keyword.encode("latin-1")  # of whose errors ValueError is the base

    @property
    def is_plain(self) -> bool:
        """Whether a tEXt chunk, which is Latin-1 and knows no languages, can hold it."""
        if self.language or self.translated or "\0" in self.value:
            return False
        try:
            self.value.encode("latin-1")
        except UnicodeEncodeError:
            return False
        return True


def texts_of(found: object) -> tuple[Text, ...]:
    """Return the texts of a PNG as Pillow gives them, its XMP left aside."""
    texts: list[Text] = []
    for keyword, value in cast("dict[str, str]", found if isinstance(found, dict) else {}).items():
        if keyword == XMP_KEYWORD:
            continue
        with contextlib.suppress(ValueError):  # from a keyword that is none
            language, translated = (getattr(value, name, "") or "" for name in ("lang", "tkey"))
            texts.append(Text(keyword, str(value), str(language), str(translated)))
    return bounded(texts)[0]


def bounded(texts: Iterable[Text]) -> tuple[tuple[Text, ...], tuple[str, ...]]:
    """Return the texts that a file has room for, and a notice for each of the others."""
    kept: list[Text] = []
    notices: list[str] = []
    room = TEXTS_BYTES
    for text in texts:
        size = len(pack_texts((text,)))
        if size <= room and len(kept) < TEXTS_MAX:
            kept.append(text)
            room -= size
        elif len(notices) < TEXTS_MAX:
            notices.append(f"its text {text.keyword!r} is not kept: there is too much of it")
    return tuple(kept), tuple(notices)


def pack_texts(texts: Iterable[Text]) -> bytes:
    """Return the payload of a chunk of texts."""
    packed: list[bytes] = []
    for text in texts:
        for part in (text.keyword, text.language, text.translated, text.value):
            encoded = part.encode("utf-8", "replace")
            packed += (_LENGTH.pack(len(encoded)), encoded)
    return b"".join(packed)


def unpack_texts(payload: bytes) -> tuple[Text, ...]:
    """Return the texts in a payload, up to the first that breaks a rule."""
    texts: list[Text] = []
    position = 0
    if len(payload) > TEXTS_BYTES:
        return ()
    while position < len(payload) and len(texts) < TEXTS_MAX:
        fields: list[str] = []
        try:
            for _ in range(_FIELDS):
                (length,) = _LENGTH.unpack_from(payload, position)
                position += _LENGTH.size
                if length > len(payload) - position:
                    raise ValueError("it ends too early")
                fields.append(payload[position : position + length].decode("utf-8"))
                position += length
            keyword, language, translated, value = fields
            texts.append(Text(keyword, value, language, translated))
        except (struct.error, ValueError):
            break
    return tuple(texts)
