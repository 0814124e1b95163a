"""A mistake of the user's, said in one line. Imports nothing that takes time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn


class UserError(Exception):
    """Something the user can mend. Its text is one line: what is wrong, where, what to do."""


def fail(message: str) -> NoReturn:
    """Prints the one line and ends with exit code 2."""
    from warmscaler.service.observability.logs import escaped

    line = " ".join(message.split())
    # What stands in a file or an option may hold what a terminal takes for a command.
    print(f"scaler: {escaped(line, len(line))}", file=sys.stderr)
    sys.exit(2)
