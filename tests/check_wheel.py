"""Check what a built wheel holds: the five packages, typed, with their licence, and nothing else.

python tests/check_wheel.py WHEEL
"""

import sys
import zipfile

PACKAGES = {"seggd_cli", "seggd_rt", "seggd_engines", "seggd_export", "seggd_training"}


def main(wheel: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(archive.read(n).decode() for n in names if n.endswith(".dist-info/METADATA"))
    tops = {name.partition("/")[0] for name in names}
    meta = {top for top in tops if top.endswith(".dist-info")}
    problems = [
        *(f"unexpected {top}" for top in tops - PACKAGES - meta),
        *(f"missing {package}/py.typed" for package in PACKAGES if f"{package}/py.typed" not in names),
        *(f"unexpected {name}" for name in names if name.endswith((".pt", ".onnx", ".so", ".npz", "_test.py"))),
        *([] if any(n.endswith("licenses/LICENSE") for n in names) else ["missing LICENSE"]),
    ]
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    heavy = ("torch", "diffusers", "onnx", "monai")
    problems += [f"the core requires {line}" for line in required if line.split()[1].startswith(heavy)]
    if problems:
        sys.exit(f"{wheel}: " + "; ".join(problems))
    print(f"{wheel}: {len(names)} files, as they should be")


if __name__ == "__main__":
    main(sys.argv[1])
