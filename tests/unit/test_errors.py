import inspect
import pickle

import pytest

from vaecodec import errors
from vaecodec.errors import VaecodecError

EXIT_CODES = {
    errors.VaecodecError: 1,
    errors.FormatError: 3,
    errors.NotVaecError: 3,
    errors.UnsupportedVersionError: 3,
    errors.TruncatedError: 3,
    errors.ChecksumError: 3,
    errors.CorruptError: 3,
    errors.ImageError: 3,
    errors.InputError: 3,
    errors.ModelError: 4,
    errors.ModelNotFoundError: 4,
    errors.ModelMismatchError: 4,
    errors.RuntimeUnavailableError: 4,
    errors.LimitError: 5,
    errors.TargetError: 5,
    errors.InsufficientMemoryError: 5,
    errors.OutputError: 6,
    errors.OutputExistsError: 6,
    errors.UnfitFormatError: 6,
}


def test_the_table_above_is_complete():
    defined = {
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, Exception)
    }
    assert defined == set(EXIT_CODES)


@pytest.mark.parametrize(("kind", "code"), EXIT_CODES.items())
def test_exit_codes(kind: type[VaecodecError], code: int):
    assert kind.exit_code == code
    assert issubclass(kind, VaecodecError)


@pytest.mark.parametrize("kind", EXIT_CODES)
def test_the_module_docstring_draws_every_class_under_its_parent(kind: type[VaecodecError]):
    lines = (errors.__doc__ or "").splitlines()
    depths = {}
    parents: dict[str, str] = {}
    for line in lines:
        words = line.replace("│", " ").replace("├──", "   ").replace("└──", "   ")
        name = words.split()[0] if words.split() else ""
        if not name.endswith("Error"):
            continue
        depth = (len(words) - len(words.lstrip()) - 4) // 4
        depths[depth] = name
        parents[name] = depths.get(depth - 1, "Exception")
    assert parents[kind.__name__] == kind.__bases__[0].__name__


def test_format_errors_are_value_errors():
    assert issubclass(errors.FormatError, ValueError)
    assert not issubclass(errors.LimitError, ValueError)


def test_limit_error_says_what_how_much_and_the_limit():
    error = errors.LimitError("image width in pixels", 70_000, 65_536)
    assert str(error) == "image width in pixels is 70,000, over the limit of 65,536"
    assert (error.what, error.value, error.limit) == ("image width in pixels", 70_000, 65_536)


def test_runtime_unavailable_carries_the_pip_line():
    error = errors.RuntimeUnavailableError("no runtime", "pip install 'vaecodec[cpu]'")
    assert error.pip_line == "pip install 'vaecodec[cpu]'"
    assert str(error) == "no runtime (try: pip install 'vaecodec[cpu]')"
    assert str(errors.RuntimeUnavailableError("no GPU")) == "no GPU"


@pytest.mark.parametrize(
    "error",
    [
        errors.CorruptError("why"),
        errors.LimitError("file size in bytes", 2, 1),
        errors.RuntimeUnavailableError("no runtime", "pip install it"),
    ],
)
def test_errors_cross_processes(error: VaecodecError):
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 (our own bytes)
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
