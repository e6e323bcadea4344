"""`python -m seggd_rt.cli`: the command line where no script is installed."""

from seggd_rt.cli import run_process

run_process()
