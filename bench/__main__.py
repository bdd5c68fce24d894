"""`python -m bench`: compare the gateway with other proxies and print one table."""

from __future__ import annotations

import sys

from bench.run import main

if __name__ == "__main__":
    sys.exit(main())
