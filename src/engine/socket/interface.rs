//! Network interfaces, named by the user.

use std::fmt;
use std::io;
use std::str::FromStr;

use nix::net::if_::if_nametoindex;

/// A network interface, by name or by index.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Interface {
    /// By its name, such as `eth0`.
    Name(String),
    /// By its index, as `ip link` numbers them, from 1 up.
    Index(u32),
}

impl Interface {
    /// Returns the index of the interface.
    ///
    /// # Errors
    /// ENODEV: no interface has that name.
    pub fn index(&self) -> io::Result<u32> {
        match self {
            Self::Index(index) => Ok(*index),
            Self::Name(name) => Ok(if_nametoindex(name.as_str())?),
        }
    }
}

impl FromStr for Interface {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(0) => Err("interfaces are numbered from 1 up".to_owned()),
            Ok(index) => Ok(Self::Index(index)),
            // IFNAMSIZ is 16 with the final 0.
            Err(_) if (1..16).contains(&text.len()) && !text.contains(['/', ' ']) => {
                Ok(Self::Name(text.to_owned()))
            }
            Err(_) => Err(format!("{text:?} is no interface's name or index, see `ip link`")),
        }
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Index(index) => write!(f, "{index}"),
        }
    }
}
