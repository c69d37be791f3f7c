"""Writes to a file what arrives on TCP connections of the loopback: the file end of HAProxy's ring buffer.

Use: python -m bench.load.log_reader PORT FILE. Ends on SIGTERM.
"""

import os
import selectors
import signal
import socket
import sys

CHUNK_BYTES = 1 << 20


def main() -> None:
    """Copies until a signal comes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port, path = int(sys.argv[1]), sys.argv[2]
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    buffer = memoryview(bytearray(CHUNK_BYTES))
    with selectors.DefaultSelector() as selector, socket.create_server(("127.0.0.1", port)) as listener:
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                found = key.fileobj
                assert isinstance(found, socket.socket)
                if found is listener:
                    selector.register(listener.accept()[0], selectors.EVENT_READ)
                elif size := found.recv_into(buffer):
                    os.write(file, buffer[:size])
                else:
                    selector.unregister(found)
                    found.close()


if __name__ == "__main__":
    main()
