"""Every example that the help of a command or the README gives, run as it is written.

Of each line the files that it reads are made first, and none that it writes. By what they are
called: `.vaec` files, images and curves by their suffixes, folders by a slash at the end (images
for a command that reads images, `.vaec` files for one that reads those; a model where `bundle` is
in the name). All images are small; those of `samples/` must be there, and are small here, too.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePath
from typing import Any

import pytest
from golden.test_golden import V1
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from vaecodec.cli import app
from vaecodec.cli.paths import part_paths

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples"
COMMANDS: dict[str, Any] = vars(get_command(app))["commands"]
READ_CODED = {"decompress", "info", "verify"}
"""Commands that read `.vaec` files."""
DERIVED = {"compress": ".vaec", "decompress": ".png", "denoise": ".denoised.png"}
"""Suffixes of outputs that are not named."""
OUTPUTS = re.compile("target|output|.*_to")
"""Parameters that name what is written."""
IMAGES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"}
BETWEEN = {"|", "||", "&&", ";"}
NOT_RUN = {
    "train": "it trains, for minutes at the least",
    "onnx": "it needs a finished training run",
    "verify": "it takes minutes: tests/export holds it to small models",
}
"""Why commands of the factory are not run here."""


def of_help(command: str) -> list[str]:
    """Return what the help of a command ends with, below `Examples:`."""
    help_text = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "80"}).stdout
    examples = help_text.partition("Examples:\n")[2].splitlines()
    return [line.strip().removeprefix("$ ") for line in examples if line.strip()]


def of_readme(text: str) -> Iterator[str]:
    """Yield the lines of `sh` blocks that run us, without what installs us before."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            parts = line.split(" && ")
            ours = [part.startswith(("vaecodec ", "python -m export ")) for part in parts]
            if True in ours:
                yield " && ".join(parts[ours.index(True) :])


def cases() -> Iterator[Any]:
    lines = [line for command in COMMANDS for line in of_help(command)]
    lines += of_readme((ROOT / "README.md").read_text("utf-8"))
    for line in dict.fromkeys(lines):
        factory = re.match(r"python -m export (\S+)", line)
        reason = factory and NOT_RUN.get(factory[1], "it needs what training makes")
        marks = pytest.mark.skip(reason=reason) if reason else ()
        yield pytest.param(line, marks=marks, id=line.partition("  #")[0].strip())


@dataclass
class Traffic:
    """What a line of the shell reads and writes."""

    reads: dict[str, Needed] = field(default_factory=dict)
    writes: set[str] = field(default_factory=set)

    def read(self, name: str, command: str, bundle: str | None = None) -> None:
        """Count a name as read, if it is a file's and no command before has made it."""
        is_file = name.endswith("/") or PurePath(name).suffix in {*IMAGES, ".vaec", ".json"}
        if is_file and name not in self.writes:
            self.reads.setdefault(name, Needed(command in READ_CODED, bundle))


@dataclass
class Needed:
    """How a file is to be made: of a folder, which kind it holds; for which model."""

    coded: bool
    bundle: str | None


def traffic(line: str) -> Traffic:
    found = Traffic()
    for words in simple_commands(line):
        words = redirected(words, found)
        if words[0] != "vaecodec":
            for word in words[1:]:
                found.read(word, words[0])
        elif words[1] in COMMANDS:
            of_command(words[1], words[2:], found)
    return found


