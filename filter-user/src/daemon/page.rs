//! Serves the page over TCP: who may see it, which answers a view needs, and the headers that go with it.
//!
//! A browser shows a login (a cookie, for which it got a link that root made) or a token in `X-Auth-Token`, which a
//! web server may add.
//!
//! Must never change anything for a browser, whatever it sends.

use std::net::IpAddr;
use std::time::Instant;

use api::{
    ActivePage, ActiveQuery, Answer, BansPage, BansQuery, ErrorId, Refusal, Reply, Request, Status,
    acl, find,
};
use hyper::header::{COOKIE, HeaderMap};
use percent_encoding::percent_decode_str;

use super::asks::Asks;
use super::http::{Author, Page};
use super::logins::{LOGIN, Logins};
use super::tokens::Tokens;
use crate::page::traffic::Range;
use crate::page::{self, View};

/// The name of the cookie.
const LOGIN_COOKIE: &str = "ringfence";

/// The attackers on the view of what happens now.
const ATTACKERS: u16 = 20;

/// The bans on a page.
const BANS: u16 = 100;

/// The parts of the list of bans in which those that a query wants are searched for one page.
const PARTS: usize = 32;

/// Who may see the page, and where its answers come from.
pub(super) struct Pages<'a> {
    pub(super) asks: &'a Asks,
    pub(super) logins: &'a Logins,
    pub(super) tokens: &'a Tokens,
}

/// What a path leads to.
enum Target {
    Style,
    Icon,
    Login,
    View(View),
}

fn target(path: &str) -> Option<Target> {
    Some(match path {
        "/style.css" => Target::Style,
        "/icon.svg" => Target::Icon,
        "/login" => Target::Login,
        "/" => Target::View(View::Now),
        "/traffic" => Target::View(View::Traffic),
        "/bans" => Target::View(View::Bans),
        "/why" => Target::View(View::Why),
        "/jails" => Target::View(View::Jails),
        "/findings" => Target::View(View::Findings),
        _ => return None,
    })
}

