"""What shells complete: through the scripts that we print, and in shells where there are some."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli.test_cli import environment, run_python

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX shells")
SHELLS = ("bash", "zsh", "fish")
BASH = shutil.which("bash")
has_bash = pytest.mark.skipif(not BASH, reason="needs bash")

# What is typed, and what it may become; nothing where the shell is to offer names of files.
COMPLETED = {
    "vaecodec in": ["info"],
    "vaecodec decompress --dev": ["--device"],
    "vaecodec decompress a.vaec --device ": ["cpu", "cuda"],
    "vaecodec decompress a.vaec --device cu": ["cuda"],
    "vaecodec decompress --bundle b": ["base"],
    "vaecodec decompress --bundle ./b": [],
    "vaecodec compress a.png --device c": ["cpu", "cuda"],
    "vaecodec compress -q 1": ["10", "100"],
    "vaecodec compress --bundle b": ["base"],
    "vaecodec decompress --strip exif,": [
        *("exif,icc", "exif,xmp", "exif,dpi", "exif,iptc", "exif,text", "exif,comment", "exif,all")
    ],
    "vaecodec verify --deep --bundle b": ["base"],
    "vaecodec models b": ["base"],
    "vaecodec decompress ": [],
    "vaecodec decompress a.vaec ": [],
    "vaecodec info ph": [],
    "vaecodec verify a.vaec b": [],
    "vaecodec compress ph": [],
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A search path with our command, and with each shell: where it is missing, bash poses as it.

    Typer asks the system for the name of the shell that it runs in.
    """
    folder = tmp_path_factory.mktemp("bin")
    command = folder / "vaecodec"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m vaecodec "$@"\n')
    command.chmod(0o755)
    for shell in SHELLS:
        (folder / f"posing-{shell}").mkdir()
        (folder / f"posing-{shell}" / shell).symlink_to(BASH or "/bin/sh")
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def ask(path: str, shell: str, *option: str, home: Path) -> str:
    """Give a shell a command, and return what it prints."""
    folder = Path(path.partition(os.pathsep)[0])
    done = subprocess.run(
        [folder / f"posing-{shell}" / shell, "-c", f"vaecodec {' '.join(option)}; exit $?"],
        capture_output=True,
        env=environment(PATH=path, HOME=str(home)),
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


ASK = """
import io, json, os, sys
from vaecodec.cli import main
answers = []
for asked in json.load(sys.stdin):
    os.environ.update(asked)
    sys.stdout = io.StringIO()
    try:
        main()
    except SystemExit as ended:
        answers.append((ended.code, sys.stdout.getvalue().split()))
loaded = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps([answers, loaded]), file=sys.__stdout__)
"""


def complete(*asked: tuple[str, str], **env: str) -> tuple[list[tuple[int, list[str]]], set[str]]:
    """Ask as the scripts of shells do, one question after the other in one process.

    Args:
        asked: a shell, and what has been typed.
        env: more of what the script sets.

    Returns:
        The exit code and the words of each answer, and the packages that were imported.
    """
    questions = [
        {
            "_VAECODEC_COMPLETE": f"complete_{shell}",
            "COMP_WORDS": typed.replace(" ", "\n"),
            "COMP_CWORD": str(typed.count(" ")),
            "_TYPER_COMPLETE_ARGS": typed,
        }
        for shell, typed in asked
    ]
    data = json.dumps(questions).encode()
    done = run_python("-c", ASK, data=data, env=environment(**env))
    assert (done.returncode, done.stderr) == (0, b"")
    answers, loaded = json.loads(done.stdout)
    return [(code, words) for code, words in answers], set(loaded)


@has_bash
@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_its_script(path: str, shell: str, tmp_path: Path):
    script = ask(path, shell, "--show-completion", home=tmp_path)
    assert f"_VAECODEC_COMPLETE=complete_{shell}" in script
    assert not list(tmp_path.iterdir())
    script_of = {
        "bash": ".bash_completions/vaecodec.sh",
        "zsh": ".zfunc/_vaecodec",
        "fish": ".config/fish/completions/vaecodec.fish",
    }
    assert script_of[shell] in ask(path, shell, "--install-completion", home=tmp_path)
    assert (tmp_path / script_of[shell]).read_text().strip() == script.strip()


def test_bash_is_answered():
    answers, loaded = complete(*(("bash", typed) for typed in COMPLETED))
    assert dict(zip(COMPLETED, answers, strict=True)) == {
        typed: (0, words) for typed, words in COMPLETED.items()
    }
    # A shell waits for the answer at each press of Tab.
    assert not loaded & {"numpy", "onnxruntime", "constriction", "torch", "rich"}


def test_zsh_and_fish_are_answered():
    models, files = "vaecodec models b", "vaecodec info ph"
    answers, _ = complete(("zsh", models), ("zsh", files))
    assert [" ".join(words) for _, words in answers] == ["_arguments '*: :((\"base\"))'", "_files"]
    questions = (("fish", models), ("fish", files))
    answers, _ = complete(*questions, _TYPER_COMPLETE_FISH_ACTION="get-args")
    assert answers == [(0, ["base"]), (0, [])]
    # Its script offers names of files where this fails.
    answers, _ = complete(*questions, _TYPER_COMPLETE_FISH_ACTION="is-args")
    assert answers == [(0, []), (1, [])]


# In the shells themselves


@has_bash
def test_in_bash(path: str, tmp_path: Path):
    ask(path, "bash", "--install-completion", home=tmp_path)
    (tmp_path / "photo.vaec").touch()
    script = """
        source ~/.bashrc
        complete -p vaecodec
        COMP_WORDS=(vaecodec decompress --device c) COMP_CWORD=3
        _vaecodec_completion vaecodec
        echo "${COMPREPLY[@]}"
        COMP_WORDS=(vaecodec decompress ph) COMP_CWORD=2
        _vaecodec_completion vaecodec
        echo "${#COMPREPLY[@]}"
    """
    done = subprocess.run(
        [str(BASH), "-c", script],
        capture_output=True,
        cwd=tmp_path,
        env=environment(PATH=path, HOME=str(tmp_path)),
        timeout=60,
    )
    assert done.stderr == b""
    assert done.stdout.decode().splitlines() == [
        # `default` is what completes names of files where we have no answer.
        "complete -o default -F _vaecodec_completion vaecodec",
        "cpu cuda",
        "0",
    ]


@has_bash
@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_in_zsh(path: str, tmp_path: Path):
    script = ask(path, "zsh", "--show-completion", home=tmp_path)
    around = """
        compdef() { print -r -- "for $2" }
        _arguments() { print -r -- "$@" }
        _files() { print files }
        %s
        words=(vaecodec decompress --device c) CURRENT=4
        _vaecodec_completion
        words=(vaecodec decompress ph) CURRENT=3
        _vaecodec_completion
    """
    done = subprocess.run(
        ["zsh", "-f", "-c", around % script],
        capture_output=True,
        env=environment(PATH=path),
        timeout=60,
    )
    assert done.stderr == b""
    answers = done.stdout.decode().splitlines()
    assert answers == ["for vaecodec", '*: :(("cpu" "cuda"))', "files"]


@has_bash
@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_in_fish(path: str, tmp_path: Path):
    ask(path, "fish", "--install-completion", home=tmp_path)
    (tmp_path / "photo.vaec").touch()
    script = """
        source ~/.config/fish/completions/vaecodec.fish
        complete -C 'vaecodec decompress --device c'
        complete -C 'vaecodec decompress ph'
    """
    done = subprocess.run(
        ["fish", "-c", script],
        capture_output=True,
        cwd=tmp_path,
        env=environment(PATH=path, HOME=str(tmp_path)),
        timeout=60,
    )
    assert done.stdout.decode().split() == ["cpu", "cuda", "photo.vaec"]
