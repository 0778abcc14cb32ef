//! The API over TCP, on the loopback interface: takes requests with a token of wazo-auth.
//!
//! A browser on this host, or one that comes through a web server, can be made to send requests by any site. So the
//! names in `Host` and `Origin` must be those of this host.
//!
//! Must never serve another interface, or believe what a client says about itself.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::{ErrorId, Refusal, Reply, Request};
use bytes::Bytes;
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use log::{debug, info, warn};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::asks::{Asks, LISTENERS_OF_OTHERS};
use super::clients::Clients;
use super::http::{self, Author, Backend, Needs, PATIENCE, Page};
use super::page::Pages;
use super::tokens::Tokens;
use crate::config::Loopback;
use crate::metrics::Format;

/// How long to wait for the port while another program has it.
const RETRY: Duration = Duration::from_secs(5);

/// The header with a token, as Wazo's daemons read it.
const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// The header with the name by which a browser reached the web server before this one.
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Serves clients until it is aborted.
pub(super) async fn serve(at: Loopback, wazo_auth: Option<Loopback>, asks: Asks) {
    let listener = bind(at).await;
    info!("the API is at http://{at}/");
    accept(&listener, wazo_auth, asks).await;
}

/// Listens as soon as the port is free: the filter does not depend on it.
async fn bind(at: Loopback) -> TcpListener {
    let mut is_told = false;
    loop {
        match TcpListener::bind(at.address()).await {
            Ok(listener) => return listener,
            Err(error) if !is_told => {
                warn!("the API cannot be offered at {at}: {error}");
                is_told = true;
            }
            Err(_) => {}
        }
        sleep(RETRY).await;
    }
}

async fn accept(listener: &TcpListener, wazo_auth: Option<Loopback>, asks: Asks) {
    let (clients, tokens) = (Clients::default(), Arc::new(Tokens::new(wazo_auth)));
    for number in 0_u64.. {
        match listener.accept().await {
            Ok((stream, _)) if clients.make_room() => {
                let (asks, clients_too) = (asks.clone(), clients.clone());
                let tokens = Arc::clone(&tokens);
                clients.serve(
                    number,
                    stream,
                    Remote { asks, tokens, number, clients: clients_too },
                );
            }
            Ok((stream, _)) => {
                if let Err(error) = stream.try_write(http::refused().as_bytes()) {
                    debug!("TCP: {error}");
                }
            }
            Err(error) => {
                // Probably out of descriptors: other clients must finish first.
                warn!("clients over TCP cannot be accepted now: {error}");
                sleep(PATIENCE).await;
            }
        }
    }
}

/// A client over TCP.
struct Remote {
    asks: Asks,
    tokens: Arc<Tokens>,
    number: u64,
    clients: Clients,
}

impl Backend for Remote {
    fn arrived(&self) {
        self.clients.arrived(self.number);
    }

    fn greet(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        greet(headers)
    }

    async fn admit(&self, headers: &HeaderMap, needs: Needs) -> Result<Author, Refusal> {
        let token = headers.get(TOKEN).map(HeaderValue::as_bytes);
        let user = self.tokens.check(token, needs.acl).await?;
        // What it says about an SSH session is not believed.
        Ok(Author { who: format!("the Wazo user {user}"), ..Author::default() })
    }

    async fn answer(&self, request: Request, author: Author) -> Reply {
        self.asks.put(request, author).await
    }

    async fn page(&self, uri: &str, headers: &HeaderMap) -> Option<Page> {
        let logins = self.asks.logins.as_deref()?;
        let pages = Pages { asks: &self.asks, logins, tokens: &self.tokens };
        pages.get(uri, headers).await
    }

    fn listen(&self) -> Result<mpsc::Receiver<Bytes>, Refusal> {
        let listener = self.asks.listen(LISTENERS_OF_OTHERS)?;
        // It has a place among the listeners instead.
        self.clients.leave(self.number);
        Ok(listener)
    }

    async fn metrics(&self, format: Format) -> Result<String, Refusal> {
        self.asks.metrics(format).await
    }
}

/// Whether the names that a client used are those of this host.
fn greet(headers: &HeaderMap) -> Result<(), Refusal> {
    let one = |name: &HeaderName| -> Option<&str> {
        let mut all = headers.get_all(name).iter();
        let only = all.next()?.to_str().unwrap_or_default();
        Some(if all.next().is_some() { "" } else { only })
    };
    let host = one(&HOST).unwrap_or_default();
    if !is_this_host(host) {
        let why = "`Host` must be `localhost` or an address of the loopback interface; a web server in front \
            of it sets this, as in the example for nginx";
        return Err(Refusal::new(ErrorId::Forbidden, why));
    }
    let Some(origin) = one(&ORIGIN) else { return Ok(()) };
    let site = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    let own = [Some(host), one(&FORWARDED_HOST)];
    if site.is_some_and(|site| !site.is_empty() && own.contains(&Some(site))) {
        return Ok(());
    }
    Err(Refusal::new(ErrorId::Forbidden, "a page of another site must not send requests"))
}

/// Whether a host, with or without a port, is the loopback interface. Any other name may be one that a site has
/// had point here.
fn is_this_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
