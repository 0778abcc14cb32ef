//! `ringfence ban` and `unban`, of one network or of many.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use api::{BannedMany, Lifted, Order, Request};
use filter_user::cli::{Ban, Cli, Unban, Which};
use filter_user::logging::say;
use filter_user::orders::{self, Ask, Read, RefusedOrder};
use filter_user::{ban_list, client, report};
use ipnet::IpNet;
use jiff::Timestamp;
use log::Level;

use super::common::{Reported, ask, asker, print, print_json, socket};

pub(crate) fn ban(cli: &Cli, ban: &Ban) -> Result<()> {
    let session = client::session().filter(|_| !ban.force);
    let seconds = (!ban.forever).then_some(ban.time.as_secs().max(1));
    if let [network] = ban.which.networks[..] {
        let shuts_out = |from: &IpAddr| {
            network.contains(from) && !ban.except.iter().any(|exception| exception.contains(from))
        };
        if let Some(session) = session.filter(shuts_out) {
            bail!(orders::shut_out(session));
        }
        let request = Request::Ban {
            network,
            seconds,
            scope: ban.scope.clone(),
            except: ban.except.clone(),
            reason: ban.reason.clone(),
            force: ban.force,
        };
        return ask(cli, &request, ban.output.json, report::banned);
    }
    let default = Order {
        network: IpNet::default(),
        seconds,
        scope: ban.scope.clone(),
        except: Vec::new(),
        reason: ban.reason.clone(),
        jail: None,
    };
    let now = Timestamp::now();
    let order = |found| match found {
        Ok(found) => orders::order(found, &default, session, now),
        Err(why) => Read::Refused(None, why),
    };
    let listed = |network: &IpNet| {
        let inside = |exception: &&IpNet| network.contains(*exception);
        let except = ban.except.iter().filter(inside).copied().collect();
        let (end, scope, jail, reason) = (None, None, None, None);
        ban_list::Ban { network: *network, end, scope, jail, except, reason }
    };
    let is_inside =
        |exception: &IpNet| ban.which.networks.iter().any(|net| net.contains(exception));
    if let Some(outside) = ban.except.iter().find(|exception| !is_inside(exception)) {
        bail!("{outside} is not inside any of the networks, as `--except` requires");
    }
    let orders: Orders<Order> = if let Some(path) = &ban.which.from {
        Box::new(lines(path)?.map(|line| {
            let (number, found) = line?;
            Ok((Some(number), order(found)))
        }))
    } else {
        let networks = ban.which.networks.iter();
        Box::new(networks.map(|network| Ok((None, order(Ok(listed(network)))))))
    };
    let socket = socket(cli)?;
    let ask = |bans| {
        let request = Request::BanMany { bans, force: ban.force };
        Ok(client::ask_as::<BannedMany>(&socket, &request)?.into())
    };
    carried_out(orders, ban.which.from.as_deref(), ("made", ban.output.json), ask)
}

/// Orders as they are read, with the numbers of their lines.
pub(crate) type Orders<'a, T> = Box<dyn Iterator<Item = Result<(Option<u64>, Read<T>)>> + 'a>;

/// The lines of a file for `--from`.
pub(crate) fn lines(
    path: &Path,
) -> Result<impl Iterator<Item = Result<(u64, Result<ban_list::Ban, String>)>>> {
    let input: Box<dyn BufRead> = if path.as_os_str() == "-" {
        Box::new(BufReader::new(io::stdin()))
    } else {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        Box::new(BufReader::new(file))
    };
    let read = format!("read {}", path.display());
    Ok(ban_list::Lines::new(input).map(move |line| line.with_context(|| read.clone())))
}

/// Has orders carried out, and prints what became of them.
pub(crate) fn carried_out<T: Ask>(
    orders: Orders<'_, T>,
    from: Option<&Path>,
    (verb, json): (&str, bool),
    ask: impl FnMut(Vec<T>) -> Result<orders::Answer>,
) -> Result<()> {
    let report = |refused: &RefusedOrder| {
        let RefusedOrder { line, network, error } = refused;
        let place = match (from, line) {
            (Some(from), Some(line)) => format!("{}:{line}: ", from.display()),
            _ => String::new(),
        };
        // Most reasons of the daemon begin with the network.
        let named = network.iter().find(|network| !error.contains(&***network));
        let network = named.map_or_else(String::new, |network| format!("{network}: "));
        say(Level::Error, &format!("{place}{network}{error}"));
    };
    let outcome = orders::carry_out(orders, report, ask)?;
    if json {
        print_json(&outcome)?;
    } else {
        print(&report::carried_out(verb, &outcome))?;
    }
    match outcome.refused_count {
        0 => Ok(()),
        refused => {
            let all = outcome.done.saturating_add(refused);
            Err(Reported(format!("{refused} of {all} were refused")).into())
        }
    }
}

pub(crate) fn lift(cli: &Cli, unban: &Unban) -> Result<()> {
    let Which { networks, from, jail, .. } = &unban.which;
    let which = match (&networks[..], from, jail) {
        ([network], ..) if let Some(reason) = &unban.reason => {
            api::Unban::Manual { network: *network, reason: reason.clone() }
        }
        _ if unban.reason.is_some() => bail!("`--reason` accepts one network at a time"),
        ([network], ..) => api::Unban::Network { network: *network, inside: unban.inside },
        ([], None, Some(jail)) => api::Unban::Jail { jail: jail.clone() },
        ([], None, None) => api::Unban::All,
        _ if unban.inside => bail!("`--inside` accepts one network at a time"),
        _ => return lift_several(cli, unban),
    };
    let mut asker = asker(cli)?;
    let answer = asker.ask(&Request::Unban(which))?;
    asker.end()?;
    print(&if unban.output.json {
        format!("{answer:#}\n")
    } else {
        report::lifted(&client::read(answer)?)
    })
}

pub(crate) fn lift_several(cli: &Cli, unban: &Unban) -> Result<()> {
    let Which { networks, from, .. } = &unban.which;
    let orders: Orders<IpNet> = match from {
        Some(path) => Box::new(lines(path)?.map(|line| {
            let (number, found) = line?;
            let order = match found {
                Ok(found) => Read::Order(found.network),
                Err(why) => Read::Refused(None, why),
            };
            Ok((Some(number), order))
        })),
        None => Box::new(networks.iter().map(|network| Ok((None, Read::Order(*network))))),
    };
    let mut asker = asker(cli)?;
    let ask = |networks| {
        let request = Request::Unban(api::Unban::Networks { networks });
        Ok(client::read::<Lifted>(asker.ask(&request)?)?.into())
    };
    let done = carried_out(orders, from.as_deref(), ("lifted", unban.output.json), ask);
    asker.end().and(done)
}
