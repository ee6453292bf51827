//! Access to a broker: passwords and certificates, right and wrong.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringest_ship::kafka::{Kafka, KafkaSpec, Login};

use tempfile::TempDir;

use crate::journal::rig::temp_dir;
use crate::rigs::support::until;
use crate::ship::kafka_rig::{Drive, Sent, TOPIC, check, ids, read_with, records, spec};
use crate::ship::tansu::{Storage, Tansu};

fn with_login(address: &str, mechanism: &str, password: &str) -> Kafka {
    let sasl = [("security.protocol", "sasl_plaintext"), ("sasl.mechanism", mechanism)];
    let login = Login { user: "alice".to_owned(), password: password.to_owned() };
    let spec = KafkaSpec { login: Some(login), ..spec(address, TOPIC, &sasl) };
    Kafka::new(&spec).unwrap()
}

/// Waits until the broker is said to have refused this password, which is not said itself.
fn refused(mechanism: &str, address: &str, sent: &[Sent]) {
    let mut drive = Drive::new(with_login(address, mechanism, "swordfish"), sent);
    let text = drive.trouble("does not let this user in");
    assert!(text.contains("RINGEST_KAFKA_PASSWORD"), "{text}");
    assert!(!format!("{text} {drive:?}").contains("swordfish"));
    assert_eq!(drive.settled, 0);
}

#[test]
fn a_user_whom_the_broker_does_not_know_is_told_so() {
    let Some(mut tansu) = Tansu::start(Storage::Memory) else { return };
    tansu.asks_who = true;
    tansu.restart();
    let sent = records(3, 10, 100);
    refused("SCRAM-SHA-512", &tansu.address(), &sent);
    refused("SCRAM-SHA-256", &tansu.address(), &sent);
}

#[test]
fn a_password_opens_the_door_and_a_wrong_one_does_not() {
    let Some(mut tansu) = Tansu::start(Storage::Memory) else { return };
    let door = Doorkeeper::start(&tansu.address());
    tansu.advertised = Some(door.address.clone());
    tansu.restart();
    tansu.create_topic(TOPIC, 2);
    let sent = records(3, 300, 100);
    refused("PLAIN", &door.address, &sent);
    let mut right = Drive::new(with_login(&door.address, "PLAIN", "hunter2"), &sent);
    right.settle(sent.len());
    assert_eq!((right.rejected.len(), right.again.len()), (0, 0), "{right:?}");
    assert_eq!(right.carrier.trouble(), None);
    let way_in = [
        ("bootstrap.servers", door.address.as_str()),
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "alice"),
        ("sasl.password", "hunter2"),
    ];
    let kept = read_with(&way_in, TOPIC, &ids(&sent));
    assert_eq!(check(&kept, &sent.iter().collect::<Vec<&Sent>>()), 0);
}

/// Asks for a name and a password (SASL PLAIN) before a broker that asks for none: Tansu cannot be taught
/// any user but by a program that logs in.
struct Doorkeeper {
    address: String,
    stop: Arc<AtomicBool>,
}

impl Doorkeeper {
    fn start(behind: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, behind) = (Arc::<AtomicBool>::default(), behind.to_owned());
        let stopped = Arc::clone(&stop);
        let serve = move || {
            for client in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let behind = behind.clone();
                // Either side may go at any time.
                let serve = move || drop(admit(&client, &behind));
                std::thread::Builder::new().name("door".to_owned()).spawn(serve).unwrap();
            }
        };
        std::thread::Builder::new().name("doorkeeper".to_owned()).spawn(serve).unwrap();
        Self { address, stop }
    }
}

impl Drop for Doorkeeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
    }
}

