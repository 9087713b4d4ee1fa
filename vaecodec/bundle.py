"""Bundles: the folders of ONNX graphs and tables that the factory makes and the runtime uses.

Reading a manifest needs neither numpy nor ONNX Runtime, so `info` can name a file's model.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from vaecodec.container import MODEL_ID_BYTES
from vaecodec.errors import ModelError, ModelMismatchError, ModelNotFoundError

MANIFEST = "manifest.json"
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
MODELS = Path(__file__).parent / "models"
_FIXED = {"passes": PASSES, "anchors": ANCHORS, "patch": PATCH, "hyper_stride": HYPER_STRIDE}


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
        decoding_files: those that decide what a file decodes to, in the order of their hash.
        known_answer: sha256 of the exact graphs' outputs on the known-answer input.
    """

    path: Path
    name: str
    version: str
    latent_channels: int
    hyper_channels: int
    halo: int
    files: dict[str, str]
    decoding_files: tuple[str, ...]
    known_answer: str

    @property
    def model_id(self) -> bytes:
        """The 8 bytes by which a `.vaec` file names this bundle."""
        return model_id({name: self.files[name] for name in self.decoding_files})

    def read(self, name: str) -> bytes:
        """Return the bytes of one file, which are those that the manifest was made for.

        Raises:
            ModelNotFoundError: the file is missing.
            ModelMismatchError: its hash is another.
        """
        try:
            data = (self.path / name).read_bytes()
        except OSError as error:
            raise ModelNotFoundError(f"the bundle {self.path} has no readable {name}") from error
        if hashlib.sha256(data).hexdigest() != self.files.get(name):
            raise ModelMismatchError(
                f"{name} in the bundle {self.path} is not the one that its manifest names: "
                "install the bundle again"
            )
        return data


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
    names = ", ".join(bundle.name for bundle in installed()) or "none"
    raise ModelNotFoundError(f"no bundle named {name_or_path} (installed: {names})")


def installed() -> list[Bundle]:
    """Return the bundles that came with the package, by name."""
    return [_read_manifest(path.parent) for path in sorted(MODELS.glob(f"*/{MANIFEST}"))]


def find_by_id(wanted: bytes) -> Bundle:
    """Return the installed bundle with this model id.

    Raises:
        ModelNotFoundError: none has it.
    """
    for bundle in installed():
        if bundle.model_id == wanted:
            return bundle
    raise ModelNotFoundError(
        f"no installed bundle has the model id {wanted.hex()}: the file was made with another "
        "bundle or version; give its folder"
    )


def bundle_name(wanted: bytes) -> str | None:
    """Return the name of the installed bundle with this model id, if there is one."""
    try:
        return find_by_id(wanted).name
    except ModelNotFoundError:
        return None


def _read_manifest(path: Path) -> Bundle:
    try:
        fields = cast("dict[str, Any]", json.loads((path / MANIFEST).read_text("utf-8")))
        if fields["format"] != MANIFEST_FORMAT:
            raise ModelError(
                f"the bundle {path} is of format {fields['format']}, not {MANIFEST_FORMAT}"
            )
        fixed = {name: fields[name] for name in _FIXED}
        shapes = {name: int(fields[name]) for name in ("latent_channels", "hyper_channels", "halo")}
        files = {str(name): str(digest) for name, digest in fields["files"].items()}
        bundle = Bundle(
            path=path,
            name=str(fields["name"]),
            version=str(fields["version"]),
            files=files,
            decoding_files=tuple(str(name) for name in fields["decoding_files"]),
            known_answer=str(fields["known_answer"]),
            **shapes,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"the manifest of the bundle {path} is not valid: {error!r}") from error
    if fixed != _FIXED:
        raise ModelError(f"the bundle {path} is of another kind: {fixed}, not {_FIXED}")
    if min(shapes.values()) < 1 or not set(bundle.decoding_files) <= set(files):
        raise ModelError(f"the manifest of the bundle {path} is not valid")
    return bundle
