"""Measures the journal beside discard and beside a plain write, and its recovery and reading."""

import os
import shutil
import statistics
import subprocess
import time

from rig import BUFFERS, CAPTURED, Listener, SIZE, SOCKET, load, load_capture, say, syslog_capture

# Bytes that one such datagram takes in a journal (docs/journal.md).
RECORD_BYTES = SIZE + 44


def trial(ringest, sink, rate, seconds, gso):
    """Sends one load into one sink. Returns datagrams missing, datagrams not sent in time, and the summary."""
    listener = Listener(ringest, sink)
    sent = load(ringest, listener.port, rate, seconds, gso=gso)
    summary = listener.stop()
    return sent["sent"] + sent["unsent"] - summary["delivered"], sent["unsent"], summary


def no_loss_rate(ringest, sinks, steps, top, gso):
    """Finds the highest rate without loss of each sink, by bisection. The sinks take turns at each step.

    A rate holds if one of two trials loses nothing, as half of MLRsearch's trials may exceed its goal. Datagrams
    not sent in time count as lost.
    """
    low = {name: top / 400 for name in sinks}
    high = {name: top for name in sinks}
    for step in range(steps):
        for name, (sink, seconds) in sinks.items():
            rate = (low[name] + high[name]) / 2
            for _ in range(2):
                missing, unsent, _ = trial(ringest, sink(), rate, seconds, gso)
                say(f"  step {step + 1}/{steps} {name}: {rate:.0f}/s, {missing} missing, {unsent} of them unsent")
                if not missing:
                    break
            (high if missing else low)[name] = rate
    return low


