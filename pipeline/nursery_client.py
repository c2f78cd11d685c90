"""What Beam starts as a worker process: asks the nursery for one, and ends as that one ends.

Run as a script by a bare interpreter (`-I -S`), so that it costs 10 ms and 8 MB: standard library only. The worker
lives as long as this process.
"""

import json
import os
import socket
import struct
import sys


def main(address: str) -> int:
    """Waits for the worker; returns its exit status, 128 + n for one that signal n ended."""
    mine = {"environment": dict(os.environ), "folder": os.getcwd()}
    ask = json.dumps({"kind": "worker", "descriptors": 3} | mine).encode()
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(f"\0{address}")
        socket.send_fds(line, [struct.pack("<Q", len(ask))], [os.open(os.devnull, os.O_RDONLY), 1, 2])
        line.sendall(ask)
        told = b""
        while len(told) < 8:
            data = line.recv(8 - len(told))
            if not data:
                return 1  # the nursery is gone
            told += data
    status: int = struct.unpack("<ii", told)[1]
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
