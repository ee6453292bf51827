//! Against programs not ours: netcat, socat and a Python script send, and are answered.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::rigs::support::until;
use crate::sockets::lab::{Lab, Program};

const BACKENDS: [&str; 2] = ["io_uring", "recvmmsg"];

/// Tells whether a program is here, and prints it if not.
fn is_here(program: &str) -> bool {
    let mut command = Command::new(program);
    let tried = command.arg("-h").stdin(Stdio::null()).output();
    if let Err(error) = &tried {
        println!("skipped: {program} cannot be run: {error}");
    }
    tried.is_ok()
}

/// Starts a command on the client's host.
fn on_client(lab: &Lab, program: &str, args: &str) -> Program {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", lab.client(), program]).args(args.split_whitespace());
    Program::start(&mut command)
}

/// Starts `ringest …` on the engine's host and waits until it listens.
fn ringest(lab: &Lab, args: &str) -> Program {
    let mut program = Program::ringest(Some(lab.engine()), args);
    program.listening();
    program
}

/// Writes a line to a program and waits until it printed the same.
fn is_answered(program: &mut Program, line: &str) {
    program.stdin().write_all(line.as_bytes()).unwrap();
    until("an answer", || {
        let said = program.stdout();
        assert!(line.starts_with(&said), "{said:?} is no answer to {line:?}: {}", program.stderr());
        said == line
    });
}

#[test]
fn netcat_is_answered() {
    let Some(lab) = Lab::lay() else { return };
    if !is_here("nc") {
        return;
    }
    for backend in BACKENDS {
        let args = format!("echo *:9000 10.99.0.21:9001 --backend {backend} --receivers 2");
        let echo = ringest(&lab, &args);
        let ways = [
            "-4 -u 10.99.0.1 9000",
            "-4 -u 10.99.0.11 9000",
            "-4 -u 10.99.0.21 9001",
            "-6 -u 2001:db8:99::1 9000",
            "-6 -u 2001:db8:99::21 9000",
        ];
        for way in ways {
            println!("{backend}: nc {way}");
            // Connected, so an answer from any other address would not be heard.
            is_answered(&mut on_client(&lab, "nc", way), "hello from netcat\n");
        }
        let ended = echo.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

#[test]
fn socat_is_answered_and_printed() {
    let Some(lab) = Lab::lay() else { return };
    if !is_here("socat") {
        return;
    }
    for backend in BACKENDS {
        let groups = "--join 239.1.2.3%cable --join ff15::1:2%cable";
        let args = format!("echo [::]:9000 --backend {backend} --receivers 2 {groups}");
        let echo = ringest(&lab, &args);
        for way in [
            "- UDP4-CONNECT:10.99.0.11:9000",
            "- UDP6-CONNECT:[2001:db8:99::11]:9000",
            "- UDP4-DATAGRAM:10.99.0.1:9000",
            "- UDP4-DATAGRAM:239.1.2.3:9000,ip-multicast-if=10.99.0.2",
            "- UDP6-DATAGRAM:[ff15::1:2]:9000",
        ] {
            println!("{backend}: socat {way}");
            is_answered(&mut on_client(&lab, "socat", way), "hello from socat\n");
        }
        let ended = echo.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");

        let args = format!("listen [::]:9000 --sink stdout --count 3 --backend {backend} {groups}");
        let listen = ringest(&lab, &args);
        for way in [
            "- UDP4-SENDTO:10.99.0.21:9000",
            "- UDP6-SENDTO:[2001:db8:99::21]:9000",
            "- UDP4-DATAGRAM:239.1.2.3:9000,ip-multicast-if=10.99.0.2",
        ] {
            let mut sender = on_client(&lab, "socat", way);
            sender.stdin().write_all(way.as_bytes()).unwrap();
            until("it to be printed", || listen.stdout().contains(way));
        }
        let ended = listen.end();
        assert_eq!((ended.code, ended.stdout.lines().count()), (Some(0), 3), "{ended:?}");
    }
}

/// Sends with TTL 7 and TOS 0xb9 to each target, from each of its addresses, and prints the answers.
const SCRIPT: &str = r#"
import socket, sys
device = socket.if_nametoindex("cable")
for target in sys.argv[1:]:
    host, answers = target.split("=")
    v6 = ":" in host
    s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(20)
    if v6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 7)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 7)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, device)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 0xb9)
        s.bind(("2001:db8:99::12", 0))
    else:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 7)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 7)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0xb9)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.99.0.12"))
        s.bind(("10.99.0.12", 0))
    for size in (0, 1, 1000, 9000):
        body = bytes(n % 251 for n in range(size))
        s.sendto(body, (host, 9000))
        if answers == "none":
            continue
        got, peer = s.recvfrom(65536)
        assert got == body, (host, len(body), len(got))
        assert answers in ("any", peer[0]), (host, peer)
        assert peer[1] == 9000, (host, peer)
    print(host, "done", flush=True)
