"""``python -m d2cli``."""

from d2cli.cli import main

if __name__ == "__main__":
    main()
