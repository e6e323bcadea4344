"""Label maps and images in files: one reader and one writer contract, each format one module.

`contract.py` has the contracts, `formats.py` the table of formats by suffix: a new format is one module and one line
there.
"""
