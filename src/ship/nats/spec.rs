//! Which stream to publish to, where it is, and how to log in.

use std::fmt::{self, Debug};
use std::path::PathBuf;

/// A text that nobody is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(…)")
    }
}

/// Who we are, to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// Anybody.
    Nobody,
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token.
    Token(Secret),
    /// A file with a user's JWT and seed. It is read at each connection.
    Credentials(PathBuf),
}

/// Which stream, where, and how to get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsSpec {
    /// `nats://HOST:PORT` each, without users. One of them is connected to.
    pub servers: Vec<String>,
    /// The stream, which must exist.
    pub stream: String,
    /// The subject to publish to, which the stream must take.
    pub subject: String,
    /// Who we are.
    pub login: Login,
    /// Whether to insist on TLS; a server may, too.
    pub tls: bool,
    /// Certificates (PEM) to trust instead of the system's.
    pub root_certificates: Option<PathBuf>,
    /// Our certificate and its key (PEM).
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// Nobody else writes to the stream. Then a replicated one may have many records of a peer under way.
    pub sole_writer: bool,
}
