"""The `charrnn` command; also `python -m charrnn`."""

from .cli import main

if __name__ == "__main__":
    main()