impl Pages<'_> {
    /// The reply to a `GET` of the page; `None` if the path is no part of it.
    pub(super) async fn get(&self, uri: &str, headers: &HeaderMap) -> Option<Page> {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        Some(match target(path)? {
            Target::Style => Page::new("text/css; charset=utf-8", page::STYLE.to_owned()),
            Target::Icon => Page::new("image/svg+xml", page::ICON.to_owned()),
            Target::Login => self.log_in(query, headers),
            Target::View(view) => {
                if !self.may_see(headers).await {
                    return Some(Page { status: 401, ..Page::html(page::login()) });
                }
                match self.view(view, query).await {
                    Ok(text) => Page::html(text),
                    Err(Refusal { id, message }) => {
                        let text =
                            page::message("There is no answer", &maud::html! { p { (message) } });
                        Page { status: id.status(), ..Page::html(text) }
                    }
                }
            }
        })
    }

    /// Turns the key of a link into a login.
    fn log_in(&self, query: &str, headers: &HeaderMap) -> Page {
        let key = parameter(query, "key").unwrap_or_default();
        let Some(login) = self.logins.log_in(&key, Instant::now()) else {
            return Page { status: 401, ..Page::html(page::login()) };
        };
        // Without a path the cookie belongs to the directory of this one, also behind a web server.
        let is_https = headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
        let secure = if is_https { "; Secure" } else { "" };
        let cookie = format!(
            "{LOGIN_COOKIE}={}; Max-Age={}; HttpOnly; SameSite=Strict{secure}",
            login.as_str(),
            LOGIN.as_secs()
        );
        Page {
            status: 303,
            cookie: Some(cookie),
            location: Some("./"),
            ..Page::html(String::new())
        }
    }

    async fn may_see(&self, headers: &HeaderMap) -> bool {
        let now = Instant::now();
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut keys = cookies
            .flat_map(|all| all.split(';'))
            .filter_map(|one| one.trim().strip_prefix(LOGIN_COOKIE)?.strip_prefix('='));
        if keys.any(|key| self.logins.is_login(key, now)) {
            return true;
        }
        match headers.get("x-auth-token") {
            Some(token) => self.tokens.check(Some(token.as_bytes()), acl::PAGE).await.is_ok(),
            None => false,
        }
    }

    async fn view(&self, view: View, query: &str) -> Result<String, Refusal> {
        let content = match view {
            View::Now => {
                let rates = self.asks.traffic.rates();
                page::now::view(&self.status().await?, &self.active().await?, rates)
            }
            View::Traffic => {
                let range = Range::named(&parameter(query, "range").unwrap_or_default());
                let past = self.ask(Request::Traffic(range.query())).await?;
                let Answer::Traffic(past) = past else { return Err(other()) };
                page::traffic::view(range, &past)
            }
            View::Bans => self.bans(query).await?,
            View::Why => self.why(query).await,
            View::Jails => {
                let Answer::Jails(jails) = self.ask(Request::Jails).await? else {
                    return Err(other());
                };
                let Answer::Feeds(feeds) = self.ask(Request::Feeds).await? else {
                    return Err(other());
                };
                page::jails::view(&jails, &self.status().await?, &feeds)
            }
            View::Findings => {
                page::findings::view(&*self.asks.findings.get(self.status().await?).await)
            }
        };
        let refreshes = query.split('&').any(|pair| pair == "refresh");
        Ok(page::whole(view, refreshes, &content))
    }

    async fn ask(&self, request: Request) -> Result<Answer, Refusal> {
        let author = Author { who: "the page".to_owned(), ..Author::default() };
        match self.asks.put(request, author).await {
            Reply::Ok(answer) => Ok(answer),
            Reply::Error(refusal) => Err(refusal),
        }
    }

    async fn status(&self) -> Result<Status, Refusal> {
        let Answer::Status(status) = self.ask(Request::Status).await? else { return Err(other()) };
        Ok(*status)
    }

    async fn active(&self) -> Result<ActivePage, Refusal> {
        let query = ActiveQuery { limit: ATTACKERS.try_into().ok(), packets: Vec::new() };
        let Answer::Active(active) = self.ask(Request::Active(query)).await? else {
            return Err(other());
        };
        Ok(active)
    }

    async fn bans(&self, query: &str) -> Result<maud::Markup, Refusal> {
        let status = self.status().await?;
        // A form sends its empty fields too.
        let filled = query
            .split('&')
            .filter(|pair| pair.split_once('=').is_some_and(|(_, v)| !v.is_empty()));
        let filled: Vec<&str> = filled.collect();
        let mut query = match find("GET", &format!("/1.0/bans?{}", filled.join("&")), b"") {
            Ok((_, Request::Bans(query))) => query,
            Ok(_) => return Err(other()),
            Err(refusal) => return Ok(page::bans::wrong(&status, &Reply::Error(refusal))),
        };
        query.limit = query.limit.or(BANS.try_into().ok());
        match self.bans_page(query.clone()).await {
            Ok(bans) => Ok(page::bans::view(&status, &query, &bans)),
            Err(refusal) => Ok(page::bans::wrong(&status, &Reply::Error(refusal))),
        }
    }

    /// The next page that has any bans.
    async fn bans_page(&self, mut query: BansQuery) -> Result<BansPage, Refusal> {
        let mut last = BansPage::default();
        for _ in 0..PARTS {
            let Answer::Bans(page) = self.ask(Request::Bans(query.clone())).await? else {
                return Err(other());
            };
            last = page;
            if !last.bans.is_empty() || last.next.is_none() {
                break;
            }
            query.after = last.next;
        }
        Ok(last)
    }

    async fn why(&self, query: &str) -> maud::Markup {
        let typed = parameter(query, "address").unwrap_or_default();
        let typed = typed.trim();
        if typed.is_empty() {
            return page::why::form("");
        }
        let Ok(address) = typed.parse::<IpAddr>() else {
            let why = "this is not an address; write one such as 203.0.113.7 or 2001:db8::7";
            return page::why::wrong(typed, &Reply::Error(why.into()));
        };
        match self.ask(Request::Why { address }).await {
            Ok(Answer::Why(why)) => page::why::view(&why),
            Ok(_) => page::why::wrong(typed, &Reply::Error(other())),
            Err(refusal) => page::why::wrong(typed, &Reply::Error(refusal)),
        }
    }
}

/// An answer to another request, which cannot be.
fn other() -> Refusal {
    Refusal::new(ErrorId::Failed, "the answer is that to another request")
}

/// A parameter of a query.
fn parameter(query: &str, name: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    let value = value.replace('+', " ");
    Some(percent_decode_str(&value).decode_utf8_lossy().into_owned())
}
