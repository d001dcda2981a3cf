"""How every command ends: a sentence for a person, a status for a script."""

import errno
import sys
from collections.abc import Callable, Sequence

__all__ = ["Main", "run_command"]

Main = Callable[[Sequence[str]], int]

MENDABLE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
}
"""What the system says where a person can help, and nothing before has made a sentence of it."""


def run_command(main: Main, arguments: Sequence[str] | None = None) -> int:
    """Run a command; what a user can mend is printed as a sentence, without a traceback.

    Returns:
        The command's own status; 2 for input that cannot be used; 5 for a disk that failed, and may not do so
        again; 130 for ctrl-C.
    """
    from vdit.parallel.launch import LOST
    from vdit.types import InputError
    from vdit.weights.files import DiskError

    try:
        return main(sys.argv[1:] if arguments is None else arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except DiskError as error:
        print(f"error: {error}", file=sys.stderr)
        return LOST
    except OSError as error:
        if error.errno not in MENDABLE:
            raise
        print(f"error: {error.strerror}: {error.filename or 'while writing'}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
