"""`python -m tests.fuzz TARGET` fuzzes until it is stopped; libFuzzer's options may follow."""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["collector"]):
    from tests.fuzz.targets import SEEDS, TARGETS

if __name__ == "__main__":
    name = sys.argv[1]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(SEEDS[name]):
            (Path(corpus) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], *sys.argv[2:], corpus], TARGETS[name])
        atheris.Fuzz()
