"""Bundles that a user was given: each is refused as a bundle, or works; none brings us down."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hostile.mutate import Parts, forge, goldens, repair
from hostile.oracle import GOLDEN
from onnx import TensorProto, helper

from vaecodec.bundle import DECODING_FILES, MANIFEST, find_bundle
from vaecodec.codec import Codec
from vaecodec.container import HEADER_BYTES
from vaecodec.errors import (
    ChecksumError,
    CorruptError,
    ModelError,
    ModelMismatchError,
    ModelNotFoundError,
    TruncatedError,
)
from vaecodec.tables import load_tables

ROOT = Path(__file__).parents[2]
FILE = goldens()["rgb"]
PIXELS = np.arange(20 * 24 * 3, dtype=np.uint8).reshape(20, 24, 3)
LATENT, HYPER = 32, 16
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX links and devices")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / "bundle", tmp_path / "bundle"))


def edit(folder: Path, **fields: object) -> None:
    path = folder / MANIFEST
    manifest = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(manifest | fields), "utf-8")


def put(folder: Path, name: str, data: bytes) -> None:
    """Replace a file of a bundle, its hash in the manifest made right."""
    (folder / name).write_bytes(data)
    files = json.loads((folder / MANIFEST).read_text("utf-8"))["files"]
    edit(folder, files=files | {name: hashlib.sha256(data).hexdigest()})


def addressed(data: bytes, folder: Path) -> bytes:
    """Return a file with the model id of a bundle, whichever it was made with."""
    return repair(data[:24] + find_bundle(folder).model_id + data[32:])


def use(folder: Path) -> None:
    """Do with a bundle all that can be done; no warning may pass either."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codec = Codec(folder, threads=1)
        codec.decode_raster(addressed(FILE, folder))
        codec.preview(addressed(FILE, folder))
        codec.encode(PIXELS)


def refused(folder: Path, error: Any = ModelError, reason: str = ".") -> None:
    with pytest.raises(error, match=reason):
        use(folder)


def test_a_copy_of_the_bundle_works(folder: Path):
    """Or else all that follows would prove nothing."""
    use(folder)


# Manifests.


@pytest.mark.parametrize(
    "text",
    [
        b"\xff\xfe",
        b"\x00" * 50,
        b"null",
        b"3",
        b'"manifest"',
        b"[[]]",
        b"{}",
        b'{"format": 3}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"format": ' + b"9" * 10_000 + b"}",
        b'{"format": 3} ' + b" " * 2_000_000,
        b"\xef\xbb\xbf{}",
    ],
    ids=lambda text: repr(text[:12]) + str(len(text)),
)
def test_a_manifest_that_is_none(folder: Path, text: bytes):
    (folder / MANIFEST).write_bytes(text)
    refused(folder)


NUMBERS = (0, -1, 3.0, 4.5, 1e300, 10**30, 2**63, "32", "", None, [], {}, True)


@pytest.mark.parametrize("name", ["latent_channels", "hyper_channels", "halo"])
@pytest.mark.parametrize("value", NUMBERS, ids=repr)
def test_numbers_that_are_none(folder: Path, name: str, value: object):
    edit(folder, **{name: value})
    refused(folder)


@pytest.mark.parametrize("name", ["latent_channels", "hyper_channels", "halo", "format", "passes"])
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "-0"])
def test_numbers_that_json_has_no_place_for(folder: Path, name: str, value: str):
    path = folder / MANIFEST
    text = re.sub(rf'"{name}": \d+', f'"{name}": {value}', path.read_text("utf-8"))
    path.write_text(text, "utf-8")
    refused(folder)


@pytest.mark.parametrize(
    "fields",
    [
        {"latent_channels": 64},  # more than the graphs have
        {"latent_channels": 28},
        {"latent_channels": 30},  # no multiple of 4
        {"hyper_channels": 15},
        {"hyper_channels": 17},
        {"halo": 100_000},
    ],
    ids=str,
)
def test_numbers_that_the_graphs_do_not_bear_out(folder: Path, fields: dict[str, object]):
    edit(folder, **fields)
    refused(folder)


