"""Run a restill command and save what it really printed as a picture.

python docs/picture.py docs/retrain.svg retrain
"""

import re
import sys
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from flows.cli import main as cli
from flows.cli import screen


def main() -> None:
    """Record the command named on the command line."""
    target, *arguments = sys.argv[1:]
    screen.out = Console(record=True, width=118, highlight=False, color_system="truecolor", force_terminal=False)
    sys.argv = ["restill", *arguments]
    try:
        cli.main()
    finally:
        # Fonts of the reader's own machine: a picture must not fetch anything.
        frame = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
        svg = screen.out.export_svg(title=f"$ restill {' '.join(arguments)}", code_format=frame)
        Path(target).write_text(svg, "utf-8")


if __name__ == "__main__":
    main()
