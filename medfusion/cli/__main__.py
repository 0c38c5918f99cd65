"""Lets ``python -m medfusion.cli`` work as ``medfusion`` does."""

from medfusion.cli import main

if __name__ == "__main__":
    main()
