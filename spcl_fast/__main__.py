"""`python -m spcl_fast` is `spcl-fast`."""

from spcl_fast.cli import main

if __name__ == "__main__":
    main()
