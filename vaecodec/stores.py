"""Files by their addresses: paths of this machine, and what pyarrow or fsspec reaches.

An address is a local path, or has a scheme, as in `s3://bucket/folder/name`. Keys, regions and
endpoints are found where each store's own tools look for them: in the environment.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from vaecodec import batch
from vaecodec.batch import Listing
from vaecodec.errors import InputError, OutputError, OutputExistsError, RuntimeUnavailableError
from vaecodec.fileio import read_bytes
from vaecodec.jobs import Job, Outcome, Task, failed
from vaecodec.limits import DEFAULT_LIMITS, Limits
from vaecodec.origin import Origin

PIP_LINE = "pip install 'vaecodec[cpu,ray]'"

_OBJECT_STORES = frozenset(
    ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "hf", "memory")
)
"""Schemes of stores where an object appears when all of it is there."""


def is_remote(address: str) -> bool:
    """Tell whether it has a scheme, and is no local path."""
    return "://" in address


def list_folder(source: str, target: str, job: Job, *, recursive: bool) -> Listing:
    """List the files of a folder or of an address; see `batch.list_folder`.

    Raises:
        InputError: it cannot be listed.
        RuntimeUnavailableError: a package that an address needs is missing.
    """
    source, target = _normal(source), _normal(target)
    if is_remote(source):
        return _list_store(source, target, job, recursive=recursive)
    if not is_remote(target):
        return batch.list_folder(source, target, job, recursive=recursive)
    listing = batch.list_folder(source, "", job, recursive=recursive)
    for number, task in enumerate(listing.tasks):
        goal = _join(target, task.target.replace(os.sep, "/"))
        listing.tasks[number] = replace(task, target=goal)
    return listing


def _list_store(source: str, target: str, job: Job, *, recursive: bool) -> Listing:
    listing = Listing([])
    sizes = _sizes(source, recursive=recursive, must_exist=True)
    folders: defaultdict[str, list[str]] = defaultdict(list)
    for path in sizes:
        folder, _, name = path.rpartition("/")
        folders[folder].append(name)
    for folder, names in sorted(folders.items()):
        ignored: list[str] = []
        for name, output in batch.output_names(names, job, ignored):
            path, goal = (f"{folder}/{one}".lstrip("/") for one in (name, output))
            task = Task(_join(source, path), _join(target, goal), sizes[path])
            if ".." in PurePath(path).parts or PurePath(path).anchor:  # objects have any name
                reason = InputError("its name leads out of the folder")
                listing.unreadable.append(failed(task, reason))
            else:
                listing.tasks.append(task)
        below = _join(source, folder) if folder else source
        listing.ignored.extend(f"{below}/{name}" for name in ignored)
    return listing


def split_done(tasks: Iterable[Task], *, force: bool) -> tuple[list[Task], list[Outcome]]:
    """Part tasks into those to do, and outcomes of those whose output is there.

    A store's folders are listed, which is far quicker than to ask for each output.

    Raises:
        InputError: a folder cannot be listed.
    """
    tasks = list(tasks)
    if force or not any(is_remote(task.target) for task in tasks):
        return batch.split_done(tasks, force=force)
    to_do: list[Task] = []
    done: list[Outcome] = []
    found: dict[str, dict[str, int]] = {}
    for task in tasks:
        folder, _, name = task.target.rpartition("/")
        if folder not in found:
            found[folder] = _sizes(folder, recursive=False, must_exist=False)
        size = found[folder].get(name)
        if size is None:
            to_do.append(task)
        else:
            done.append(Outcome(task.source, task.target, "skipped", task.input_bytes, size))
    return to_do, done


def read(address: str, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Return the bytes of a file.

    Raises:
        InputError: it cannot be read.
        LimitError: it is longer than `max_file_bytes`.
    """
    if not is_remote(address):
        return read_bytes(address, limits)
    filesystem, path = _locate(address)
    try:
        with filesystem.open_input_file(path) as file:
            limits.check_file_bytes(file.size())
            return file.read()
    except OSError as error:
        raise InputError(f"cannot read {address}: {_reason(error)}") from error


def write(
    address: str,
    data: bytes | memoryview,
    origin: Origin | None = None,
    *,
    limits: Limits = DEFAULT_LIMITS,
    force: bool = False,
) -> None:
    """Put a file in place, whole or not at all.

    One with the same content that is there already is left as it is, and is no error: whoever
    wrote it did not live to tell.

    Args:
        address: where to write; folders are made.
        data: the whole content.
        origin: gives permissions and times to files of this machine.
        limits: for reading what is there.
        force: replace a file with another content.

    Raises:
        OutputExistsError: one with another content is there and `force` is not given.
        OutputError: it cannot be written.
    """
    found = None if force else _content(address, limits)
    if found == data:
        return
    if found is not None:
        raise OutputExistsError(f"{address} exists already; --force replaces it")
    if not is_remote(address):
        batch.put_file(address, data, force=force, origin=origin)
        return
    filesystem, path = _locate(address)
    try:
        if urlsplit(address).scheme in _OBJECT_STORES:
            _publish(filesystem, path, data)
        else:
            _replace(filesystem, path, data)
    except OSError as error:
        raise OutputError(f"cannot write {address}: {_reason(error)}") from error


