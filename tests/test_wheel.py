"""What `pip install .` brings: a wheel, straight from the tree or by way of a source distribution, used elsewhere."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("xapp", "replay", "training", "schemas")
FOR_THE_PLATFORM = {"distila/schemas/a1_policy_type.json", "distila/schemas/xapp_descriptor.schema.json"}
"""Made by `make schemas` for whoever onboards the xApp; no code reads them."""
DISTRIBUTE = """
import sys
from setuptools import build_meta
folder = sys.argv[1]
print(build_meta.build_sdist(folder), build_meta.build_wheel(folder))
"""


def run(*command, cwd):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Python of a fresh environment that sees the libraries which are installed here, but not distila."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "setuptools>=77", "wheel", cwd=folder)
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    here = [path for path in sys.path if path.endswith("site-packages")]
    # A path in a .pth file is searched, but .pth files in there are not read: the editable distila stays hidden.
    (Path(site) / "here.pth").write_text("\n".join(here))
    return python


@pytest.fixture(scope="module")
def distributions(tmp_path_factory, python):
    """Source distribution and wheel, built from a copy of the tree with its symbolic links."""
    tree, dist = tmp_path_factory.mktemp("tree") / "distila", tmp_path_factory.mktemp("dist")
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "out", "tests", "docs")
    shutil.copytree(ROOT, tree, symlinks=True, ignore=unwanted)
    source, wheel = run(python, "-c", DISTRIBUTE, dist, cwd=tree).split()[-2:]
    return dist / source, dist / wheel


def files_of(wheel):
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(distributions):
    _, wheel = distributions
    paths = [path for folder in ("distila", *FOLDERS) for path in (ROOT / folder).rglob("*") if path.is_file()]
    kept = {path.relative_to(ROOT) for path in paths if path.suffix != ".pyc"}
    names = {str(path) if path.parts[0] == "distila" else f"distila/{path}" for path in kept}
    assert files_of(wheel) == names - FOR_THE_PLATFORM


def test_a_wheel_from_the_source_distribution_is_the_same(distributions, python, tmp_path):
    source, wheel = distributions
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path, filter="data")
    [tree] = tmp_path.iterdir()
    _, again = run(python, "-c", DISTRIBUTE, tmp_path, cwd=tree).split()[-2:]
    assert files_of(tmp_path / again) == files_of(wheel)


def test_it_works_in_a_folder_that_has_a_training_package_of_its_own(distributions, python, tmp_path):
    _, wheel = distributions
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel, cwd=tmp_path)
    for name in FOLDERS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise AssertionError('the user\\'s own, not ours')\n")
    code = """
import distila, sys
from distila.replay.trace import bundled_trace
assert distila.DecisionLoop
assert not {"training", "replay", "torch"} & set(sys.modules)
print(distila.__file__, bundled_trace())
"""
    where, trace = run(python, "-c", code, cwd=tmp_path).split()
    assert not Path(where).is_relative_to(ROOT)
    distila = python.with_name("distila")
    run(distila, "policy", "check", "student", cwd=tmp_path)
    out = run(distila, "replay", "--trace", trace, "--slots", 200, "--out", "out", cwd=tmp_path)
    assert "report.html" in out
    assert "0.1.0" in run(distila, "--version", cwd=tmp_path)
    pytest.importorskip("torch")
    assert "--scenarios" in run(distila, "benchmark", "--help", cwd=tmp_path)
