"""Measures the journal beside rsyslog."""

import shutil
import statistics
import subprocess
import time

from rig import Listener, SIZE, free_port, load_capture, reaped, say, syslog_capture


class Rsyslog:
    """A running rsyslogd, from imudp to omfile and nothing else."""

    def __init__(self, place):
        self.port, self.out = free_port(), place / "rsyslog.out"
        self.out.unlink(missing_ok=True)
        config = place / "rsyslog.conf"
        config.write_text(
            f"""global(workDirectory="{place}")
module(load="imudp" timeRequery="2")
template(name="raw" type="string" string="%rawmsg%\\n")
input(type="imudp" address="127.0.0.1" port="{self.port}" rcvbufSize="4m" ruleset="land")
ruleset(name="land" queue.type="linkedList" queue.size="200000" queue.dequeueBatchSize="2048"
  queue.timeoutShutdown="60000") {{
  action(type="omfile" file="{self.out}" template="raw" asyncWriting="on" ioBufferSize="256k")
}}
"""
        )
        self.process = subprocess.Popen(
            ["rsyslogd", "-n", "-f", str(config), "-i", str(place / "rsyslog.pid")],
            stderr=subprocess.DEVNULL,
        )
        needle = f":{self.port:04X} "
        while needle not in open("/proc/net/udp").read():
            if self.process.poll() is not None:
                raise SystemExit("rsyslogd ended")
            time.sleep(0.02)

    def stop(self):
        self.process.terminate()
        cpu_s = reaped(self.process)
        lines = 0
        if self.out.exists():
            with open(self.out, "rb") as file:
                lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
        return lines, cpu_s


def rsyslog(ringest, place, smoke):
    if not shutil.which("rsyslogd"):
        say("rsyslog: rsyslogd is not installed: left out")
        return
    rates = (20_000, 60_000) if smoke else (20_000, 40_000, 80_000, 120_000, 160_000)
    seconds, rounds = (1, 1) if smoke else (3, 3)
    capture = syslog_capture(place, max(rates) * seconds)
    names = ("ringest, journal", "rsyslog, file")
    print(f"\n| syslog, {SIZE} B, one by one | {names[0]}: lost | CPU a message | {names[1]}: lost | CPU a message |")
    print("|---|---:|---:|---:|---:|")
    for rate in rates:
        found = {name: [] for name in names}
        for turn in range(rounds):
            say(f"  {rate}/s: round {turn + 1} of {rounds}")
            for name, land in zip(names, (land_in_journal, land_in_rsyslog)):
                sent, landed, cpu_s = land(ringest, place, rate, seconds, capture)
                found[name].append((100 * (1 - landed / sent), cpu_s * 1e9 / max(landed, 1)))
        row = [f"{rate:,}/s"]
        for name in names:
            lost, cost = (statistics.median(part) for part in zip(*found[name]))
            row += [f"{lost:.2f} %", f"{cost:,.0f} ns"]
        print(f"| {' | '.join(row)} |", flush=True)
    capture.unlink()


def land_in_journal(ringest, place, rate, seconds, capture):
    path = place / "syslog"
    listener = Listener(ringest, ["--sink", f"journal:{path}"])
    sent = load_capture(ringest, listener.port, rate, rate * seconds, capture)["sent"]
    landed = listener.stop()["delivered"]
    shutil.rmtree(path)
    return sent, landed, listener.cpu_s


def land_in_rsyslog(ringest, place, rate, seconds, capture):
    peer = Rsyslog(place)
    sent = load_capture(ringest, peer.port, rate, rate * seconds, capture)["sent"]
    return sent, *peer.stop()
