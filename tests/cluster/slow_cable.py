"""A cable whose frames come late or not at all, where the kernel has no netem.

    python slow_cable.py SECONDS SHARE FIRST SECOND

makes the network devices FIRST and SECOND, which may then be moved to other network namespaces, and
hands on what is sent into one to the other, SECONDS later and without a random SHARE. At SIGTERM it
says how many frames came in, and how many were lost.
"""

import fcntl
import os
import random
import select
import signal
import struct
import sys
import time
from collections import deque

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000  # of linux/if_tun.h


def open_device(name):
    """Make a device of Ethernet frames; return the file of what is sent into it."""
    end = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
    return end


class Cable:
    def __init__(self, late, share, ends):
        self.late, self.share = late, share
        self.other = dict(zip(ends, reversed(ends), strict=True))
        self.chance = random.Random(0)
        self.count = self.lost = 0

    def end(self, *_):
        print(self.count, self.lost, flush=True)
        sys.exit()

    def carry(self):
        """Hand frames on until the process is ended."""
        under_way = deque()
        while True:
            first = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
            for end in select.select(list(self.other), [], [], first)[0]:
                frame = os.read(end, 1 << 16)
                self.count += 1
                if self.chance.random() < self.share:
                    self.lost += 1
                else:
                    under_way.append((time.monotonic() + self.late, self.other[end], frame))
            while under_way and under_way[0][0] <= time.monotonic():
                _, end, frame = under_way.popleft()
                try:
                    os.write(end, frame)
                except OSError:  # the device is down, as a cable's end that is pulled out
                    self.lost += 1


if __name__ == "__main__":
    late, share, *names = sys.argv[1:]
    cable = Cable(float(late), float(share), [open_device(name) for name in names])
    signal.signal(signal.SIGTERM, cable.end)
    print("ready", flush=True)
    cable.carry()
