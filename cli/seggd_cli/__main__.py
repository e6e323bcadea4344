"""`python -m seggd_cli`: the command line where no script is installed."""

from seggd_cli import run_process

run_process()
