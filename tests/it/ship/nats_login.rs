//! Logins to NATS with each kind of credentials, right and wrong, and that no output shows them.

use std::fs;
use std::path::Path;
use std::process::Command;

use ringest_ship::carrier::Carrier;
use ringest_ship::nats::{Login, NatsSpec, Secret};
use serde_json::json;

use crate::journal::rig::temp_dir;
use crate::ship::nats_probe::Probe;
use crate::ship::nats_rig::{Courier, Server, facts, is_here, spec};

/// Goes on until everything is stored, and leaves no trouble.
fn gets_in(spec: NatsSpec) {
    let mut courier = Courier::new(spec, facts(10));
    courier.ship(10);
    assert_eq!(courier.carrier.trouble(), None);
}

/// Checks that a login fails with its reason, and that no text shows a secret.
fn is_kept_out(spec: NatsSpec, text: &str) {
    let mut courier = Courier::new(spec, facts(10));
    courier.await_trouble(text);
    let said = format!("{:?} {:?} {courier:?}", courier.carrier.trouble(), courier.agains);
    for secret in ["hunter2", "t0k3n", "wr0ng", "SUAM"] {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
    assert_eq!(courier.settled, 0);
}

fn password(password: &str) -> Login {
    Login::Password { user: "joe".to_owned(), password: Secret(password.to_owned()) }
}

#[test]
fn users_and_tokens_let_in_and_wrong_ones_are_told_without_themselves() {
    if !is_here() {
        return;
    }
    let place = temp_dir();
    let server = "authorization { users: [ { user: joe, password: hunter2 }, \
                  { user: probe, password: probe } ] }";
    let servers = [Server::alone(&place, server)];
    Probe::with_user(&servers[0], "probe").make_stream(1, &json!({}));
    let with = |login| NatsSpec { login, ..spec(&servers) };
    is_kept_out(with(Login::Nobody), "authorization violation: no user was given");
    is_kept_out(
        with(password("wr0ng")),
        "authorization violation: the user or the password is wrong",
    );
    is_kept_out(with(Login::Token(Secret("t0k3n".to_owned()))), "the token is wrong");
    gets_in(with(password("hunter2")));
    drop(servers);

    let place = temp_dir();
    let servers = [Server::alone(&place, "authorization { token: t0k3n }")];
    let with =
        |token: &str| NatsSpec { login: Login::Token(Secret(token.to_owned())), ..spec(&servers) };
    is_kept_out(with("wr0ng"), "the token is wrong");
    // Let in, as the answer about the stream tells.
    is_kept_out(with("t0k3n"), "stream LOGS does not exist");
}

#[test]
fn a_user_who_may_not_publish_is_told() {
    if !is_here() {
        return;
    }
    let place = temp_dir();
    let server = "authorization { users: [ { user: joe, password: hunter2, permissions: { \
                  publish: { allow: [\"$JS.API.STREAM.INFO.LOGS\"] } } }, \
                  { user: probe, password: probe } ] }";
    let servers = [Server::alone(&place, server)];
    Probe::with_user(&servers[0], "probe").make_stream(1, &json!({}));
    is_kept_out(
        NatsSpec { login: password("hunter2"), ..spec(&servers) },
        "Permissions Violation for Publish to \\\"logs.syslog\\\"",
    );
}

#[test]
fn credentials_that_cannot_be_used_are_told_without_themselves() {
    if !is_here() {
        return;
    }
    let place = temp_dir();
    let servers = [Server::alone(&place, "")];
    let path = place.path().join("user.creds");
    let with = || NatsSpec { login: Login::Credentials(path.clone()), ..spec(&servers) };
    is_kept_out(with(), "user.creds: No such file");
    fs::write(&path, "-----BEGIN NATS USER JWT-----\nSUAMwr0ng\n").unwrap();
    is_kept_out(with(), "user.creds: no user JWT with its seed in it");
}

/// Has openssl(1) make a key and a certificate: one that signs itself, or one that `ca` signs.
fn certificate(dir: &Path, name: &str, ca: Option<&str>) {
    let config = dir.join(format!("{name}.cnf"));
    let is_ca = if ca.is_none() { "TRUE" } else { "FALSE" };
    let text = format!(
        "[req]\ndistinguished_name=dn\nx509_extensions=ext\nprompt=no\n[dn]\nCN={name}\n[ext]\n\
         basicConstraints=critical,CA:{is_ca}\nsubjectAltName=IP:127.0.0.1\n"
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new("openssl");
    command.current_dir(dir).args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"]);
    command.args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-config"]).arg(&config);
    command.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")]);
    if let Some(ca) = ca {
        command.args(["-CA", &format!("{ca}.pem"), "-CAkey", &format!("{ca}.key")]);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn tls_is_checked_on_both_sides() {
    if !is_here() {
        return;
    }
    if Command::new("openssl").arg("version").output().is_err() {
        println!("skipped: openssl is not here; scripts/test installs it");
        return;
    }
    let place = temp_dir();
    let dir = place.path();
    certificate(dir, "ca", None);
    certificate(dir, "other", None);
    certificate(dir, "server", Some("ca"));
    certificate(dir, "client", Some("ca"));
    let file = |name: &str| dir.join(name);
    let servers = [Server::alone(
        &place,
        &format!(
            "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}",
            file("server.pem"),
            file("server.key"),
            file("ca.pem")
        ),
    )];
    let ours = (file("client.pem"), file("client.key"));
    let with = |ca: &str, client: Option<_>| NatsSpec {
        tls: true,
        root_certificates: Some(file(ca)),
        client_certificate: client,
        ..spec(&servers)
    };
    is_kept_out(with("other.pem", Some(ours.clone())), "UnknownIssuer");
    is_kept_out(with("none.pem", Some(ours.clone())), "No such file");
    is_kept_out(with("ca.pem", None), "ertificate");
    // Let in, as the answer about the stream tells.
    is_kept_out(with("ca.pem", Some(ours)), "stream LOGS does not exist");
    // And a server without TLS is not spoken to when it is insisted on.
    let plain = temp_dir();
    let servers = [Server::alone(&plain, "")];
    is_kept_out(
        NatsSpec { tls: true, ..spec(&servers) },
        "the server speaks no TLS there; use nats://",
    );
}
