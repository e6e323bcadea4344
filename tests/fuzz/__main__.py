"""`python -m tests.fuzz NAME --seconds 60`: one target, or all, under atheris; what breaks it lies in the corpus.

pip install atheris
python -m tests.fuzz png --seconds 60
python -m tests.fuzz png --again fuzz-corpus/png/crash-...      # one input alone
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from pathlib import Path

_TIMEOUT_S = 30
_RSS_MB = 4096


def main() -> int:
    """Run what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("name", help="a target of tests/fuzz/targets.py, or all")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, default=Path("fuzz-corpus"), help="a folder for each target in here")
    parser.add_argument("--again", type=Path, help="read this one input, without atheris")
    given = parser.parse_args()
    if given.name == "all":
        from tests.fuzz.targets import TARGETS

        # A process each: libFuzzer ends its own.
        command = [sys.executable, "-m", "tests.fuzz", "--seconds", str(given.seconds), "--corpus", str(given.corpus)]
        return max(subprocess.run([*command, name]).returncode for name in TARGETS)
    if given.again is not None:
        from tests.fuzz.targets import TARGETS

        print("read" if TARGETS[given.name].run(given.again.read_bytes()) else "refused")
        return 0
    import atheris

    with atheris.instrument_imports(include=["seggd_rt"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[given.name]
    folder = given.corpus / given.name
    folder.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    options = [f"-max_total_time={given.seconds}", f"-timeout={_TIMEOUT_S}", f"-rss_limit_mb={_RSS_MB}"]
    atheris.Setup([sys.argv[0], str(folder), f"-artifact_prefix={folder}/", *options], target.run)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
