//! The flags and secrets of `--sink nats:URL/STREAM/SUBJECT`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use ringest_ship::carrier::Carrier;
use ringest_ship::target::nats::NatsTarget;

use crate::cli::args::secret::secret;
use crate::cli::args::values::given;

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

/// The login, as the flags and the environment give it.
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

    /// Returns the login. Named files must exist; their contents are read when needed.
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
