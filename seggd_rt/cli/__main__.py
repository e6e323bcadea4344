"""`python -m seggd_rt.cli`: the command line where no script is installed."""

from seggd_rt.cli import main

main()