KEYS = tuple(json.loads((GOLDEN / "bundle" / MANIFEST).read_text("utf-8")))
UNUSED = frozenset({"licence", "model_id", "architecture"})


@pytest.mark.parametrize("key", [key for key in KEYS if key not in UNUSED])
@pytest.mark.parametrize("value", ["missing", None, 7.5, [], [[]], {"a": "b"}], ids=repr)
def test_a_key_that_is_missing_or_of_another_type(folder: Path, key: str, value: object):
    path = folder / MANIFEST
    manifest = json.loads(path.read_text("utf-8"))
    del manifest[key]
    path.write_text(json.dumps(manifest if value == "missing" else manifest | {key: value}))
    refused(folder)


@pytest.mark.parametrize("name", ["\x1b[2J", "two\nlines", "\ud800"])
def test_a_name_that_would_meddle_with_a_terminal(folder: Path, name: str):
    edit(folder, name=name)
    refused(folder)


@pytest.mark.parametrize("digest", ["", "0", "g" * 64, "A" * 64, "0" * 65, "0" * 64 + "\n"])
def test_a_hash_that_is_none(folder: Path, digest: str):
    files = json.loads((folder / MANIFEST).read_text("utf-8"))["files"]
    edit(folder, files=files | {"encoder.onnx": digest})
    refused(folder)


def test_a_wrong_hash(folder: Path):
    for name in (*DECODING_FILES, "encoder.onnx", "hyper.onnx", "preview.onnx"):
        files = json.loads((GOLDEN / "bundle" / MANIFEST).read_text("utf-8"))["files"]
        edit(folder, files=files | {name: "0" * 64})
        refused(folder, ModelMismatchError, name)


# Which files are read.


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["../secret"],
        ["/etc/passwd"],
        [*DECODING_FILES, "../secret"],
        DECODING_FILES[:-1],
        [*DECODING_FILES, "encoder.onnx"],
        DECODING_FILES[::-1],
        [name.upper() for name in DECODING_FILES],
        [*DECODING_FILES, DECODING_FILES[0]],
    ],
    ids=str,
)
def test_files_other_than_those_that_decode(folder: Path, names: list[str]):
    """Or a bundle could leave out of its id what decides the pixels."""
    files = json.loads((folder / MANIFEST).read_text("utf-8"))["files"]
    edit(folder, decoding_files=list(names), files=dict.fromkeys(names, "0" * 64) | files)
    refused(folder)


def test_an_id_borrowed_through_a_line_end(folder: Path):
    """One name that reads, in the text that is hashed, as two, one of them with another's hash."""
    genuine = find_bundle(folder)
    digests = [genuine.files[name] for name in DECODING_FILES]
    joint = f"{DECODING_FILES[0]} {digests[0]}\n{DECODING_FILES[1]}"
    files = genuine.files | {joint: digests[1], DECODING_FILES[0]: "0" * 64}
    edit(folder, files=files, decoding_files=[joint, *DECODING_FILES[2:]])
    refused(folder)


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """What was opened while the test ran; an audit hook stays for good, so it can be shut off."""
    found: list[str] = []
    active = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if active and event == "open":
            found.append(str(arguments[0]))

    sys.addaudithook(hook)
    yield found
    active = False


def test_no_file_outside_of_the_folder_is_opened(folder: Path, opened: list[str]):
    secret = folder.parent / "secret"
    secret.write_bytes(b"secret")
    files = json.loads((folder / MANIFEST).read_text("utf-8"))["files"]
    digest = hashlib.sha256(b"secret").hexdigest()
    edit(folder, files=files | {"../secret": digest, str(secret): digest, "/etc/passwd": digest})
    opened.clear()
    use(folder)
    of_ours = {path for path in opened if path.startswith(str(folder.parent)) or "passwd" in path}
    expected = {str(folder / name) for name in (MANIFEST, *files)}
    assert of_ours == expected


@posix
@pytest.mark.parametrize("name", [MANIFEST, "tables.npz", "prior.onnx", "decoder.onnx"])
@pytest.mark.parametrize("kind", ["zero", "pipe", "folder", "loop"])
def test_a_file_that_is_no_file(folder: Path, name: str, kind: str):
    path = folder / name
    path.unlink()
    if kind == "zero":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    refused(folder, ModelNotFoundError)


