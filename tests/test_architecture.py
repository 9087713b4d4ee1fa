"""The house's rules: who imports whom, who prints, what is public."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vaecodec

PACKAGE = Path(vaecodec.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path, *, top_level_only: bool) -> set[str]:
    """Return the modules of the package that a file imports."""
    tree = ast.parse(path.read_text("utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def module_name(path: Path) -> str:
    """Return the name under which a file of the package is imported."""
    return ".".join(("vaecodec", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_runtime_wing_imports_no_factory(path: Path):
    roots = {name.partition(".")[0] for name in imports(path, top_level_only=False)}
    if path == PACKAGE / "gpu.py":  # which only who asks for a GPU loads
        roots.discard("onnx")
    assert not roots & {"torch", "onnx", "export", "matplotlib", "accelerate"}


def test_the_codec_loads_nothing_for_gpus():
    code = "import sys, vaecodec.codec, vaecodec.transforms; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(run.stdout.split()) & {"onnx", "vaecodec.gpu"}


def test_no_cycles():
    graph = {
        module_name(path): {
            name for name in imports(path, top_level_only=True) if name.startswith("vaecodec.")
        }
        for path in MODULES
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above, name))
        if name not in done:
            for other in sorted(graph.get(name, set())):
                visit(other, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_only_the_command_line_knows_the_bench():
    users = {
        module_name(path)
        for path in MODULES
        if any(name.startswith("vaecodec.bench") for name in imports(path, top_level_only=False))
        and not module_name(path).startswith("vaecodec.bench")
    }
    assert users == {
        f"vaecodec.cli.{name}"
        for name in ("bench", "bench_denoising", "bench_options", "bench_outputs")
    }


def test_measuring_loads_no_package_that_only_plots_and_scores_need():
    code = "import sys, vaecodec.bench.html, vaecodec.bench.plot; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(run.stdout.split()) & {"matplotlib", "scipy", "ssimulacra2", "pillow_heif"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_prints(path: Path):
    if path.parent.name == "cli":
        return
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert "print" not in calls


def test_public_names_are_sorted_and_exist():
    assert vaecodec.__all__ == sorted(vaecodec.__all__)
    assert set(vaecodec.__all__) <= set(dir(vaecodec))
    for name in vaecodec.__all__:
        assert getattr(vaecodec, name) is not None
    with pytest.raises(AttributeError, match="no_such"):
        vaecodec.no_such  # noqa: B018


def test_importing_the_package_is_light():
    code = "import sys, vaecodec; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert not loaded & {"numpy", "PIL", "onnxruntime", "constriction", "typer"}
