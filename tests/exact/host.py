"""A warm process that runs the command line in forks of itself.

Every run is a process of its own, which a failpoint kills with SIGKILL like any other; only the seconds in
which an interpreter starts and kernels are loaded are spent once. It reads one JSON object per line,
{"args", "cwd", "failpoint", "out"}, and answers with the exit code; `warm` runs in the host itself.
"""

import json
import os
import sys
import traceback
from pathlib import Path

from streamrec import failpoints
from streamrec.cli import app, main


def serve() -> None:
    """Answer until stdin ends."""
    for line in sys.stdin:
        order = json.loads(line)
        if order.get("warm"):
            code = warm(order)
        else:
            child = os.fork()
            if not child:
                run(order)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"code": code, "torch": "torch" in sys.modules}), flush=True)


def warm(order: dict[str, str]) -> int:
    """Run in this process, so that its forks have everything loaded."""
    os.chdir(order["cwd"])
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        app(order["args"], standalone_mode=False)
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    return 0


def run(order: dict[str, str]) -> None:
    """Be the command; never returns."""
    code = 1
    try:
        os.chdir(order["cwd"])
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            target = Path(order["out"]) / name
            os.dup2(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = ["streamrec", *order["args"]]
        failpoints.arm(order["failpoint"])
        main()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:  # a bug: show it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