# Tables.


def arrays() -> dict[str, Any]:
    with np.load(GOLDEN / "bundle" / "tables.npz") as stored:
        return dict(stored)


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression, compresslevel=1) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def npy(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def tables(**changes: Any) -> bytes:
    """Return the golden's tables, some of them others; bytes stand for a member as it is."""
    members = arrays() | changes
    packed = {
        f"{name}.npy": value if isinstance(value, bytes) else npy(value)
        for name, value in members.items()
        if value is not None
    }
    return archive(packed)


class Detonator:
    """Whoever unpickles it finds out."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("it was unpickled",)


def header_only(shape: str, descr: str = "<u4") -> bytes:
    """Return an array that claims a shape, and holds nothing of it."""
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def bent_frequencies() -> Any:
    """Return frequencies of the right sum, one of them zero."""
    flat = arrays()["frequencies"]
    flat[1] += flat[0]
    flat[0] = 0
    return flat


def encrypted() -> bytes:
    data = bytearray(tables())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    data[data.index(b"PK\x03\x04") + 6] |= 1
    return bytes(data)


def in_a_strange_compression() -> bytes:
    data = bytearray(tables())
    place = data.index(b"PK\x01\x02") + 10
    data[place : place + 2] = b"\x63\x00"
    return bytes(data)


def damaged_stream() -> bytes:
    data = bytearray(tables())
    middle = len(data) // 3
    data[middle : middle + 40] = b"\xff" * 40
    return bytes(data)


TABLES: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "a pickle": lambda: pickle.dumps(Detonator()),
    "a pickle for an array": lambda: tables(reach=pickle.dumps(Detonator())),
    "an array of objects": lambda: tables(
        reach=npy(np.array([Detonator()], object), allow_pickle=True)
    ),
    "an array and no archive": lambda: npy(np.zeros(3)),
    "a member missing": lambda: tables(scales=None),
    "a bomb": lambda: tables(frequencies=np.zeros(2**24 + 1, np.uint32)),
    "a bomb beside the tables": lambda: tables(more=np.zeros(2**26 + 1, np.uint8), reach=None),
    "a claim of 2^40": lambda: tables(frequencies=header_only("(1099511627776,)")),
    "a claim of 2^62": lambda: tables(frequencies=header_only("(4611686018427387904, 8)")),
    "a claim below zero": lambda: tables(frequencies=header_only("(-5,)")),
    "a claim of many sides": lambda: tables(frequencies=header_only("(1,)*999")),
    "a shape that is code": lambda: tables(reach=header_only("__import__('os').abort()")),
    "a type that is none": lambda: tables(reach=header_only("(64,)", "no type")),
    "a huge type": lambda: tables(reach=header_only("(64,)", "|V2147483647")),
    "a header that is too long": lambda: tables(reach=header_only("(" + " " * 60_000 + "64,)")),
    "a header that is deep": lambda: tables(reach=header_only("(" * 5000 + ")" * 5000)),
    "damage inside": damaged_stream,
    "a password": encrypted,
    "a strange compression": in_a_strange_compression,
    "text for numbers": lambda: tables(reach=np.array(["1"] * 64)),
    "records for numbers": lambda: tables(reach=np.zeros(64, [("a", "u2")])),
    "floats for numbers": lambda: tables(reach=arrays()["reach"] * np.float32("nan")),
    "complex numbers": lambda: tables(scales=arrays()["scales"] * 1j),
    "wide reach": lambda: tables(reach=np.where(np.arange(64) > 0, 2**63, 0).astype(np.uint64)),
    "negative reach": lambda: tables(reach=-arrays()["reach"].astype(np.int64)),
    "more reach": lambda: tables(reach=arrays()["reach"] + (np.arange(64) == 5).astype(np.uint16)),
    "reach moved": lambda: tables(reach=arrays()["reach"][[0, 63, *range(2, 63), 1]]),
    "reach for index 0": lambda: tables(reach=arrays()["reach"] + np.uint16(1)),
    "a sum over 2^24": lambda: tables(frequencies=arrays()["frequencies"] + np.uint32(1)),
    "a frequency of 0": lambda: tables(frequencies=bent_frequencies()),
    "a sum that wraps": lambda: tables(
        frequencies=arrays()["frequencies"] + np.uint32(2**31)  # even lengths: 2^32 * n
    ),
    "frequencies the other way round": lambda: tables(
        frequencies=arrays()["frequencies"].astype(">u4")
    ),
    "no frequencies": lambda: tables(frequencies=np.zeros(0, np.uint32)),
    "scales of zero": lambda: tables(scales=np.zeros(64)),
    "scales that are no numbers": lambda: tables(scales=arrays()["scales"] * np.nan),
    "a scale index of 0": lambda: tables(z_scale_index=arrays()["z_scale_index"] * np.uint8(0)),
    "a scale index of 64": lambda: tables(z_scale_index=np.full((64, HYPER), 64, np.uint8)),
    "fewer anchors": lambda: tables(z_scale_index=arrays()["z_scale_index"][:63]),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_are_none(folder: Path, name: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = TABLES[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ModelError):
            load_tables(data, HYPER)
    put(folder, "tables.npz", data)
    refused(folder)


def test_tables_cut_anywhere():
    data = (GOLDEN / "bundle" / "tables.npz").read_bytes()
    for size in range(0, len(data), 997):
        with pytest.raises(ModelError):
            load_tables(data[:size], HYPER)


def test_tables_with_a_byte_changed_anywhere():
    """Each is refused, or means what it meant: an archive has bytes that nothing depends on."""
    data = (GOLDEN / "bundle" / "tables.npz").read_bytes()
    rng = np.random.default_rng(5)
    sound = load_tables(data, HYPER)
    for _ in range(300):
        damaged = bytearray(data)
        edges = rng.random() < 0.5
        place = rng.integers(len(data) - 400, len(data)) if edges else rng.integers(len(data))
        damaged[place] ^= int(rng.integers(1, 256))
        try:
            found = load_tables(bytes(damaged), HYPER)
        except ModelError:
            continue
        np.testing.assert_array_equal(found.reach, sound.reach)
        np.testing.assert_array_equal(found.z_scale_index, sound.z_scale_index)


# Graphs. Slicing every second row and column of an input gives the shape of a pass.

FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE


def model(
    nodes: list[Any], outputs: list[str], inputs: list[str], constants: dict[str, Any] | None = None
) -> bytes:
    """Return a graph; names of inputs are followed by their rank, as in ``y_hat:4``."""

    def value(text: str, kind: int = FLOAT) -> Any:
        name, _, rank = text.partition(":")
        kind = TensorProto.INT64 if name == "anchor" else kind
        return helper.make_tensor_value_info(name, kind, [None] * int(rank or 0))

    shapes = [helper.make_empty_tensor_value_info(name) for name in outputs]
    tensors = [onnx.numpy_helper.from_array(np.array(a), n) for n, a in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", [value(i) for i in inputs], shapes, tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("evil.domain", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


SLICED = {
    "starts": np.array([0, 0]),
    "ends": np.array([2**31, 2**31]),
    "axes": np.array([2, 3]),
    "steps": np.array([2, 2]),
}


def context(
    *,
    mean: float = 0.0,
    scale: float = 5.0,
    mean_type: int = FLOAT,
    scale_type: int = TensorProto.UINT8,
    whole: bool = False,
    outputs: tuple[str, ...] = ("mean", "scale"),
    extra: list[Any] | None = None,
) -> bytes:
    """Return a first pass that gives constants, most often of the right shape."""
    nodes = [
        helper.make_node("Slice", ["features", "starts", "ends", "axes", "steps"], ["half"]),
        # The golden bundle has half as many features as latents.
        helper.make_node("Concat", ["features" if whole else "half"] * 2, ["all"], axis=1),
        helper.make_node("Mul", ["all", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "mean_value"], ["mean_float"]),
        helper.make_node("Cast", ["mean_float"], ["mean"], to=mean_type),
        helper.make_node("Add", ["nothing", "scale_value"], ["scale_float"]),
        helper.make_node("Cast", ["scale_float"], ["scale"], to=scale_type),
        *(extra or []),
    ]
    values = {"zero": 0.0, "mean_value": mean, "scale_value": scale}
    constants = SLICED | {name: np.float32(value) for name, value in values.items()}
    return model(nodes, list(outputs), ["features:4", "anchor"], constants)


CONTEXTS: dict[str, Callable[[], bytes]] = {
    "a scale index of 64": lambda: context(scale=64),
    "a scale index of 255": lambda: context(scale=255),
    "scale indices of 64 bits": lambda: context(scale_type=TensorProto.INT64),
    "signed scale indices": lambda: context(scale_type=TensorProto.INT8),
    "scale indices of floats": lambda: context(scale_type=FLOAT),
    "a mean that is no number": lambda: context(mean=float("nan")),
    "a mean without end": lambda: context(mean=float("inf")),
    "a mean of doubles": lambda: context(mean_type=DOUBLE),
    "a mean of text": lambda: context(mean_type=TensorProto.STRING),
    "twice the sides": lambda: context(whole=True),
    "no scale": lambda: context(outputs=("mean",)),
    "three outputs": lambda: context(outputs=("mean", "scale", "half")),
    "outputs exchanged": lambda: context(outputs=("scale", "mean")),
    "a scalar": lambda: context(
        outputs=("mean", "top"),
        extra=[helper.make_node("ReduceMax", ["scale"], ["top"], keepdims=0)],
    ),
    "a flat scale": lambda: context(
        outputs=("mean", "flat"), extra=[helper.make_node("Flatten", ["scale"], ["flat"])]
    ),
    "a list": lambda: context(
        outputs=("mean", "list"),
        extra=[helper.make_node("SequenceConstruct", ["scale", "scale"], ["list"])],
    ),
    "nothing": lambda: context(
        outputs=("mean", "none"),
        extra=[
            helper.make_node(
                "Optional",
                [],
                ["none"],
                type=helper.make_optional_type_proto(
                    helper.make_tensor_type_proto(TensorProto.UINT8, None)
                ),
            )
        ],
    ),
}


@pytest.mark.parametrize("name", CONTEXTS)
def test_a_pass_that_is_none(folder: Path, name: str):
    put(folder, "context_0.onnx", CONTEXTS[name]())
    refused(folder)


def test_a_pass_that_is_another(folder: Path):
    """It keeps to every rule, and gives other symbols: the file is refused, the bundle is not."""
    put(folder, "context_0.onnx", context())
    refused(folder, (CorruptError, ChecksumError))
    assert Codec(folder).encode(PIXELS)


def one(kind: str, source: str, inputs: list[str], **attributes: Any) -> bytes:
    """Return a graph of one operator, on one input."""
    constants: dict[str, Any] = {}
    if kind == "Mul":
        constants = {"factor": np.float32(attributes.pop("factor"))}
    node = helper.make_node(kind, [source, *constants], ["out"], **attributes)
    return model([node], ["out"], inputs, constants)


GRAPHS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "prior: not raised": ("prior", lambda: one("Identity", "z_hat", ["z_hat:4", "anchor"])),
    "prior: flat": ("prior", lambda: one("Flatten", "z_hat", ["z_hat:4"])),
    "prior: integers": (
        "prior",
        lambda: one("Cast", "z_hat", ["z_hat:4"], to=TensorProto.INT32),
    ),
    "prior: a scalar": ("prior", lambda: one("Identity", "anchor", ["anchor"])),
    "prior: another's inputs": ("prior", lambda: one("Identity", "y", ["y:4"])),
    "prior: one input too many": (
        "prior",
        lambda: one("Identity", "z_hat", ["z_hat:4", "more:2"]),
    ),
    "prior: another rank": ("prior", lambda: one("Identity", "z_hat", ["z_hat:2"])),
    "decoder: latents": ("decoder", lambda: one("Identity", "y_hat", ["y_hat:4", "level"])),
    "decoder: doubles": ("decoder", lambda: one("Cast", "y_hat", ["y_hat:4"], to=DOUBLE)),
    "decoder: a scalar": ("decoder", lambda: one("Identity", "level", ["level"])),
    "preview: latents": ("preview", lambda: one("Identity", "y_hat", ["y_hat:4", "level"])),
    "encoder: the image": ("encoder", lambda: one("Identity", "x", ["x:4", "level"])),
    "encoder: a scalar": ("encoder", lambda: one("Identity", "level", ["level"])),
    "hyper: one output": ("hyper", lambda: one("Identity", "y", ["y:4", "level", "anchor"])),
    "an operator of one's own": (
        "decoder",
        lambda: one("Evil", "y_hat", ["y_hat:4"], domain="evil.domain"),
    ),
    "a domain that is unknown": (
        "decoder",
        lambda: one("Evil", "y_hat", ["y_hat:4"], domain="worse.domain"),
    ),
    "no graph": ("decoder", lambda: b""),
    "not even a file of its kind": ("decoder", lambda: b"MZ\x90\x00" * 100),
    "a graph of nothing": ("decoder", lambda: onnx.ModelProto().SerializeToString()),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_that_is_another(folder: Path, name: str):
    graph, make = GRAPHS[name]
    put(folder, f"{graph}.onnx", make())
    refused(folder)


@pytest.mark.parametrize("name", ["prior", "context_2", "decoder", "preview", "encoder", "hyper"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_a_graph_cut_short(folder: Path, name: str, part: float):
    data = (folder / f"{name}.onnx").read_bytes()
    put(folder, f"{name}.onnx", data[: int(part * len(data))])
    refused(folder)


@pytest.mark.parametrize("name", ["encoder", "hyper", "prior"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_a_graph_whose_weights_are_no_numbers(folder: Path, name: str, value: float):
    """Its last operators are followed by one that spoils what they give."""
    spoil(folder, name, value)
    if name == "prior" and value == 1e30:  # which the passes clip
        refused(folder, (CorruptError, ChecksumError, ModelError))
    elif name == "encoder" and value == 1e30:  # residuals are clipped, too
        Codec(folder).encode(PIXELS)
    else:
        refused(folder)


def spoil(folder: Path, name: str, value: float) -> None:
    graph = onnx.load_from_string((folder / f"{name}.onnx").read_bytes())
    tensor = onnx.numpy_helper.from_array(np.float32(value), "spoiler")
    graph.graph.initializer.append(tensor)
    for output in graph.graph.output:
        old = f"{output.name}_sound"
        for node in graph.graph.node:
            for names in (node.input, node.output):
                names[:] = [old if given == output.name else given for given in names]
        graph.graph.node.append(helper.make_node("Add", [old, "spoiler"], [output.name]))
    put(folder, f"{name}.onnx", graph.SerializeToString())


@pytest.mark.parametrize("name", ["decoder", "preview"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_samples_that_are_no_numbers_give_an_image(folder: Path, name: str, value: float):
    """Latents of a hostile file can bring a sound decoder there, so it is no fault of a bundle."""
    spoil(folder, name, value)
    use(folder)


@pytest.mark.parametrize(
    "location", ["secret.bin", "../secret.bin", "/etc/hostname", "bundle/decoder.onnx", ""]
)
def test_a_graph_with_data_elsewhere(
    folder: Path, location: str, monkeypatch: pytest.MonkeyPatch, opened: list[str]
):
    """ONNX Runtime would look beside the working directory."""
    monkeypatch.chdir(folder)
    for place in (folder, folder.parent):
        (place / "secret.bin").write_bytes(bytes(4096))
    graph = onnx.load_from_string((folder / "decoder.onnx").read_bytes())
    tensor = next(t for t in graph.graph.initializer if t.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    put(folder, "decoder.onnx", graph.SerializeToString())
    opened.clear()
    refused(folder, ModelError, "outside")
    assert not [path for path in opened if "secret" in path or "hostname" in path]


def test_data_elsewhere_is_found_under_any_spelling(folder: Path):
    """A length of 8 may be written with more bytes than it takes."""
    (folder / "here.bin").write_bytes(bytes(64))
    data = (folder / "decoder.onnx").read_bytes()
    put(folder, "decoder.onnx", data + b"\x0a\x88\x00location")
    refused(folder, ModelError, "outside")


def test_a_graph_that_asks_for_all_memory(folder: Path):
    shape = np.array([1, 3, 2**21, 2**21])
    node = helper.make_node("ConstantOfShape", ["shape"], ["out"])
    use_level = helper.make_node("Add", ["out", "level"], ["x_hat"])
    data = model([node, use_level], ["x_hat"], ["y_hat:4", "level"], {"shape": shape})
    put(folder, "decoder.onnx", data)
    with pytest.raises((ModelError, MemoryError)) as caught:
        use(folder)
    assert hasattr(caught.value, "exit_code")  # one of ours, whichever


# A file and a bundle that do not belong together.


def other_prior(folder: Path) -> None:
    graph = onnx.load_from_string((folder / "prior.onnx").read_bytes())
    for tensor in graph.graph.initializer:
        weights = onnx.numpy_helper.to_array(tensor)
        if weights.dtype == np.int8:
            turned = np.ascontiguousarray(weights[::-1])
            tensor.CopyFrom(onnx.numpy_helper.from_array(turned, tensor.name))
    put(folder, "prior.onnx", graph.SerializeToString())


def other_tables(folder: Path) -> None:
    rows = arrays()["z_scale_index"]
    put(folder, "tables.npz", tables(z_scale_index=((rows + 7) % 60 + 1).astype(np.uint8)))


@pytest.mark.parametrize("change", [other_prior, other_tables])
def test_a_swapped_model(folder: Path, change: Callable[[Path], None]):
    change(folder)
    own, other = Codec(GOLDEN / "bundle", threads=1), Codec(folder, threads=1)
    assert own.bundle.model_id != other.bundle.model_id
    strange = other.encode(np.tile(PIXELS, (4, 4, 1)), quality=90)
    assert other.decode(strange).size == (96, 80)
    # Of latents at random: the hyper-latents of the golden images are zero, which any prior reads.
    genuine = forge(np.random.default_rng(0), reach=3.0)
    own.decode_raster(genuine)
    with pytest.raises(ModelMismatchError, match=other.bundle.model_id.hex()):
        own.decode(strange)
    with pytest.raises(ModelMismatchError, match=own.bundle.model_id.hex()):
        other.decode(genuine)
    # The same under a false name, which only the symbols give away.
    for codec, data in (
        (own, addressed(strange, GOLDEN / "bundle")),
        (other, addressed(genuine, folder)),
    ):
        with pytest.raises((CorruptError, ChecksumError, TruncatedError)):
            codec.decode(data)
        with pytest.raises((CorruptError, ChecksumError, TruncatedError)):
            codec.preview(data)


def test_nonsense_of_a_swapped_model(folder: Path):
    """Of latents at random, too, no file of one bundle passes for one of another."""
    other_prior(folder)
    own = Codec(GOLDEN / "bundle", threads=1)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        data = addressed(forge(rng, folder, reach=3.0), GOLDEN / "bundle")
        with pytest.raises((CorruptError, ChecksumError, TruncatedError)):
            own.decode_raster(data)


def test_a_file_that_lies_about_its_model_only():
    parts = Parts.of(FILE)
    parts.header[24 : HEADER_BYTES - 4] = bytes(8)
    with pytest.raises(ModelMismatchError, match="0000000000000000"):
        Codec(GOLDEN / "bundle").decode(parts.joined())


# The same through the command line: one line, exit code 4.


def bad_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_bytes(b"[" * 100_000)


def bad_pass(folder: Path) -> None:
    put(folder, "context_0.onnx", context(scale=255))


def bad_tables(folder: Path) -> None:
    put(folder, "tables.npz", tables(reach=pickle.dumps(Detonator())))


@pytest.mark.parametrize("spoiled", [bad_manifest, bad_pass, bad_tables])
def test_the_command_line_says_it_in_a_line(
    folder: Path, tmp_path: Path, spoiled: Callable[[Path], None]
):
    spoiled(folder)
    source = tmp_path / "in.vaec"
    source.write_bytes(FILE if spoiled is bad_manifest else addressed(FILE, folder))
    done = subprocess.run(
        [sys.executable, "-m", "vaecodec", "decompress", source, "-", "--bundle", str(folder)],
        capture_output=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 4, done.stderr.decode()
    assert done.stdout == b""
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("vaecodec: error: ")
