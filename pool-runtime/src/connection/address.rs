//! Where a listener is.

use crate::error::{Error, Result};
use crate::os::SocketPlace;
use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

/// Where a [`Listener`](super::Listener) is, and a [`Client`](super::Client) finds it.
///
/// A text is read as a path if it has a `/` in it, or no colon; otherwise as `host:port`. One that is neither, as its
/// port is no number up to 65535, is [`Invalid`](Self::Invalid).
///
/// ```
/// use pool_runtime::connection::Address;
/// use std::path::Path;
///
/// assert_eq!(Address::from("localhost:6000"), Address::Host("localhost".into(), 6000));
/// assert_eq!(Address::from("[::1]:6000"), Address::Socket("[::1]:6000".parse().unwrap()));
/// assert_eq!(Address::from("/run/a:6000"), Address::Path("/run/a:6000".into()));
/// assert_eq!(Address::from(Path::new("socket")), Address::from("socket"));
/// assert_eq!(Address::from(("localhost", 0)).to_string(), "localhost:0");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// TCP, at this address. A listener on port 0 gets a free one: see [`Listener::address`](super::Listener::address).
    Socket(SocketAddr),
    /// TCP, at a host's name and a port. Of several addresses of the host, the first one that works is taken. Looking
    /// the name up takes as long as the system lets it, whatever other limits say.
    Host(String, u16),
    /// A Unix socket, which is a file: for programs of one machine that may write to that file. Its path may have 107
    /// bytes.
    Path(PathBuf),
    /// A text that is no address, such as `"localhost:65536"`, `"localhost:http"` or `"[::1]"`: whoever uses it gets an
    /// error.
    Invalid(String),
}

impl Address {
    /// Calls `act` with the places that this address stands for, until it succeeds, and with how many there still are,
    /// that one included. `action` is what is attempted, as in "listen on".
    pub(super) fn first<R>(
        &self,
        action: &str,
        mut act: impl FnMut(SocketPlace<'_>, u32) -> std::io::Result<R>,
    ) -> Result<(R, SocketPlace<'_>)> {
        let addresses: Vec<_> = match self {
            Self::Path(path) => {
                let place = SocketPlace::File(path);
                return Ok((act(place, 1).map_err(|error| self.failed(action, error))?, place));
            }
            Self::Invalid(_) => {
                return Err(Error::invalid(format!(
                    "cannot {action} {self}: it is neither `host:port`, with a port from 0 to 65535, nor a path: one \
                     of a file that has a `:` in its name needs a `/`, as in `./name`"
                )));
            }
            Self::Socket(address) => vec![*address],
            Self::Host(host, port) => {
                let found = (host.as_str(), *port).to_socket_addrs();
                let no_host = |error| Error::os(format!("cannot {action} {self}, as its host is not found"), error);
                found.map_err(no_host)?.collect()
            }
        };
        let mut failed = None;
        for (tried, address) in addresses.iter().enumerate() {
            let place = SocketPlace::Internet(*address);
            match act(place, (addresses.len() - tried) as u32) {
                Ok(made) => return Ok((made, place)),
                Err(error) => failed = Some(error),
            }
        }
        let none = || std::io::Error::new(std::io::ErrorKind::NotFound, "the host has no address");
        Err(self.failed(action, failed.unwrap_or_else(none)))
    }

    fn failed(&self, action: &str, error: std::io::Error) -> Error {
        use std::io::ErrorKind::{
            AddrInUse, AddrNotAvailable, ConnectionRefused, NotFound, PermissionDenied, TimedOut,
        };
        let is_file = matches!(self, Self::Path(_));
        let why = match error.kind() {
            AddrInUse if is_file => ", as another listener, or a file that is no socket, is there",
            AddrInUse => ", as another listener has this address: choose another port, or 0 for one that is free",
            AddrNotAvailable => ", as it is no address of this machine",
            ConnectionRefused => ", as nobody listens there: start the listener first",
            NotFound if is_file && action.starts_with("connect") => {
                ", as there is no such file: start the listener first, with the same path"
            }
            NotFound if is_file => ", as there is no such directory",
            PermissionDenied if is_file => ", as this user may not use that file or directory",
            TimedOut => " in time, as nobody answers there",
            _ => "",
        };
        Error::os(format!("cannot {action} {self}{why}"), error)
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Socket(address)
    }
}

impl From<(&str, u16)> for Address {
    fn from((host, port): (&str, u16)) -> Self {
        let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        ip.map_or_else(|_| Self::Host(host.to_owned(), port), |ip| Self::Socket((ip, port).into()))
    }
}

impl From<(IpAddr, u16)> for Address {
    fn from(address: (IpAddr, u16)) -> Self {
        Self::Socket(address.into())
    }
}

impl From<&str> for Address {
    fn from(text: &str) -> Self {
        let Some((host, port)) = text.rsplit_once(':').filter(|_| !text.contains('/')) else {
            return Self::Path(text.into());
        };
        let port = port.parse::<u16>().ok().filter(|_| port.bytes().all(|digit| digit.is_ascii_digit()));
        match port.map(|port| Self::from((host, port))) {
            Some(address @ Self::Socket(_)) => address,
            // No name has a colon: `::1` is an address without a port.
            Some(address) if !host.is_empty() && !host.contains(':') => address,
            _ => Self::Invalid(text.to_owned()),
        }
    }
}

impl From<String> for Address {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<&String> for Address {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<&PathBuf> for Address {
    fn from(path: &PathBuf) -> Self {
        Self::Path(path.clone())
    }
}

impl From<&Self> for Address {
    fn from(address: &Self) -> Self {
        address.clone()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
            Self::Path(path) => write!(f, "`{}`", path.display()),
            Self::Invalid(text) => write!(f, "`{}`", text.escape_debug()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_paths_unless_they_end_with_a_port() {
        let host = |host: &str, port| Address::Host(host.into(), port);
        let path = |path: &str| Address::Path(path.into());
        let invalid = |text: &str| Address::Invalid(text.into());
        for (text, address) in [
            ("example.org:80", host("example.org", 80)),
            ("127.0.0.1:80", Address::Socket("127.0.0.1:80".parse().unwrap())),
            ("::1:80", Address::Socket("[::1]:80".parse().unwrap())),
            ("example.org", path("example.org")),
            ("./a:80", path("./a:80")),
            ("./a:http", path("./a:http")),
            ("a:http", invalid("a:http")),
            ("a:65536", invalid("a:65536")),
            ("127.0.0.1:65536", invalid("127.0.0.1:65536")),
            ("a:+80", invalid("a:+80")),
            ("a:", invalid("a:")),
            (":80", invalid(":80")),
            ("[::1]", invalid("[::1]")),
            ("::1", invalid("::1")),
            ("a:b:80", invalid("a:b:80")),
            ("", path("")),
        ] {
            assert_eq!(Address::from(text), address, "{text}");
            assert_eq!(Address::from(text.to_owned()), address, "{text}");
        }
    }

    #[test]
    fn each_address_of_a_host_is_tried_and_knows_how_many_are_left() {
        let host = Address::from("localhost:80");
        let mut told = Vec::new();
        let tried = host.first("connect to", |_, left| {
            told.push(left);
            Err::<(), _>(std::io::ErrorKind::TimedOut.into())
        });
        assert!(tried.is_err());
        assert_eq!(told, (1..=told.len() as u32).rev().collect::<Vec<_>>());
    }
}
