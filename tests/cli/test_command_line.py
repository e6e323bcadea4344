import pytest

from seggd_rt.cli.command_line import portable_command


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "--data", "/home/someone/acdc.npz", "-o", "runs/a"], "seggd-rt train --data acdc.npz -o runs/a"),
        (["train", "--data=/home/someone/acdc.npz"], "seggd-rt train --data=acdc.npz"),
        (["train", "--licence", "CC BY 4.0", "--resume"], "seggd-rt train --licence 'CC BY 4.0' --resume"),
    ],
)
def test_no_folder_of_this_machine_travels(arguments: list[str], expected: str) -> None:
    assert portable_command(arguments) == expected
