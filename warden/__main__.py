"""`python -m warden`: the same as the program `warden`."""

from warden.cli import main

if __name__ == "__main__":
    main()
