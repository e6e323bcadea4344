"""Start the script from a checkout, installed or not."""

from __future__ import annotations

import sys

from benchmarks.gpu.machine.checkout import missing_packages, use_checkout

if __name__ == "__main__":
    use_checkout()
    if sys.argv[1:2] == ["--smoke"]:  # which tells itself what is missing
        from benchmarks.gpu.checks.smoke import main as smoke

        sys.exit(smoke(only=sys.argv[2:]))
    missing = missing_packages()
    if missing:
        print(f"error: benchmarks.gpu needs packages that are not installed: {', '.join(missing)}", file=sys.stderr)
        sys.exit(2)
    from benchmarks.gpu.command import main

    sys.exit(main())
