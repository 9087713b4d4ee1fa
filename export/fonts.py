"""Fonts of this machine, and letters that they have, for drawn text."""

from __future__ import annotations

import importlib.util
import os
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FOLDERS = (
    *("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts"),
    *("/System/Library/Fonts", "/Library/Fonts", "C:/Windows/Fonts"),
)
SUFFIXES = (".ttf", ".otf", ".ttc", ".pfb")
OPEN_FONTS = 256
"""Fonts, each of one size, that are held open."""

ALPHABETS = (
    "eeeeeeettttttaaaaaooooooiiiiinnnnnsssshhhhrrrrddlllcccuummwwffggyyppbbvkjxqz",
    "aàáâäåãæbcçčdďeéèêëěfgğhiíîïjklłmnñňoóòôöõøœpqrřsšşßtťuúùûüůvwxyýzž",
    "αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώ",
    "абвгдеёжзийклмнопрстуфхцчшщъыьэюяіїєґ",
    "אבגדהוזחטיכלמנסעפצקרשת",
    "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "अआइईउऊएऐओऔकखगघचछजझटठडढतथदधनपफबभमयरलवशषसह",
    "กขคงจฉชซญดตถทธนบปผพฟมยรลวสหอ",
    "あいうえおかきくけこさしすせそたちつてとアイウエオカキクケコサシスセソ",
    "的一是不了人我在有他这中大来上国个到说们为子和你地出道也时年得就那要下",
    "가나다라마바사아자차카타파하거너더러머버서어저처고노도로모보소오조",
    "0123456789012345678901234567890123456789.,:-+%$()/",
    "abcdefijklnopqrstuvwxy_()[]{}<>=+-*/;:.,#&|!'0123456789",
    "∂∑∏∫√∞≈≠≤≥±÷αβγδεθλμπσφω→∀∃∈()=+-xyzn0123",
)
"""Letters of several scripts, digits, code and formulas; what is frequent is there more often."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@cache
def find_fonts() -> tuple[str, ...]:
    """Return the paths of all fonts in the usual folders and matplotlib's, sorted."""
    folders = [Path(os.path.expanduser(folder)) for folder in FOLDERS]
    matplotlib = importlib.util.find_spec("matplotlib")
    if matplotlib is not None and matplotlib.origin is not None:
        folders.append(Path(matplotlib.origin).parent / "mpl-data" / "fonts")
    files = {
        str(file)
        for folder in folders
        if folder.is_dir()
        for file in folder.rglob("*")
        if file.suffix.lower() in SUFFIXES
    }
    return tuple(sorted(files))


@lru_cache(OPEN_FONTS)
def load_font(path: str, size: int) -> Font:
    """Open a font; Pillow's own for an empty path, or where this one cannot be opened."""
    if path:
        try:
            return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
        except OSError:  # bitmaps of other sizes alone, or no font
            pass
    return ImageFont.load_default(size)


@cache
def alphabets(path: str) -> tuple[str, ...]:
    """Return those of `ALPHABETS` of which a font has all letters."""
    font = load_font(path, 16)

    def has(letters: str) -> bool:
        drawn = [_drawn(font, letter) for letter in set(letters)]
        return not {missing, None} & set(drawn) and len(set(drawn)) == len(drawn)

    try:
        missing = _drawn(font, "\ufffe")
        return tuple(letters for letters in ALPHABETS if has(letters))
    except OSError:  # a damaged font
        return ()


def _drawn(font: Font, letter: str) -> bytes | None:
    image = Image.new("L", (32, 32))
    ImageDraw.Draw(image).text((4, 4), letter, 255, font)
    return image.tobytes() if image.getbbox() else None


def random_text(rng: np.random.Generator, letters: str, length: int) -> str:
    """Return words of random letters, `length` characters in all.

    Args:
        rng: where the letters come from.
        letters: any of `ALPHABETS`.
        length: of the text.
    """
    text = "".join(letters[index] for index in rng.integers(len(letters), size=length))
    ends = np.cumsum(rng.integers(2, 12, size=length // 2 + 1))
    words = [text[a : b - 1] for a, b in zip([0, *ends], ends, strict=False) if a < length]
    case = rng.random()
    if case < 0.3:
        words = [word.capitalize() for word in words]
    elif case < 0.4:
        words = [word.upper() for word in words]
    elif case < 0.7:
        words[0] = words[0].capitalize()
    return " ".join(words)[:length]
