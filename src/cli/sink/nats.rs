//! The flags and secrets of `--sink nats:URL/STREAM/SUBJECT`.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use ringest_ship::carrier::Carrier;

use crate::cli::args::secret::secret;
use crate::cli::args::values;
use crate::cli::args::values::given;

/// Where a server listens unless its URL says otherwise.
const PORT: u16 = 4222;

/// Where the name, the password or the token come from.
const USER: &str = "RINGEST_NATS_USER";
const PASSWORD: &str = "RINGEST_NATS_PASSWORD";
const TOKEN: &str = "RINGEST_NATS_TOKEN";

/// How records are handed to NATS.
#[derive(Args, Debug)]
pub(crate) struct NatsArgs {
    /// Credentials of a user (JWT and seed), as `nsc` writes them. A name and a password, or a token, come
    /// from RINGEST_NATS_USER, RINGEST_NATS_PASSWORD, RINGEST_NATS_TOKEN, or from files that
    /// RINGEST_NATS_USER_FILE and so on name
    #[arg(long, value_name = "FILE", help_heading = "NATS")]
    nats_creds: Option<PathBuf>,
    /// Certificates (PEM) to trust instead of the system's
    #[arg(long, value_name = "FILE", help_heading = "NATS")]
    nats_ca: Option<PathBuf>,
    /// Our certificate (PEM), where the server asks for one
    #[arg(long, value_name = "FILE", requires = "nats_key", help_heading = "NATS")]
    nats_cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "nats_cert", help_heading = "NATS")]
    nats_key: Option<PathBuf>,
    /// Nobody else writes to the stream: then a replicated one may have many records of a peer under way
    #[arg(long, help_heading = "NATS")]
    nats_sole_writer: bool,
}

/// `nats:URL/STREAM/SUBJECT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NatsTarget {
    tls: bool,
    /// `HOST:PORT` each.
    servers: Vec<String>,
    stream: String,
    subject: String,
}

impl FromStr for NatsTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            "expected nats:URL/STREAM/SUBJECT, such as nats:nats://one:4222,two:4222/LOGS/logs.syslog \
             or nats:tls://one/LOGS/logs.syslog"
                .to_owned()
        };
        // The scheme may stand for the word before it.
        let is_url = text.starts_with("nats://");
        let url = if is_url { Some(text) } else { text.strip_prefix("nats:") };
        let url = url.ok_or_else(expected)?;
        if url.contains('@') {
            return Err(format!(
                "a name or a password here shows in the list of processes: put them into {USER} and \
                 {PASSWORD}, or a token into {TOKEN}"
            ));
        }
        let (tls, rest) = match (url.strip_prefix("nats://"), url.strip_prefix("tls://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => (false, url),
        };
        let mut parts = rest.splitn(3, '/');
        let (Some(servers), Some(stream), Some(subject)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(expected());
        };
        let servers: Option<Vec<_>> = servers.split(',').map(server).collect();
        let word = |text: &str| {
            !text.is_empty()
                && text.len() <= 255
                && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"*>".contains(&byte))
        };
        if !word(stream) || stream.contains(['.', '\\']) {
            return Err("a stream's name has no spaces, dots, '*', '>' or slashes".to_owned());
        }
        if !subject.split('.').all(word) {
            return Err("a subject to publish to is words with dots between, without '*' and '>'"
                .to_owned());
        }
        Ok(Self {
            tls,
            servers: servers.ok_or_else(expected)?,
            stream: stream.to_owned(),
            subject: subject.to_owned(),
        })
    }
}

/// `HOST`, `HOST:PORT` or `[IP6]:PORT` as `HOST:PORT`.
fn server(text: &str) -> Option<String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, port.parse::<u16>().ok()?),
        _ => (text, PORT),
    };
    (port > 0 && values::is_host(host)).then(|| format!("{host}:{port}"))
}

impl fmt::Display for NatsTarget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "tls" } else { "nats" };
        let servers = self.servers.join(",");
        write!(out, "nats:{scheme}://{servers}/{}/{}", self.stream, self.subject)
    }
}

/// Who we are, as the flags and the environment say.
#[derive(Debug, PartialEq, Eq)]
enum Identity {
    Nobody,
    Password(String, String),
    Token(String),
    Credentials(PathBuf),
}

