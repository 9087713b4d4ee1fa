"""Bundles: the folders of ONNX graphs and tables that the factory makes and the runtime uses.

Reading a manifest needs neither numpy nor ONNX Runtime, so `info` can name a file's model.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from vaecodec.container import MODEL_ID_BYTES
from vaecodec.errors import ModelError, ModelMismatchError, ModelNotFoundError

MANIFEST = "manifest.json"
CARD = "MODEL_CARD.md"
MANIFEST_FORMAT = 3
PASSES = 4
"""Context passes: the order of coding is a 2x2 pattern."""
ANCHORS = 64
"""Quality levels with tables of their own: a file's level counts 1/256 between them."""
PATCH = 16
"""Pixels per latent, along each side."""
HYPER_STRIDE = 4
"""Latents per hyper-latent, along each side."""
PREVIEW_SCALE = 8
"""Pixels per pixel of a preview, along each side."""
DECODING_FILES = (
    *(f"context_{index}.onnx" for index in range(PASSES)),
    "decoder.onnx",
    "prior.onnx",
    "tables.npz",
)
"""The files that decide what a file decodes to, in the order of the model id."""
DENOISER, REFINER = "denoiser.onnx", "refiner.onnx"
"""The files of a denoiser, if the bundle has one."""
MODELS = Path(__file__).parent / "models"
_FIXED = {"passes": PASSES, "anchors": ANCHORS, "patch": PATCH, "hyper_stride": HYPER_STRIDE}

# A user's bundle may be anybody's: what it claims is bounded before it is believed.
_MANIFEST_BYTES = 2**20
_FILE_BYTES = 2**31  # what ONNX can hold in one
_MAXIMA = {"latent_channels": 4096, "hyper_channels": 4096, "halo": 64, "refiner_halo": 16}
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class DenoiserHalos:
    """Latents beyond a tile that the networks of a denoiser look at, on every side."""

    analysis: int
    refiner: int


@dataclass(frozen=True)
class Bundle:
    """A bundle's manifest, its shapes checked, its files not yet read.

    Attributes:
        path: the folder.
        name: as the command line calls it.
        version: of the weights.
        latent_channels: M of y.
        hyper_channels: Nz of z.
        halo: latents beyond a tile that the transforms look at, on every side.
        files: sha256 in hexadecimal by file name.
        known_answer: sha256 of the exact graphs' outputs on the known-answer input.
        denoiser_halos: of the denoiser; None where there is none.
        manifest: all that the manifest says, for those who show it: nothing else is checked.
    """

    path: Path
    name: str
    version: str
    latent_channels: int
    hyper_channels: int
    halo: int
    files: dict[str, str]
    known_answer: str
    denoiser_halos: DenoiserHalos | None
    manifest: dict[str, Any]

    @property
    def model_id(self) -> bytes:
        """The 8 bytes by which a `.vaec` file names this bundle."""
        return model_id({name: self.files[name] for name in DECODING_FILES})

    def read(self, name: str) -> bytes:
        """Return the bytes of one file, which are those that the manifest was made for.

        Raises:
            ModelNotFoundError: the file is missing.
            ModelMismatchError: its hash is another.
        """
        try:
            data = _read_regular(self.path / name, _FILE_BYTES)
        except OSError as error:
            raise ModelNotFoundError(f"the bundle {self.path} has no readable {name}") from error
        if hashlib.sha256(data).hexdigest() != self.files.get(name):
            raise ModelMismatchError(
                f"{name} in the bundle {self.path} is not the one that its manifest names: "
                "install the bundle again"
            )
        return data

    def require_denoiser(self) -> DenoiserHalos:
        """Return what its denoiser looks at.

        Raises:
            ModelError: it has none.
        """
        if self.denoiser_halos is None:
            raise ModelError(f"the bundle {self.name} has no denoiser: name another with --bundle")
        return self.denoiser_halos

    def card(self) -> str:
        """Return the model card.

        Raises:
            ModelNotFoundError: there is none that can be read.
        """
        try:
            return _read_regular(self.path / CARD, _MANIFEST_BYTES).decode("utf-8", "replace")
        except OSError as error:
            raise ModelNotFoundError(f"the bundle {self.path} has no readable {CARD}") from error


def model_id(hashes: dict[str, str]) -> bytes:
    """Return the id of a bundle from the sha256 (hexadecimal) of each file that decoding needs."""
    listing = "".join(f"{name} {hashes[name]}\n" for name in sorted(hashes))
    return hashlib.sha256(listing.encode()).digest()[:MODEL_ID_BYTES]