def write_speed(place, size):
    """Returns bytes a second of a sequential write of `size` bytes that ends in fdatasync(2)."""
    file = place / "speed"
    block = b"\x5a" * (1 << 20)
    begun = time.monotonic()
    with open(file, "wb", buffering=0) as out:
        for _ in range(-(-size // len(block))):
            out.write(block)
        os.fdatasync(out.fileno())
    took = time.monotonic() - begun
    file.unlink()
    return size / took


def fresh_journals(place):
    """Returns a function that makes an empty journal and returns the options for it."""
    count = 0

    def fresh():
        nonlocal count
        for old in place.glob("journal-*"):
            shutil.rmtree(old)
        count += 1
        return [*SOCKET, *BUFFERS, "--sink", f"journal:{place}/journal-{count}", "--retain-bytes", "1G"]

    return fresh


def journal(ringest, place, smoke):
    for shape, gso, top in (("one by one", "off", 400_000), ("in trains of 32", "32", 3_000_000)):
        rate = journal_beside_discard(ringest, place, smoke, (shape, gso, top))
    journal_beside_disk(ringest, place, smoke, rate)


def journal_beside_discard(ringest, place, smoke, form):
    shape, gso, top = form
    # Long enough that memory holds little of the bytes written.
    seconds, steps, rounds = (1, 3, 1) if smoke else (10, 6, 3)
    fresh = fresh_journals(place)
    sinks = {"discard": (lambda: SOCKET, min(seconds, 2)), "journal": (fresh, seconds)}
    rates, costs = {name: [] for name in sinks}, {name: [] for name in sinks}
    for turn in range(rounds):
        say(f"journal, {shape}: round {turn + 1} of {rounds}")
        for name, rate in no_loss_rate(ringest, sinks, steps, top, gso).items():
            rates[name].append(rate)
    pace = min(min(rates[name]) for name in sinks) * 0.7
    for _ in range(rounds):
        for name, (sink, _) in sinks.items():
            _, _, summary = trial(ringest, sink(), pace, min(seconds, 2), gso)
            cpu = summary["cpu_ns_per_datagram"]
            costs[name].append((cpu["receivers"], cpu["workers"], summary["queue_latency_ns"]["p99"]))
    for old in place.glob("journal-*"):
        shutil.rmtree(old)
    print(f"\n| {SIZE} B, {shape} | no loss up to | receiver | worker | queue p99 (at {pace:,.0f}/s) |")
    print("|---|---:|---:|---:|---:|")
    for name in sinks:
        receiver, worker, queue = (statistics.median(part) for part in zip(*costs[name]))
        rate = statistics.median(rates[name])
        print(f"| {name} | {rate:,.0f}/s | {receiver:,.0f} ns | {worker:,.0f} ns | {queue / 1000:,.0f} µs |")
    ratio = statistics.median(a / b for a, b in zip(rates["journal"], rates["discard"]))
    print(f"\njournal / discard: {ratio:.2f}", flush=True)
    return statistics.median(rates["journal"])


def journal_beside_disk(ringest, place, smoke, rate):
    """Offers more than the journal can land, then writes as many bytes in sequence, in turns.

    The journal's time ends when the last record is committed, all segments are sealed, and the process has ended.
    """
    seconds, rounds = (1, 1) if smoke else (10, 5)
    fresh = fresh_journals(place)
    landed, written = [], []
    for turn in range(rounds):
        listener = Listener(ringest, fresh())
        begun = time.monotonic()
        load(ringest, listener.port, rate * 1.3, seconds, gso="32")
        size = listener.stop()["delivered"] * RECORD_BYTES
        landed.append(size / (time.monotonic() - begun))
        written.append(write_speed(place, size))
        say(f"  round {turn + 1} of {rounds}: {size / 1e9:.1f} GB, {landed[-1] / 1e6:.0f} MB/s landed, "
            f"{written[-1] / 1e6:.0f} MB/s written")
    for old in place.glob("journal-*"):
        shutil.rmtree(old)
    print("\n| as many bytes, in turns | MB/s | from, to |")
    print("|---|---:|---:|")
    for name, speeds in ("journal, offered too much", landed), ("one sequential write, fdatasync(2)", written):
        middle, least, most = (what(speeds) / 1e6 for what in (statistics.median, min, max))
        print(f"| {name} | {middle:.0f} | {least:.0f} to {most:.0f} |")
    ratio = statistics.median(a / b for a, b in zip(landed, written))
    print(f"\njournal / disk: {ratio:.2f}", flush=True)


def fill(ringest, path, size, capture):
    """Makes a journal of `size` bytes in one segment, whose writer was killed."""
    listener = Listener(ringest, ["--sink", f"journal:{path}", "--segment-bytes", "8G"])
    segment = path / "000-0000000001.seg"
    while not segment.exists() or segment.stat().st_size < size:
        load_capture(ringest, listener.port, 120_000, CAPTURED, capture)
    listener.process.kill()
    listener.process.wait()


def recovery(ringest, place, smoke):
    size = (32 << 20) if smoke else (1 << 30)
    path = place / "recovery"
    shutil.rmtree(path, ignore_errors=True)
    say(f"recovery: writing {size >> 20} MiB")
    fill(ringest, path, size, syslog_capture(place, CAPTURED))
    held = sum(one.stat().st_size for one in path.glob("*.seg"))
    begun = time.monotonic()
    listener = Listener(ringest, ["--sink", f"journal:{path}"])
    took = time.monotonic() - begun
    said = next((line for line in listener.said if "records kept" in line), "")
    listener.stop()
    print(f"\nrecovery of {held / 2**30:.2f} GiB: {took:.2f} s ({said.strip()})")
    for output in ("raw", "text", "json"):
        times = []
        for _ in range(1 if smoke else 3):
            begun = time.monotonic()
            command = [ringest, "journal", "cat", str(path), "--output", output]
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            times.append(time.monotonic() - begun)
        print(f"journal cat --output {output}: {held / statistics.median(times) / 1e6:.0f} MB/s of journal")
    begun = time.monotonic()
    subprocess.run([ringest, "journal", "verify", str(path)], check=True, capture_output=True)
    print(f"journal verify: {held / (time.monotonic() - begun) / 1e6:.0f} MB/s")
    shutil.rmtree(path)
