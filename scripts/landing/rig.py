"""Runs `ringest listen` and `ringest load`, and makes captures to replay."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys

SIZE = 300
# Messages in the capture that recovery sends again and again.
CAPTURED = 200_000


def say(text):
    print(text, file=sys.stderr, flush=True)


def free_port(kind=socket.SOCK_DGRAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Listener:
    """A running `ringest listen`."""

    def __init__(self, ringest, args):
        self.port = free_port()
        command = [ringest, "listen", f"127.0.0.1:{self.port}", "--json", *args]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.said = []
        for line in self.process.stderr:
            self.said.append(line)
            if line.startswith("listening on"):
                return
        raise SystemExit(f"{' '.join(command)} ended:\n{''.join(self.said)}")

    def stop(self):
        """Ends it and returns its summary. `cpu_s` holds its CPU seconds afterwards."""
        self.process.send_signal(signal.SIGTERM)
        out, self.rest = self.process.stdout.read(), self.process.stderr.read()
        self.cpu_s = reaped(self.process)
        return json.loads(out)


def reaped(process):
    """Waits for a process to end and returns its CPU seconds, those of its kernel threads included."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime


def load(ringest, port, rate, seconds, *more, gso="off"):
    command = [ringest, "load", f"127.0.0.1:{port}", "--rate", str(int(rate)), "--size", str(SIZE)]
    command += ["--gso", gso, "--duration", f"{seconds}s", "--json", "--quiet", *more]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(out)


def syslog_capture(place, count):
    """Writes a capture of `count` syslog messages of SIZE bytes from 16 senders, and returns its path."""
    path = place / f"syslog-{count}.pcap"
    if path.exists():
        return path
    with open(path, "wb") as out:
        # pcap, microseconds, packets are raw IP.
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101))
        length = SIZE + 28
        for number in range(count):
            text = f"<34>1 2026-11-22T10:00:00.{number % 1_000_000:06}Z host{number % 16} app {number} ID47 - "
            text += "connection from 192.0.2.7 port 55222 closed after 17 s by 'policy', no reply was sent; "
            payload = (text * 3).encode()[:SIZE]
            ip = struct.pack(">BBHHHBBHII", 0x45, 0, length, 0, 0, 64, 17, 0, 0xC0000201, 0xC0000202)
            udp = struct.pack(">HHHH", 40_000 + number % 16, 514, SIZE + 8, 0)
            out.write(struct.pack("<IIII", 0, number, length, length) + ip + udp + payload)
    return path


def load_capture(ringest, port, rate, count, capture):
    """Sends the first `count` messages of a capture, one by one, at an even rate."""
    command = [ringest, "load", f"127.0.0.1:{port}", "--pcap", str(capture), "--rate", str(int(rate))]
    command += ["--count", str(count), "--gso", "off", "--json", "--quiet"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

# Room for bursts: the sender runs on the same two cores, so each thread waits for others, and sometimes for the disk.
SOCKET = ["--rcvbuf", "64M"]
BUFFERS = ["--journal-buffer", "256M"]
