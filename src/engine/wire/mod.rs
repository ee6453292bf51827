//! Addresses, control messages and headers as the kernel writes them, read as bytes.

/// Control messages (cmsg(3)), read and written as bytes.
pub mod cmsg;
/// Fields of the IP and UDP headers of a datagram.
pub mod headers;
/// Limits of datagrams and trains.
pub mod limits;
/// The way between a peer and this host.
pub mod path;
/// Socket addresses as the kernel writes them, byte by byte.
pub mod sockaddr;
