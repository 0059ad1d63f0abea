"""The container image, as far as it can be told without docker: the Dockerfile's rules, and its pip steps in a fresh
environment."""

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from helm import check

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PINS = {
    name.lower().replace("_", "-"): version
    for name, version in re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "requirements" / "image.txt").read_text(), re.M)
}


def requirements(*extras):
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    texts = [config["options"]["install_requires"], *(config["options.extras_require"][extra] for extra in extras)]
    lines = [line for text in texts for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [Requirement(line) for line in lines]


def instructions(name):
    return re.findall(rf"^{name} (.*)$", DOCKERFILE, re.M)


def test_hadolint_has_nothing_to_say():
    assert check.lint_dockerfile() == []


def test_hadolint_is_really_asked(tmp_path):
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python\nRUN sudo pip install torch\n")
    assert any("DL3006" in line for line in check.lint_dockerfile(bad))


@pytest.mark.parametrize("requirement", requirements("ric", "edgeric"), ids=lambda requirement: requirement.name)
def test_every_package_of_the_image_is_pinned_within_the_range_that_is_supported(requirement):
    assert requirement.specifier.contains(PINS[requirement.name.lower()])


def test_the_image_has_no_torch_and_nothing_of_the_workshop_or_the_replay():
    assert not {"torch", "ray", "scipy", "matplotlib", "pyarrow", "plotly", "jinja2", "pytest"} & set(PINS)
    assert "COPY replay" not in DOCKERFILE
    assert "COPY training" not in DOCKERFILE


def test_every_stage_starts_from_one_base_named_by_digest():
    assert re.search(r"^ARG PYTHON_IMAGE=\S+@sha256:[0-9a-f]{64}$", DOCKERFILE, re.M)
    assert {image.split()[0] for image in instructions("FROM")} == {"${PYTHON_IMAGE}"}


def test_it_runs_as_a_user_that_the_chart_names_too():
    user = instructions("USER")[-1].split(":")[0]
    assert f"runAsUser: {user}" in (ROOT / "helm" / "distila" / "values.yaml").read_text()
    assert int(user) >= 1000


def test_the_package_of_librmr_is_checked_before_it_is_unpacked():
    got, unpacked = DOCKERFILE.index("sha256sum"), DOCKERFILE.index("dpkg-deb --extract")
    assert got < DOCKERFILE.index("exit 1") < unpacked


def test_the_health_check_asks_what_the_liveness_probe_asks():
    assert "/ric/v1/health/alive" in DOCKERFILE.split("HEALTHCHECK")[1]


@pytest.mark.slow
def test_the_pip_steps_of_the_dockerfile_give_an_xapp_that_runs(tmp_path):
    source, venv = tmp_path / "src", tmp_path / "venv"
    source.mkdir()
    for line in instructions("COPY"):
        *names, target = line.split()
        for name in names:
            if line.startswith("--from") or target.startswith("/"):
                continue
            path = ROOT / name
            # COPY keeps symbolic links: of those in distila/, two lead nowhere in the image.
            shutil.copytree(path, source / name, symlinks=True) if path.is_dir() else shutil.copy(path, source)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    step = next(part for part in DOCKERFILE.split("\nRUN ") if part.startswith("pip install")).split("\n\n")[0]
    script = step.replace("/opt/distila/venv", str(venv)).replace("\\\n", " ")
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=source,
        env={**os.environ, "PATH": f"{venv}/bin:/usr/bin:/bin", "PIP_NO_COMPILE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]

    def distila(*arguments):
        return subprocess.run(
            [str(venv / "bin" / "distila"), *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    assert distila("policy", "check", "olla").returncode == 0
    [package] = venv.glob("lib/*/site-packages/distila")
    assert {path.name for path in package.iterdir() if path.is_dir()} - {"__pycache__"} == {"schemas", "xapp"}
    size = sum(path.stat().st_size for path in venv.rglob("*") if path.is_file() and not path.is_symlink())
    assert size < 300e6, "an image that pulls slowly is restarted slowly"
