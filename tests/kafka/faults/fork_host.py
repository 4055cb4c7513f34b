"""A warm process whose forks are daemons: each is a process of its own, without the seconds of a cold start.

One JSON object per line: {"do": "start", "args", "cwd", "env", "log"} answers {"pid"}; {"do": "wait", "pid"}
answers {"code"}, null while it runs. Forks happen before anything of Kafka is loaded in the host, so no
thread is lost in them. Forks that are left end with the host.
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import slowly

from streamrec import failpoints
from streamrec.cli import main
from streamrec.settings import load_settings
from streamrec.verbs.consuming import warm_up

CHILDREN: dict[int, int | None] = {}


def serve() -> None:
    """Answer until stdin ends."""
    warm_up(load_settings(None, json.loads(sys.stdin.readline())["settings"], {}))
    print(json.dumps({"ready": True}), flush=True)
    try:
        for line in sys.stdin:
            order = json.loads(line)
            answer = {"start": start, "wait": wait}[order["do"]](order)
            print(json.dumps(answer), flush=True)
    finally:
        for child, code in CHILDREN.items():
            if code is None:
                os.kill(child, signal.SIGKILL)


def start(order: dict[str, Any]) -> dict[str, Any]:
    """Fork a daemon."""
    child = os.fork()
    if not child:
        run(order)
    CHILDREN[child] = None
    return {"pid": child}


def wait(order: dict[str, Any]) -> dict[str, Any]:
    """Exit code of a fork; -9 if it was killed."""
    pid = order["pid"]
    if CHILDREN[pid] is None:
        ended, status = os.waitpid(pid, os.WNOHANG)
        CHILDREN[pid] = os.waitstatus_to_exitcode(status) if ended else None
    return {"code": CHILDREN[pid]}


def run(order: dict[str, Any]) -> None:
    """Be the command; never returns."""
    code = 1
    try:
        os.chdir(order["cwd"])
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(order["env"])
        failpoints.arm(order["env"].get("STREAMREC_FAILPOINT", ""))
        slowly.arm(order["env"].get(slowly.NAME, ""))
        sys.argv = ["streamrec", *order["args"]]
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
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    serve()
