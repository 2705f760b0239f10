"""``python -m crispmask``."""

from __future__ import annotations

from crispmask.cli import main

if __name__ == "__main__":
    main()
