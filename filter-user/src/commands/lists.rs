//! The lists that a daemon gives: bans, a jail, known peers, the history, feeds, alerts and the fleet.

use std::io::{self, BufWriter};

use anyhow::Result;
use api::{AlertsTested, BansPage, BansQuery, HistoryQuery, Request};
use filter_user::cli::{
    AlertsOf, AlertsVerb, Bans, Cli, FeedsOf, FeedsTest, FeedsVerb, FleetVerb, HistoryOf,
};
use filter_user::config::Config;
use filter_user::{alerts, client, decided, feeds, fleet, listed, listing};
use ipnet::IpNet;

use super::common::{Reported, ask, asker, print, print_json, socket};

pub(crate) fn list(cli: &Cli, bans: &Bans) -> Result<()> {
    let mut asker = asker(cli)?;
    let how = listing::How { sort: bans.sort, limit: bans.limit };
    let query = BansQuery {
        jail: bans.jail.clone(),
        scope: bans.scope.clone(),
        inside: bans.inside,
        since_seconds: bans.since.map(|since| since.as_secs()),
        ..how.narrowed()
    };
    let page = |after| {
        let query = BansQuery { after, ..query.clone() };
        let mut page: BansPage = client::read(asker.ask(&Request::Bans(query))?)?;
        page.bans.retain(|row| !bans.own || listing::is_own(row));
        Ok(page)
    };
    let out = BufWriter::new(io::stdout().lock());
    if bans.export {
        return listing::export(page, out);
    }
    listing::list(page, how, bans.output.json, out)
}

pub(crate) fn jail(cli: &Cli, name: &str, json: bool) -> Result<()> {
    let socket = socket(cli)?;
    let jails = client::ask_as(&socket, &Request::Jails)?;
    let status = client::ask_as(&socket, &Request::Status)?;
    let jail = listed::Jail::of(name, jails, status)?;
    if json { print_json(&jail) } else { print(&listed::jail(&jail)) }
}

pub(crate) fn peers(cli: &Cli, inside: Option<IpNet>, json: bool) -> Result<()> {
    let socket = socket(cli)?;
    let page = |after| client::ask_as(&socket, &Request::Peers { inside, after });
    listed::peers(page, json, BufWriter::new(io::stdout().lock()))
}

pub(crate) fn history(cli: &Cli, arguments: &HistoryOf) -> Result<()> {
    let socket = socket(cli)?;
    let HistoryOf { network, since, output } = arguments;
    let since_seconds = since.map(|since| since.as_secs());
    let page = |before| {
        let query = HistoryQuery { network: *network, since_seconds, before };
        client::ask_as(&socket, &Request::History(query))
    };
    decided::history(page, output.json, BufWriter::new(io::stdout().lock()))
}

/// `fleet`.
pub(crate) fn of_fleet(cli: &Cli, verb: &FleetVerb) -> Result<()> {
    match verb {
        FleetVerb::Status(output) => ask(cli, &Request::Fleet, output.json, fleet::status),
        FleetVerb::Hosts(output) => ask(cli, &Request::Fleet, output.json, fleet::hosts),
        FleetVerb::Cut { host, output } => {
            let request = Request::FleetCut { host: host.clone() };
            ask(cli, &request, output.json, fleet::changed)
        }
        FleetVerb::Join { host, output } => {
            let request = Request::FleetJoin { host: host.clone() };
            ask(cli, &request, output.json, fleet::changed)
        }
    }
}

pub(crate) fn of_feeds(cli: &Cli, arguments: &FeedsOf) -> Result<()> {
    match &arguments.verb {
        None => ask(cli, &Request::Feeds, arguments.output.json, feeds::text::listed),
        Some(FeedsVerb::Confirm { name, output }) => {
            let request = Request::FeedsConfirm { name: name.clone() };
            ask(cli, &request, output.json, feeds::text::confirmed)
        }
        Some(FeedsVerb::Test(FeedsTest { place, format, key_file, output })) => {
            let (loaded, _) = Config::load_what_is_right(cli.config.as_deref());
            let (place, format) = (place.clone(), format.clone());
            let (key_file, trusted) = (key_file.clone(), loaded.config.trusted);
            let test = feeds::test(feeds::Once { place, format, key_file, trusted })?;
            if output.json { print_json(&test) } else { print(&feeds::text::tested(&test)) }
        }
    }
}

pub(crate) fn of_alerts(cli: &Cli, arguments: &AlertsOf) -> Result<()> {
    let AlertsOf { verb, output } = arguments;
    let Some(AlertsVerb::Test { name, output }) = verb else {
        return ask(cli, &Request::Alerts, output.json, alerts::text::listed);
    };
    let request = Request::AlertsTest { name: name.clone() };
    let tested: AlertsTested = client::ask_as(&socket(cli)?, &request)?;
    if output.json {
        print_json(&tested)?;
    } else {
        print(&alerts::text::tested(&tested))?;
    }
    let failed = tested.tested.iter().filter(|one| one.problem.is_some()).count();
    match failed {
        0 => Ok(()),
        failed => {
            Err(Reported(format!("{failed} of {} were not sent", tested.tested.len())).into())
        }
    }
}
