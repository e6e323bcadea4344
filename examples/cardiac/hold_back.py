"""Hold 14 of ACDC's 70 training patients back for choices, and keep the validation patients for reports.

python examples/cardiac/hold_back.py acdc_roi128.npz acdc_choices.npz

In the written file, split 0 (train) has 56 patients, split 1 (val) the 14 that are held back, and split 2 (test) the 10
validation patients. The file carries on the licence of the data: see NOTICE.txt.
"""

import sys

import numpy as np

HELD_BACK = 14
SEED = 0


def main(source: str, target: str) -> None:
    """Read `source`, write `target`, and print the patients of split 1."""
    with np.load(source, allow_pickle=False) as arrays:
        content = {name: arrays[name] for name in arrays}
    split, patient = content["split"], content["patient"]
    chosen = np.random.default_rng(SEED).choice(np.unique(patient[split == 0]), HELD_BACK, replace=False)
    content["split"] = np.where(split == 1, 2, np.isin(patient, chosen)).astype(split.dtype)
    np.savez_compressed(target, **content)
    print("held back:", *sorted(chosen.tolist()))


if __name__ == "__main__":
    main(*sys.argv[1:])