def simple_commands(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word in BETWEEN:
            if words:
                yield words
            words = []
        else:
            words.append(word)


def redirected(words: list[str], found: Traffic) -> list[str]:
    """Return the words without redirections."""
    kept: list[str] = []
    waiting = iter(words)
    for word in waiting:
        if word == "<":
            found.read(next(waiting), "")
        elif word == ">":
            found.writes.add(next(waiting))
        else:
            kept.append(word)
    return kept


def of_command(name: str, words: list[str], found: Traffic) -> None:
    """Tell what a command of ours reads and writes by how it takes its own command line."""
    values = COMMANDS[name].make_context(name, list(words), resilient_parsing=True).params
    bundle = values.get("bundle")
    bundle = bundle if isinstance(bundle, str) and "/" in bundle else None
    written: set[str] = set()
    if "paths" in values:  # of which the last may be written
        values["source"], values["target"] = part_paths(values.pop("paths"), values.get("output"))
    for parameter, value in values.items():
        for text in value if isinstance(value, list | tuple) else [value]:
            if not isinstance(text, str) or text == "-":
                continue
            if parameter == "codecs":  # of which bundles may be folders
                for codec in text.split(","):
                    found.read(codec.removeprefix("bundle:"), name)
                continue
            if OUTPUTS.fullmatch(parameter):
                written.add(text)
                continue
            found.read(text, name, bundle)
            if name in DERIVED and parameter.startswith("source"):
                written.add(str(PurePath(text).with_suffix(DERIVED[name])))
    found.writes |= written


# Files for the examples


@cache
def photograph() -> Image.Image:
    with Image.open(SAMPLES / "portrait.jpg") as image:
        return image.crop((420, 160, 612, 336))


@cache
def coded() -> bytes:
    from vaecodec.codec import Codec

    return Codec(threads=1).encode(photograph())


def make(path: Path, needed: Needed) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".vaec":
        path.write_bytes(coded() if needed.bundle is None else (V1 / "rgb.vaec").read_bytes())
    elif path.suffix == ".json":
        points = [{"bpp": 0.02 * 4**n, "psnr_rgb": 10 + 8 * n} for n in range(7)]
        path.write_text(json.dumps({"jpeg": points, "webp": points, "vtm": points}))
    else:
        photograph().save(path)


def make_folder(path: Path, needed: Needed, size: tuple[int, int]) -> None:
    if "bundle" in path.name:
        shutil.copytree(V1 / "bundle", path)
        return
    names = ("a.vaec", "inside/b.vaec") if needed.coded else ("a.jpg", "inside/b.png")
    for name in names:
        make(path / name, needed)
    for image in [] if needed.coded else path.rglob("*.*"):
        photograph().resize(size).save(image)


def prepare(folder: Path, line: str) -> None:
    """Put what a line reads into a folder."""
    # Each image of a folder may go through all qualities; MS-SSIM asks for these sides.
    size = (176, 176) if "ms-ssim" in line else (64, 48)
    for name, needed in traffic(line).reads.items():
        path = folder / name
        if path.exists():
            continue
        assert not name.startswith("samples/") or (ROOT / name).exists()
        if name.endswith("/"):
            make_folder(path, needed, size)
        else:
            make(path, needed)


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
@pytest.mark.parametrize("line", list(cases()))
def test_an_example(line: str, tmp_path: Path):
    prepare(tmp_path, line)
    scripts = Path(sys.executable).parent
    done = subprocess.run(
        ["sh", "-c", line],
        capture_output=True,
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert b"vaecodec: error" not in done.stderr


# The collecting itself


def test_every_command_has_examples_of_itself():
    without = {command for command in COMMANDS if not of_help(command)}
    assert not without
    for command in set(COMMANDS) - without:
        for line in of_help(command):
            assert line.startswith("vaecodec ")
            assert f"vaecodec {command}" in line


def test_the_readme_s_examples_are_found():
    text = (ROOT / "README.md").read_text("utf-8")
    lines = list(of_readme(text))
    assert any("samples/portrait.jpg" in line for line in lines)
    assert sum("vaecodec " in line for line in re.findall(r"^(?:vaecodec .*)$", text, re.M)) <= len(
        lines
    )
    assert list(of_readme("```sh\npip install x && vaecodec a \\\n  b && c\n\nls\n```\n")) == [
        "vaecodec a    b && c"
    ]


@pytest.mark.parametrize(
    ("line", "reads"),
    [
        ("vaecodec compress photo.jpg", {"photo.jpg"}),
        ("vaecodec compress photo.jpg out.vaec -q 9", {"photo.jpg"}),
        ("vaecodec compress a.png -o b.vaec && vaecodec decompress b.vaec b.png", {"a.png"}),
        ("vaecodec compress photo.jpg && vaecodec info photo.vaec", {"photo.jpg"}),
        (
            "vaecodec decompress a.vaec --original a.png --bundle my-bundle/",
            {"a.vaec", "a.png", "my-bundle/"},
        ),
        ("cat photo.vaec | vaecodec decompress - - > photo.png  # photo.jpg", {"photo.vaec"}),
        ("vaecodec info - < photo.vaec", {"photo.vaec"}),
        ("vaecodec verify -r photos/ a.vaec", {"photos/", "a.vaec"}),
        ("vaecodec bench kodak/ --curves c.json --json out.json", {"kodak/", "c.json"}),
        ("vaecodec models base; vaecodec --version", set()),
    ],
)
def test_what_an_example_reads_is_known(line: str, reads: set[str]):
    assert set(traffic(line).reads) == reads
