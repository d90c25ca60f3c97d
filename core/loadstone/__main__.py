"""`python -m loadstone`: the command line, in the interpreter that is named."""

from loadstone.cli import main

main()
