"""``python -m trickle_trio.cli``."""

from trickle_trio.cli.main import main

if __name__ == "__main__":
    main()