"#;

fn python(lab: &Lab, targets: &[&str]) -> crate::sockets::lab::Ended {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", lab.client(), "python3", "-c", SCRIPT]).args(targets);
    let ended = Program::start(&mut command).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout.lines().count(), targets.len(), "{ended:?}");
    ended
}

#[test]
fn a_python_script_is_answered_from_where_it_asked() {
    let Some(lab) = Lab::lay() else { return };
    if !is_here("python3") {
        return;
    }
    for backend in BACKENDS {
        let args = format!(
            "echo 0.0.0.0:9000 [::]:9000 --backend {backend} --join 239.1.2.3%cable \
             --join ff15::1:2%cable --receivers 1"
        );
        let echo = ringest(&lab, &args);
        let targets = [
            "10.99.0.1=10.99.0.1",
            "10.99.0.21=10.99.0.21",
            "10.99.0.255=10.99.0.1",
            "239.1.2.3=any",
            "2001:db8:99::1=2001:db8:99::1",
            "2001:db8:99::21=2001:db8:99::21",
            "ff15::1:2=any",
        ];
        python(&lab, &targets);
        let ended = echo.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

#[test]
fn what_a_python_script_sends_is_printed_with_its_header() {
    let Some(lab) = Lab::lay() else { return };
    if !is_here("python3") {
        return;
    }
    for backend in BACKENDS {
        let args = format!(
            "listen *:9000 --backend {backend} --receivers 1 --workers 1 --sink stdout \
             --output json --ip-headers --timestamps --join 239.1.2.3@10.99.0.12%cable --join ff15::1:2%cable --count 16"
        );
        let listen = ringest(&lab, &args);
        let hosts = ["10.99.0.11", "239.1.2.3", "2001:db8:99::21", "ff15::1:2"];
        let targets = hosts.map(|host| format!("{host}=none"));
        python(&lab, &targets.each_ref().map(String::as_str));
        let ended = listen.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let lines: Vec<Value> =
            ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 16);
        for (lines, host) in lines.chunks(4).zip(hosts) {
            let v6 = host.contains(':');
            let to = if v6 { format!("[{host}]:9000") } else { format!("{host}:9000") };
            for (line, size) in lines.iter().zip([0, 1, 1000, 9000]) {
                let number = |key: &str| line[key].as_u64();
                assert_eq!(line["destination"], to, "{line}");
                assert_eq!((number("length"), number("ttl")), (Some(size), Some(7)), "{line}");
                assert_eq!((number("dscp"), number("ecn")), (Some(46), Some(1)), "{line}");
                let from = if v6 { "[2001:db8:99::12]:" } else { "10.99.0.12:" };
                assert!(line["peer"].as_str().unwrap().starts_with(from), "{line}");
                assert!(line["kernel_time"].is_string(), "{line}");
            }
        }
    }
}
