"""The command `fewshot`, also as `python -m ray_jobs`. Ctrl-C works while everything else is still imported."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the console command."""
    try:
        from ray_jobs.console.interrupts import INTERRUPTED, end_interrupted, end_work, install_handlers

        install_handlers(os.environ)
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        os._exit(130)
    try:
        from ray_jobs.commands.app import main as run

        run()
    except KeyboardInterrupt:
        end_interrupted()
    except SystemExit as ending:
        if ending.code == INTERRUPTED:
            end_interrupted()
        raise
    finally:
        end_work()


if __name__ == "__main__":
    main()
