"""On PYTHONPATH, kills processes of a run for real at a chosen rename: for tests that ask what a kill leaves behind.

Or holds one there, so that a test can do its part while the run is at work, however fast or slow either of them is.

`CORPUSMILL_TEST_KILL` is JSON: `match`, a regular expression that the new name's path is searched for; `nth`, at
which such rename in this process; `moment`: `before` or `after` the rename, `torn` (half of the file arrives under
its new name), `half` (half of it stays under the old one), `start` (as the nth fork of the nursery starts), or
`hold` (nobody is killed: the process waits until there is a file `FLAG.go`); `victim`: `run`, all processes of the
session at once, or `worker`, this process if it is a Beam worker; `flag`, a file that is made at the kill and keeps
it to once.
"""

import json
import os
import re
import signal
import sys
import time

_order = os.environ.get("CORPUSMILL_TEST_KILL")


def _arm(order):
    replace = os.replace
    seen = [0]

    def kill():
        if order["victim"] == "worker":
            os.kill(os.getpid(), signal.SIGKILL)
        leader = os.getsid(0)
        ours = os.getpgid(0)
        if leader != ours:
            os.killpg(leader, signal.SIGKILL)  # the process that the test started, before it can clean up
        os.killpg(ours, signal.SIGKILL)

    def killing(source, target, **settings):
        if order["victim"] == "worker" and "sdk_worker" not in " ".join(sys.orig_argv):
            return replace(source, target, **settings)
        if not re.search(order["match"], str(target)) or os.path.exists(order["flag"]):
            return replace(source, target, **settings)
        seen[0] += 1
        if seen[0] < order["nth"]:
            return replace(source, target, **settings)
        with open(order["flag"], "w") as file:
            file.write(str(target))
        if order["moment"] == "hold":
            while not os.path.exists(order["flag"] + ".go"):
                time.sleep(0.02)
            return replace(source, target, **settings)
        if order["moment"] in ("torn", "half"):
            with open(source, "r+b") as file:
                file.truncate(os.path.getsize(source) // 2)
        if order["moment"] in ("torn", "after"):
            replace(source, target, **settings)
        kill()

    if order["moment"] == "start":

        def count():
            seen[0] += 1

        def kill_once():
            if seen[0] == order["nth"] and not os.path.exists(order["flag"]):
                open(order["flag"], "w").close()
                os.kill(os.getpid(), signal.SIGKILL)

        if "pipeline.nursery" in sys.orig_argv:
            os.register_at_fork(before=count, after_in_child=kill_once)
        return
    os.replace = killing


if _order:
    _arm(json.loads(_order))
