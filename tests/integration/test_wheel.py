"""The wheel beside the Jupyter widget called ``sidecar``, in an environment of its own."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_S = 300
BOTH = """
import sidecar, trimtab, trimtab_training
from trimtab import Adapter, QueryHook
assert sidecar.Sidecar.__module__ == "sidecar.sidecar", sidecar.__file__
print(trimtab.__file__, trimtab_training.__file__)
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command without what this test run puts on Python's path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of a copy: a build leaves folders beside the source."""
    source, out = tmp_path_factory.mktemp("source") / "trimtab", tmp_path_factory.mktemp("wheel")
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in ("sidecar", "training"):
        shutil.copytree(ROOT / folder, source / folder, ignore=unwanted)
    for file in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy2(ROOT / file, source / file)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    run(*pip, "--no-index", "--wheel-dir", out, source, cwd=out)
    return next(out.glob("trimtab-*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel; what it needs, and the widget, come from this one's."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    packages = Path(run(folder / "bin" / "python", "-c", WHERE, cwd=folder).strip())
    (packages / "lent.pth").write_text(sysconfig.get_path("purelib"))
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install")
    run(*pip, "--quiet", "--no-deps", "--no-index", "--ignore-installed", wheel, cwd=folder)
    return folder


WHERE = "import sysconfig; print(sysconfig.get_path('purelib'))"


def test_the_wheel_claims_two_names_of_its_own(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        names = {name.split("/")[0] for name in files.namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {
        "trimtab",
        "trimtab_training",
    }


def test_every_file_of_the_source_that_is_read_at_run_time_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        packed = set(files.namelist())
    wanted = {
        path.relative_to(ROOT / folder).as_posix()
        for folder in ("sidecar", "training")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and ".egg-info" not in str(path)
    }
    assert wanted <= packed


def test_library_and_widget_live_side_by_side(environment: Path) -> None:
    for line in run(environment / "bin" / "python", "-c", BOTH, cwd=environment).split():
        assert Path(line).is_relative_to(environment)


@pytest.mark.parametrize("command", [("bin/trimtab",), ("bin/python", "-m", "trimtab")])
def test_the_command_runs_beside_the_widget(environment: Path, command: tuple[str, ...]) -> None:
    told = run(environment / command[0], *command[1:], "--help", cwd=environment)
    assert "Usage: trimtab" in told
    assert "fit " in told
