"""Delay, jitter and loss for some links, in user space.

Kernels without the netem queue are common, so frames are carried between pairs of interfaces by this program.
Runs inside the router's namespace; one argument per link: INTERFACE,INTERFACE,DELAY_MS,JITTER_MS,LOSS_PERCENT.
"""

import heapq
import random
import select
import socket
import sys
import time

# Python's socket module does not name these.
SOL_PACKET = 263
PACKET_IGNORE_OUTGOING = 23
ETH_P_ALL = 3


def endpoint(interface):
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    raw.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    raw.bind((interface, 0))
    raw.setblocking(False)
    return raw


def main():
    draw = random.Random(sys.argv[1])
    links, poll, waiting, order = {}, select.epoll(), [], 0
    for argument in sys.argv[2:]:
        near, far, delay, jitter, loss = argument.split(",")
        ends = endpoint(near), endpoint(far)
        for source, target in (ends, ends[::-1]):
            # Jitter must not reorder a link: `last` is the latest departure planned so far.
            links[source.fileno()] = [source, target, float(delay) / 1e3, float(jitter) / 1e3, float(loss) / 100, 0.0]
            poll.register(source.fileno(), select.EPOLLIN)
    while True:
        timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else -1
        for number, _ in poll.poll(timeout):
            link = links[number]
            source, target, delay, jitter, loss, last = link
            for _ in range(64):
                try:
                    frame = source.recv(65535)
                except BlockingIOError:
                    break
                if draw.random() < loss:
                    continue
                last = max(last, time.monotonic() + delay + draw.random() * jitter)
                order += 1
                heapq.heappush(waiting, (last, order, target, frame))
            link[5] = last
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, target, frame = heapq.heappop(waiting)
            try:
                target.send(frame)
            except OSError:
                # A full queue or an interface that is going away loses the frame, as a real link does.
                pass


main()
