"""``python -m momkd.cli``."""

from momkd.cli import main

main()
