//! How the daemon is reached over TCP.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use super::section::section;

/// What `listen` and `wazo_auth` may be.
const PLACE: &str = "an address and a port on the loopback interface, or `\"\"` for none";

section! {
    /// How the daemon is reached over TCP, and who may use it there.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Api {
        listen: Option<Loopback> = None,
            "Where the daemon offers the API and the page over TCP, on the loopback interface only. A client \
             needs a token of wazo-auth, a browser a login with `ringfence page`.",
            OrNone(PLACE, "127.0.0.1:9510");
        wazo_auth: Option<Loopback> = Some(Loopback(SocketAddr::from(([127, 0, 0, 1], 9497)))),
            "Where wazo-auth checks the tokens of clients over TCP; `\"\"` to accept no tokens.",
            OrNone(PLACE, "127.0.0.1:9497");
    }
}

/// A TCP port on the loopback interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loopback(SocketAddr);

impl Loopback {
    /// The address and the port.
    pub fn address(self) -> SocketAddr {
        self.0
    }
}

impl FromStr for Loopback {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Ok(address) = text.parse::<SocketAddr>() else {
            return Err("write an address and a port, such as `127.0.0.1:9510`".to_owned());
        };
        if !address.ip().is_loopback() {
            return Err(format!(
                "{} is not on the loopback interface; use `127.0.0.1:{}`, and a web server with TLS in \
                 front of it",
                address.ip(),
                address.port()
            ));
        }
        if address.port() == 0 {
            return Err("a port is from 1 to 65535".to_owned());
        }
        Ok(Self(address))
    }
}

impl fmt::Display for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_accepted() {
        for text in ["127.0.0.1:9510", "127.9.9.9:1", "[::1]:9510"] {
            assert_eq!(text.parse::<Loopback>().unwrap().to_string(), text);
        }
        for text in ["0.0.0.0:9510", "[::]:9510", "192.0.2.1:80", "[::ffff:192.0.2.1]:80"] {
            let why = text.parse::<Loopback>().unwrap_err();
            assert!(why.contains("not on the loopback interface"), "{text}: {why}");
        }
        for text in ["", "9510", "127.0.0.1", "localhost:9510", "127.0.0.1:0", "127.0.0.1:70000"] {
            assert!(text.parse::<Loopback>().is_err(), "{text}");
        }
    }
}
