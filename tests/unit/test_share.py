"""What other programs are told about `.vaec` files."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

import vaecodec

SHARE = Path(vaecodec.__file__).parent / "share"
# By hand, not through the container: these files are a second opinion of what the format is.
MAGIC = bytes.fromhex("8B 56 41 45 43 0D 0A 1A")
NAMESPACE = "{http://www.freedesktop.org/standards/shared-mime-info}"

file_installed = pytest.mark.skipif(not shutil.which("file"), reason="needs file(1)")


def header(
    mode: int = 3,
    bit_depth: int = 8,
    width: int = 768,
    height: int = 512,
    version: tuple[int, int] = (1, 0),
) -> bytes:
    return MAGIC + struct.pack("<4B2I16x", *version, mode, bit_depth, width, height)


def described(path: Path, *options: str) -> str:
    """Return what file(1) says, which must have no complaint about the entry."""
    done = subprocess.run(
        ["file", "--brief", "--magic-file", SHARE / "magic", *options, path],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout.removesuffix("\n")


@file_installed
@pytest.mark.parametrize(
    ("data", "description"),
    [
        (header(1), ", version 1.0, 768 x 512, grey, 8 bits per sample"),
        (header(2), ", version 1.0, 768 x 512, grey with alpha, 8 bits per sample"),
        (header(3), ", version 1.0, 768 x 512, RGB, 8 bits per sample"),
        (header(4, 16), ", version 1.0, 768 x 512, RGB with alpha, 16 bits per sample"),
        (header(3, 8, 2**32 - 1, 1), ", version 1.0, 4294967295 x 1, RGB, 8 bits per sample"),
        (header(version=(1, 255)), ", version 1.255, 768 x 512, RGB, 8 bits per sample"),
        (header(version=(200, 7)), ", version 200"),  # in which all else may have moved
        (header()[:9], ", version 1"),
        (MAGIC, ""),
    ],
)
def test_file_describes_a_header(data: bytes, description: str, tmp_path: Path):
    path = tmp_path / "image"
    path.write_bytes(data)
    assert described(path) == f"VAEC image data{description}"
    assert described(path, "--mime-type") == "image/x-vaec"
    assert described(path, "--extension") == "vaec"


@file_installed
def test_file_leaves_other_files_alone(tmp_path: Path):
    path = tmp_path / "image"
    for data in (header()[1:], MAGIC[:-1], MAGIC.replace(b"\r\n", b"\n") + bytes(28)):
        path.write_bytes(data)
        assert "VAEC" not in described(path)


def test_mime_type():
    root = ElementTree.parse(SHARE / "vaecodec.xml").getroot()  # noqa: S314 - a file of ours
    assert root.tag == f"{NAMESPACE}mime-info"
    (kind,) = root
    assert (kind.tag, kind.attrib) == (f"{NAMESPACE}mime-type", {"type": "image/x-vaec"})
    assert kind.findtext(f"{NAMESPACE}comment") == "VAEC image"
    assert [glob.get("pattern") for glob in kind.iter(f"{NAMESPACE}glob")] == ["*.vaec"]
    (match,) = kind.iter(f"{NAMESPACE}match")
    assert (match.get("type"), match.get("offset")) == ("string", "0")
    assert match.get("value", "").encode().decode("unicode_escape").encode("latin-1") == MAGIC


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Build a MIME database of nothing but this type."""
    if not shutil.which("update-mime-database"):
        pytest.skip("needs shared-mime-info")
    folder = tmp_path / "data" / "mime"
    (folder / "packages").mkdir(parents=True)
    shutil.copy(SHARE / "vaecodec.xml", folder / "packages")
    done = subprocess.run(
        ["update-mime-database", folder],
        capture_output=True,
        text=True,
        timeout=60,
        # Else it remarks that nobody searches this folder.
        env={"PATH": "/usr/bin:/bin", "XDG_DATA_HOME": str(folder.parent)},
    )
    # A file that it refuses leaves its exit code at 0.
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


def test_mime_database(database: Path):
    assert (database / "types").read_text() == "image/x-vaec\n"
    assert "50:image/x-vaec:*.vaec\n" in (database / "globs2").read_text()
    rule = b">0=" + struct.pack(">H", len(MAGIC)) + MAGIC
    assert b":image/x-vaec]\n" + rule + b"\n" in (database / "magic").read_bytes()


@pytest.mark.skipif(not shutil.which("gio"), reason="needs gio")
def test_a_desktop_knows_the_type_without_the_suffix(database: Path, tmp_path: Path):
    path = tmp_path / "image"
    path.write_bytes(header())
    done = subprocess.run(
        ["gio", "info", "--attributes", "standard::content-type", path],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "XDG_DATA_HOME": str(database.parent)},
    )
    assert "standard::content-type: image/x-vaec\n" in done.stdout
