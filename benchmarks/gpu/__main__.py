"""Start the script from a checkout, installed or not."""

from __future__ import annotations

import sys

from benchmarks.gpu.checkout import missing_packages, use_checkout

if __name__ == "__main__":
    use_checkout()
    missing = missing_packages()
    if missing:
        print(f"error: benchmarks.gpu needs packages that are not installed: {', '.join(missing)}", file=sys.stderr)
        sys.exit(2)
    from benchmarks.gpu.command import main

    sys.exit(main())