/// Reads a length of 4 bytes, big endian, and as many bytes: Kafka's whole protocol is framed so.
fn frame(mut from: &TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn send(mut to: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    to.write_all(&[&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat())
}

/// Passes on nothing but ApiVersions until the password is right, and then everything.
fn admit(client: &TcpStream, behind: &str) -> io::Result<()> {
    let broker = TcpStream::connect(behind)?;
    loop {
        let request = frame(client)?;
        let (key, version) = (request[1], request[3]);
        let mut answer = request[4..8].to_vec();
        match key {
            // SaslHandshake: no error, and one mechanism.
            17 => answer.extend_from_slice(b"\0\0\0\0\0\x01\0\x05PLAIN"),
            // SaslAuthenticate.
            36 => {
                let right = request.ends_with(b"\0alice\0hunter2");
                let verdict: &[u8] = if right { b"\0\0\xff\xff" } else { b"\0\x3a\0\x06wrong\x1b" };
                answer.extend_from_slice(verdict);
                answer.extend_from_slice(&[0; 4]);
                answer.extend_from_slice(&[0; 8][..8 * usize::from(version)]);
                send(client, &answer)?;
                if right {
                    break;
                }
                return Ok(());
            }
            18 => {
                send(&broker, &request)?;
                answer = frame(&broker)?;
            }
            _ => return Ok(()),
        }
        send(client, &answer)?;
    }
    let (mut requests, mut answers) = (client.try_clone()?, client.try_clone()?);
    let mut to = broker.try_clone()?;
    let pass = move || drop(io::copy(&mut requests, &mut to));
    std::thread::Builder::new().name("door-in".to_owned()).spawn(pass)?;
    io::copy(&mut &broker, &mut answers)?;
    client.shutdown(Shutdown::Both)
}

/// Takes the TLS off connections to a port. Killed when dropped.
struct Terminator {
    child: Child,
    address: String,
}

impl Terminator {
    /// Makes it, or returns `None`, with a printed reason, where openssl(1) or socat(1) is missing.
    fn start(place: &TempDir, behind: &str) -> Option<Self> {
        let (key, certificate) =
            (place.path().join("key.pem"), place.path().join("certificate.pem"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output();
        if !made.is_ok_and(|made| made.status.success()) {
            println!("skipped: openssl cannot make a certificate here");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (key, shown) = (key.display(), certificate.display());
        let listen = format!(
            "OPENSSL-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,verify=0,cert={shown},key={key}"
        );
        let child = Command::new("socat")
            .args([&listen, &format!("TCP:{behind}")])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            println!("skipped: socat cannot be run");
            return None;
        };
        let address = format!("127.0.0.1:{port}");
        until("socat to listen", || TcpStream::connect(&address).is_ok());
        Some(Self { child, address })
    }
}

impl Drop for Terminator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn tls_is_spoken_and_whoever_is_not_known_is_not_talked_to() {
    let Some(mut tansu) = Tansu::start(Storage::Memory) else { return };
    let place = temp_dir();
    let Some(terminator) = Terminator::start(&place, &tansu.address()) else { return };
    tansu.advertised = Some(terminator.address.clone());
    tansu.restart();
    tansu.create_topic(TOPIC, 2);
    let authority = place.path().join("certificate.pem").display().to_string();
    let (tls, authority) = (("security.protocol", "ssl"), ("ssl.ca.location", authority.as_str()));
    let sent = records(3, 300, 100);
    let drive = |address: &str, properties: &[(&str, &str)]| {
        Drive::new(Kafka::new(&spec(address, TOPIC, properties)).unwrap(), &sent)
    };

    let text = drive(&terminator.address, &[tls]).trouble("TLS");
    assert!(
        text.contains("certificate verify failed") && text.contains("ssl.ca.location"),
        "{text}"
    );
    // A broker without TLS waits for the rest of what it takes for a very long request.
    let soon = ("socket.connection.setup.timeout.ms", "1000");
    let text = drive(&tansu.address(), &[tls, authority, soon]).trouble("SSL_HANDSHAKE");
    assert!(text.contains("security.protocol"), "{text}");
    let text = drive(&terminator.address, &[]).trouble("reached");
    assert!(text.contains("security.protocol"), "{text}");

    let mut right = drive(&terminator.address, &[tls, authority]);
    right.settle(sent.len());
    assert_eq!((right.rejected.len(), right.again.len()), (0, 0), "{right:?}");
    let way_in = [("bootstrap.servers", terminator.address.as_str()), tls, authority];
    let kept = read_with(&way_in, TOPIC, &ids(&sent));
    assert_eq!(check(&kept, &sent.iter().collect::<Vec<&Sent>>()), 0);
}
