import subprocess
import sys
from pathlib import Path

import pytest

import seggd_rt
from seggd_rt import errors


def test_public_names_resolve() -> None:
    assert sorted(seggd_rt.__all__) == [
        "Bundle",
        "EmptyMaskWarning",
        "EngineInfo",
        "Generator",
        "Manifest",
        "Preview",
        "SeggdError",
        "Step",
        "__version__",
        "load",
    ]
    for name in seggd_rt.__all__:
        assert getattr(seggd_rt, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = seggd_rt.nothing


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys, seggd_rt; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "onnxruntime", "openvino", "torch", "PIL", "typer", "rich"} & set(loaded)


def test_the_error_tree_is_drawn_whole() -> None:
    drawn = errors.__doc__ or ""
    tree = [
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.SeggdError)
    ]
    assert len(tree) > 10
    for error in tree:
        assert error.__name__ in drawn


def test_the_runtime_imports_no_other_package_of_ours() -> None:
    rooms = [path.parent.name for path in Path(seggd_rt.__path__[0]).glob("*/__init__.py")]
    code = f"import sys, {', '.join(f'seggd_rt.{room}' for room in rooms)}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name.partition(".")[0] for name in loaded if name.startswith("seggd")} == {"seggd_rt"}