impl NatsArgs {
    /// The first of these flags that was given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let Self { nats_creds, nats_ca, nats_cert, nats_key, nats_sole_writer } = self;
        given([
            ("--nats-creds", nats_creds.is_some()),
            ("--nats-ca", nats_ca.is_some()),
            ("--nats-cert", nats_cert.is_some()),
            ("--nats-key", nats_key.is_some()),
            ("--nats-sole-writer", *nats_sole_writer),
        ])
    }

    /// A client for the stream, which may hold secrets: show it to nobody.
    #[cfg(feature = "nats")]
    pub(crate) fn carrier(&self, target: &NatsTarget) -> Result<Box<dyn Carrier>, String> {
        use ringest_ship::nats::{Login, Nats, NatsSpec, Secret};
        let login = match self.identity(|name| std::env::var_os(name))? {
            Identity::Nobody => Login::Nobody,
            Identity::Password(user, password) => {
                Login::Password { user, password: Secret(password) }
            }
            Identity::Token(token) => Login::Token(Secret(token)),
            Identity::Credentials(path) => Login::Credentials(path),
        };
        let servers = target.servers.iter().map(|server| format!("nats://{server}"));
        Ok(Box::new(Nats::new(NatsSpec {
            servers: servers.collect(),
            stream: target.stream.clone(),
            subject: target.subject.clone(),
            login,
            // Certificates are given for a reason: no login goes out in the clear then.
            tls: target.tls || self.nats_ca.is_some() || self.nats_cert.is_some(),
            root_certificates: self.nats_ca.clone(),
            client_certificate: self.nats_cert.clone().zip(self.nats_key.clone()),
            sole_writer: self.nats_sole_writer,
        })))
    }

    /// No client: it is not built in. What was given is read all the same, so that it can be mended first.
    #[cfg(not(feature = "nats"))]
    pub(crate) fn carrier(&self, target: &NatsTarget) -> Result<Box<dyn Carrier>, String> {
        self.identity(|name| std::env::var_os(name))?;
        Err(format!(
            "{target}: this ringest was built without NATS; build it with `cargo build --release \
             --features nats`, or keep the journal alone and ship it later"
        ))
    }

    /// Who we are. Files that are named must be there; what is in them is read when it is needed.
    fn identity(&self, env: impl Fn(&str) -> Option<OsString>) -> Result<Identity, String> {
        let files = [
            ("--nats-creds", &self.nats_creds),
            ("--nats-ca", &self.nats_ca),
            ("--nats-cert", &self.nats_cert),
            ("--nats-key", &self.nats_key),
        ];
        for (flag, path) in files {
            if let Some(path) = path
                && let Err(error) = std::fs::File::open(path)
            {
                return Err(format!("{flag} {}: cannot read it: {error}", path.display()));
            }
        }
        let [user, password, token] =
            [secret(USER, &env)?, secret(PASSWORD, &env)?, secret(TOKEN, &env)?];
        match (&self.nats_creds, user, password, token) {
            (None, None, None, None) => Ok(Identity::Nobody),
            (Some(path), None, None, None) => Ok(Identity::Credentials(path.clone())),
            (None, Some(user), Some(password), None) => Ok(Identity::Password(user, password)),
            (None, None, None, Some(token)) => Ok(Identity::Token(token)),
            (None, Some(_), None, None) => Err(format!("{USER} is set; set {PASSWORD}, too")),
            (None, None, Some(_), None) => Err(format!("{PASSWORD} is set; set {USER}, too")),
            _ => Err(format!(
                "--nats-creds, {USER} with {PASSWORD}, and {TOKEN} are three ways to say who we are: \
                 give one"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_names_servers_a_stream_and_a_subject() {
        let target: NatsTarget = "nats:127.0.0.1:4222/LOGS/logs.syslog".parse().unwrap();
        assert_eq!(target.to_string(), "nats:nats://127.0.0.1:4222/LOGS/logs.syslog");
        let target: NatsTarget = "nats:tls://one,two:5,[::1]:6/S/s".parse().unwrap();
        assert_eq!(target.to_string(), "nats:tls://one:4222,two:5,[::1]:6/S/s");
        let short: NatsTarget = "nats://one/S/s".parse().unwrap();
        assert_eq!(short.to_string(), "nats:nats://one:4222/S/s");
        let again: NatsTarget = target.to_string().parse().unwrap();
        assert_eq!(again, target);
        for text in [
            "nats:",
            "nats:one",
            "nats:one/S",
            "nats:one/S/",
            "nats:one//s",
            "nats:/S/s",
            "nats:one:0/S/s",
            "nats:one:x/S/s",
            "nats:one/S.T/s",
            "nats:one/S/a.*",
            "nats:one/S/>",
            "nats:one/S/a..b",
            "nats:one/S/a b",
            "nats:http://one/S/s",
            "kafka:one/S/s",
        ] {
            assert!(text.parse::<NatsTarget>().is_err(), "{text}");
        }
        for text in ["nats:me:p@ss@one/S/s", "nats:me:p/ss@one/S/s", "nats:me/p@ss/s"] {
            let refused = text.parse::<NatsTarget>().unwrap_err();
            assert!(refused.contains(USER) && !refused.contains("ss@"), "{refused}");
        }
    }

    fn args(creds: Option<&str>) -> NatsArgs {
        NatsArgs {
            nats_creds: creds.map(PathBuf::from),
            nats_ca: None,
            nats_cert: None,
            nats_key: None,
            nats_sole_writer: false,
        }
    }

    fn identity(creds: Option<&str>, vars: &[(&str, &str)]) -> Result<Identity, String> {
        let find = |name: &str| vars.iter().find(|(key, _)| *key == name);
        args(creds).identity(|name| find(name).map(|(_, value)| value.into()))
    }

    #[test]
    fn who_we_are_is_said_in_one_way() {
        assert_eq!(identity(None, &[]), Ok(Identity::Nobody));
        let login = identity(None, &[(USER, "me"), (PASSWORD, "hush")]);
        assert_eq!(login, Ok(Identity::Password("me".to_owned(), "hush".to_owned())));
        assert_eq!(identity(None, &[(TOKEN, "hush")]), Ok(Identity::Token("hush".to_owned())));
        for (creds, vars) in [
            (None, &[(USER, "me")][..]),
            (None, &[(PASSWORD, "hush")]),
            (None, &[(USER, "me"), (PASSWORD, "hush"), (TOKEN, "hush")]),
            (Some("/dev/null"), &[(TOKEN, "hush")]),
            (Some("/nowhere/creds"), &[]),
        ] {
            let error = identity(creds, vars).unwrap_err();
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
