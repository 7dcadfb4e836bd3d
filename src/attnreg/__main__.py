"""`python -m attnreg`: the command line, where the script `attnreg` is not on the path."""

from attnreg.cli import main

if __name__ == "__main__":
    main()
