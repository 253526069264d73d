"""A child for the supervisor's tests: says that it lives, and waits.

``stub_child.py ENDPOINT NAME [stubborn]``: sends "NAME PID" to a PULL socket. A stubborn one does
not heed SIGTERM.
"""

import os
import signal
import sys

import zmq

if sys.argv[3:] == ["stubborn"]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
    socket.connect(sys.argv[1])
    socket.send_string(f"{sys.argv[2]} {os.getpid()}")
while True:
    signal.pause()