def find_bundle(name_or_path: str | Path) -> Bundle:
    """Return the installed bundle of that name, or else the bundle in that folder.

    A string without a separator is a name first; a path (`./base`, or a `Path`) is a folder.

    Raises:
        ModelNotFoundError: there is none.
        ModelError: its manifest is not valid.
    """
    given = Path(name_or_path)
    is_name = isinstance(name_or_path, str) and name_or_path == given.name
    for path in (MODELS / given, given) if is_name else (given,):
        if os.path.isfile(path / MANIFEST):
            return _read_manifest(path)
    if os.path.exists(given):
        raise ModelNotFoundError(f"{name_or_path} is no bundle: there is no {MANIFEST} in it")
    names = ", ".join(folder.name for folder in installed_folders()) or "none"
    raise ModelNotFoundError(f"no bundle named {name_or_path} (installed: {names})")


def installed_folders() -> list[Path]:
    """Return the folders of the bundles that came with the package, by name, the broken too."""
    return [path.parent for path in sorted(MODELS.glob(f"*/{MANIFEST}"))]


def installed() -> list[Bundle]:
    """Return the bundles that came with the package, by name; one that is broken hides none."""
    found: list[Bundle] = []
    for folder in installed_folders():
        with suppress(ModelError):
            found.append(_read_manifest(folder))
    return found


def find_by_id(wanted: bytes) -> Bundle:
    """Return the installed bundle with this model id.

    Raises:
        ModelNotFoundError: none has it.
    """
    bundles = installed()
    for bundle in bundles:
        if bundle.model_id == wanted:
            return bundle
    whole = {bundle.path for bundle in bundles}
    broken = ", ".join(folder.name for folder in installed_folders() if folder not in whole)
    raise ModelNotFoundError(
        f"no installed bundle has the model id {wanted.hex()}"
        + (f" (not looked into, as they are broken: {broken})" if broken else "")
        + ": the file was made with another bundle or version; give its folder"
    )


def bundle_name(wanted: bytes) -> str | None:
    """Return the name of the installed bundle with this model id, if there is one."""
    try:
        return find_by_id(wanted).name
    except ModelNotFoundError:
        return None


def _read_manifest(path: Path) -> Bundle:
    try:
        fields = cast("dict[str, Any]", json.loads(_read_regular(path / MANIFEST, _MANIFEST_BYTES)))
        if fields["format"] != MANIFEST_FORMAT:
            raise ModelError(
                f"the bundle {path} is of format {fields['format']}, not {MANIFEST_FORMAT}"
            )
        fixed = {name: fields[name] for name in _FIXED}
        bundle = Bundle(
            path=path,
            name=_text(fields["name"]),
            version=_text(fields["version"]),
            latent_channels=_number(fields, "latent_channels"),
            hyper_channels=_number(fields, "hyper_channels"),
            halo=_number(fields, "halo"),
            files={name: _digest(digest) for name, digest in fields["files"].items()},
            known_answer=_text(fields["known_answer"]),
            denoiser_halos=_denoiser(fields),
            manifest=fields,
        )
        named = tuple(fields["decoding_files"])
    # RecursionError: lists within lists without end
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"the manifest of the bundle {path} is not valid: {error!r}") from error
    if fixed != _FIXED or bundle.latent_channels % PASSES:
        raise ModelError(f"the bundle {path} is of another kind: {fixed}, not {_FIXED}")
    if named != DECODING_FILES or not set(named) <= set(bundle.files):
        raise ModelError(f"the manifest of the bundle {path} does not name the files that decode")
    return bundle


def _read_regular(path: Path, limit: int) -> bytes:
    """Return the bytes of a file that is one: no pipe that never opens, no device without end.

    Raises:
        OSError: it is none, cannot be read, or has more bytes than the limit.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file")
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise OSError(f"{path} has more than {limit:,} bytes")
        return file.read(limit)


def _text(value: object) -> str:
    """Return a text that a terminal shows as it is."""
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f"{value!r} is no line of text")
    return value


def _number(fields: dict[str, Any], name: str) -> int:
    value = fields[name]
    if type(value) is not int or not 1 <= value <= _MAXIMA[name]:
        raise ValueError(f"{name} is not a whole number from 1 to {_MAXIMA[name]}")
    return value


def _denoiser(fields: dict[str, Any]) -> DenoiserHalos | None:
    if DENOISER not in fields["files"]:
        return None
    claimed = fields["denoiser"]
    return DenoiserHalos(_number(claimed, "halo"), _number(claimed, "refiner_halo"))


def _digest(value: object) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ValueError(f"{value!r} is no sha256")
    return value
