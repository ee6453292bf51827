//! Which stream to publish to, where it is, and how to log in.

use std::fmt::{self, Debug};
use std::path::PathBuf;

/// A text that is never displayed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(…)")
    }
}

/// How to log in to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// Without a login.
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

/// Stream, servers and login of a NATS destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsSpec {
    /// `nats://HOST:PORT` each, without users. The client connects to one of them.
    pub servers: Vec<String>,
    /// The stream, which must exist.
    pub stream: String,
    /// The subject to publish to, which the stream must take.
    pub subject: String,
    /// How to log in.
    pub login: Login,
    /// Whether to require TLS. A server may require it too.
    pub tls: bool,
    /// Certificates (PEM) to trust instead of the system's.
    pub root_certificates: Option<PathBuf>,
    /// Our certificate and its key (PEM).
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// Whether no other publisher writes to the stream. Then many records of a peer may be under way to a
    /// replicated stream.
    pub sole_writer: bool,
}
