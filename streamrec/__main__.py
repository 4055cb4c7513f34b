"""`python -m streamrec` is the command line."""

from streamrec.cli import main

if __name__ == "__main__":
    main()
