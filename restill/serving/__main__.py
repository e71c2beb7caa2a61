"""`python -m restill.serving`: the HTTP service where only the extra `serving` is installed.

It is configured by RESTILL_… variables or restill.toml, as `restill serve` is.
"""

import argparse
import sys

from restill.errors import RestillError
from restill.serving.running import serve
from restill.settings import load_settings


def main() -> None:
    """Serve, and exit with 0 when stopped, 1 if refused or failed, 2 for configuration, 3 if storage is unreachable."""
    argparse.ArgumentParser(prog="python -m restill.serving", description=__doc__).parse_args()
    try:
        serve(load_settings())
    except RestillError as error:
        sys.stderr.write(f"{error}\n" + (f"{error.hint}\n" if error.hint else ""))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
