"""The command `fewshot`, also as `python -m ray_jobs`. Ctrl-C works while everything else is still imported."""

from __future__ import annotations

import os
import sys

from ray_jobs.console.interrupts import INTERRUPTED, acknowledge, install_handlers


def main() -> None:
    """Run the console command."""
    install_handlers(os.environ)
    try:
        from ray_jobs.commands.app import main as run

        run()
    except KeyboardInterrupt:  # Before a command has begun, or when it has ended.
        if not acknowledge():
            sys.stderr.write("error: interrupted\n")
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
