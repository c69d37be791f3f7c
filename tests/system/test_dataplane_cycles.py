"""A thousand data planes one after the other in one process, each with a little to do: nothing stays behind."""

import subprocess
import sys

from tests.system.harness import DEADLINE_S, ROOT

CYCLES = """
import gc, os, socket, sys, threading
from gorouter_py import _fastpath

def origin():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    def serve():
        while True:
            conn, _ = listener.accept()
            with conn:
                while data := conn.recv(65536):
                    conn.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]

def cycle(number, port):
    plane = _fastpath.DataPlane({"workers": 1 + number % 2})
    handle = plane.add("a.test", "127.0.0.1", port, instance_id=str(number))
    listeners = []
    for kind in ("http", "health"):
        one = socket.socket()
        one.bind(("127.0.0.1", 0))
        one.listen(16)
        one.setblocking(False)
        listeners.append((kind, one.getsockname()[1], one.detach()))
    plane.start([(kind, [fd]) for kind, _, fd in listeners])
    client = socket.create_connection(("127.0.0.1", listeners[0][1]), 20)
    for turn in range(2):
        client.sendall(b"GET / HTTP/1.1\\r\\nHost: a.test\\r\\n\\r\\n")
        answer = b""
        while not answer.endswith(b"\\r\\n\\r\\nok"):
            data = client.recv(65536)
            assert data, answer
            answer += data
    if number % 3 == 0:  # stopped with a request's head half there
        client.sendall(b"GET / HTTP/1.1\\r\\nHo")
    elif number % 3 == 1:
        client.close()
    if number % 5 == 0:
        plane.close_listeners()
    if number % 4:
        plane.remove(handle)
    assert plane.stop(), "a thread does not end"
    assert plane.counters()["requests"] == 2
    client.close()

def left():
    status = open("/proc/self/status").read()
    return (len(os.listdir("/proc/self/fd")), threading.active_count(),
            int(status.split("Threads:")[1].split()[0]), int(status.split("VmRSS:")[1].split()[0]))

port = origin()
count = int(sys.argv[1])
for number in range(count // 10):
    cycle(number, port)
gc.collect()
before = left()
for number in range(count):
    cycle(number, port)
gc.collect()
after = left()
alive = {kind: n for kind, n in _fastpath.live_objects().items() if n}
assert not alive, alive
assert _fastpath.bugs() == 0
assert after[:3] == before[:3], (before, after)
if _fastpath.BUILD == "release":
    assert after[3] < before[3] + 4096, (before, after)
print("ok", before, after)
"""


def test_a_thousand_starts_and_stops() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CYCLES, "1000"], cwd=ROOT, capture_output=True, text=True, timeout=2 * DEADLINE_S
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok"), done.stdout