def _normal(address: str) -> str:
    """Return the local path for a `file://` address, and any other address without its last slash.

    Raises:
        InputError: it has options behind a question mark, which would be in every report.
    """
    if address.startswith("file://"):
        return url2pathname(urlsplit(address).path)
    if not is_remote(address):
        return address
    if urlsplit(address).query:
        plain = address.partition("?")[0]
        raise InputError(f"{plain}: give a store's options in the environment, not behind ?")
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{rest.rstrip('/')}"


def _join(folder: str, path: str) -> str:
    """Return the address of what is below a folder.

    Args:
        folder: a normal address.
        path: names with slashes between them.
    """
    if is_remote(folder):
        return f"{folder}/{path.lstrip('/')}"
    return os.path.normpath(os.path.join(folder, *path.split("/")))


def _sizes(folder: str, *, recursive: bool, must_exist: bool) -> dict[str, int]:
    """Return the bytes of each file in a folder of a store, by their paths below it.

    Raises:
        InputError: it cannot be listed.
        RuntimeUnavailableError: a package that the address needs is missing.
    """
    filesystem, base = _locate(folder)
    selector = _package("pyarrow.fs").FileSelector(
        base, recursive=recursive, allow_not_found=not must_exist
    )
    try:
        found = filesystem.get_file_info(selector)
    except OSError as error:
        reason = f"cannot list the folder, which an address must name: {_reason(error)}"
        raise InputError(f"{folder}: {reason}") from error
    cut = len(base.rstrip("/"))
    return {info.path[cut:].lstrip("/"): info.size or 0 for info in found if info.is_file}


def _publish(filesystem: Any, path: str, data: bytes | memoryview) -> None:
    """Write an object, which appears when its stream is closed, however that comes about."""
    stream = filesystem.open_output_stream(path)
    try:
        stream.write(data)
    except BaseException:
        with contextlib.suppress(OSError):
            stream.close()
            filesystem.delete_file(path)
        raise
    stream.close()


def _replace(filesystem: Any, path: str, data: bytes | memoryview) -> None:
    """Write beside a file, and move what was written to its place."""
    folder = path.rpartition("/")[0]
    filesystem.create_dir(folder, recursive=True)
    temporary = f"{folder}/.vaecodec-{secrets.token_hex(8)}.tmp"
    try:
        with filesystem.open_output_stream(temporary) as stream:
            stream.write(data)
        filesystem.move(temporary, path)
    except BaseException:  # an interrupt must not leave the file behind either
        with contextlib.suppress(OSError):
            filesystem.delete_file(temporary)
        raise


def _content(address: str, limits: Limits) -> bytes | None:
    """Return what is at an address; None if nothing is."""
    try:
        return read(address, limits)
    except InputError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise OutputError(f"cannot write {address}: {error}") from error


def _locate(address: str) -> tuple[Any, str]:
    """Return the file system of an address with a scheme, and the path on it."""
    scheme, _, rest = address.partition("://")
    host, slash, below = rest.partition("/")
    filesystem, root = _file_system(scheme, host)
    return filesystem, root.rstrip("/") + slash + below or root


@cache
def _file_system(scheme: str, host: str) -> tuple[Any, str]:
    """Return a file system, of pyarrow's or of fsspec's, and the path of its root."""
    address = f"{scheme}://{host}"
    arrow, fs, fsspec = _package("pyarrow"), _package("pyarrow.fs"), _package("fsspec.core")
    # One request for each object, and not the three of an upload in parts.
    options = "?allow_delayed_open=true" if scheme == "s3" else ""
    try:
        return fs.FileSystem.from_uri(address + options)
    except arrow.ArrowInvalid:  # a scheme that is fsspec's
        pass
    except OSError as error:
        raise InputError(f"cannot reach {address}: {_reason(error)}") from error
    try:
        filesystem, root = fsspec.url_to_fs(address)
    except ImportError as error:  # which says what to install
        raise RuntimeUnavailableError(str(error)) from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot reach {address}: {error}") from error
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), root


def _package(name: str) -> Any:
    """Import what the extra `[ray]` brings, and this package does without."""
    try:
        return import_module(name)
    except ImportError as error:
        raise RuntimeUnavailableError(f"{name} is not installed", PIP_LINE) from error


def _reason(error: OSError) -> str:
    """Say why, without the errno and pyarrow's repetition of it."""
    return (error.strerror or str(error)).partition(". Detail:")[0]
