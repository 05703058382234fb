"""A short run of every fuzz target; `make chaos` gives each a minute."""

import importlib.util
import os
import subprocess
import sys

import pytest

from tests.fuzz.targets import SEEDS, TARGETS

SECONDS = 60 if os.environ.get("COLLECTOR_CHAOS") == "1" else 2


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name):
    """What fuzzing begins with is fine, and so is nothing at all."""
    for seed in (*SEEDS[name], b""):
        TARGETS[name](seed)


@pytest.mark.skipif(not importlib.util.find_spec("atheris"), reason="atheris is not installed")
@pytest.mark.parametrize("name", TARGETS)
def test_fuzzed(name, tmp_path):
    """Guided by what it reaches in the program, it finds nothing but the documented errors."""
    words = [
        "-m",
        "tests.fuzz",
        name,
        f"-max_total_time={SECONDS}",
        f"-artifact_prefix={tmp_path}/",
    ]
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, timeout=SECONDS + 90
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "runs in" in done.stderr
