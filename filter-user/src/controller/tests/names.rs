//! Hosts that are known by name.

use serde_json::json;

use super::*;
use crate::dns::{Addresses, News};

fn resolved(controller: &mut Controller<NoKernel>, name: &str, addresses: &[[u8; 4]]) {
    let all = addresses.iter().copied().map(IpAddr::from).collect();
    let addresses = Addresses { all, left_out: 0, failed: None };
    controller.resolved(News { name: name.parse().unwrap(), addresses }, at(0));
}

#[test]
fn an_ignored_name_lets_its_address_in() {
    let mut controller = started_with(NoKernel::default(), |config| {
        let jail = config.jails.get_mut("asterisk-wazo").unwrap();
        jail.ignore_names = vec!["office.example.org".parse().unwrap()];
    });
    let office = [203, 0, 113, 7];
    fail(&mut controller, office, 15);
    fail(&mut controller, [203, 0, 113, 8], 14);
    ask(&mut controller, ban("203.0.113.9/32", None));
    assert_eq!(controller.bans.ledger().len(), 2);
    let jails = ask(&mut controller, Request::Jails);
    let name = &jails["jails"][0]["ignored_names"][0];
    assert_eq!((&name["name"], &name["state"]), (&json!("office.example.org"), &json!("waiting")));
    // The bans of the name's addresses are lifted, except the manual one.
    resolved(&mut controller, "office.example.org", &[office, [203, 0, 113, 8], [203, 0, 113, 9]]);
    let bans = ask(&mut controller, every_ban());
    assert_eq!(bans["bans"].as_array().unwrap().len(), 1);
    assert_eq!(bans["bans"][0]["network"], "203.0.113.9");
    fail(&mut controller, office, 30);
    fail(&mut controller, [203, 0, 113, 8], 14);
    assert_eq!(controller.bans.ledger().len(), 1);
    let why = ask(&mut controller, Request::Why { address: IpAddr::from(office) });
    assert_eq!(why["ignored_by"], json!(["asterisk-wazo"]));
    // The name has another address, so the old one is like any other.
    resolved(&mut controller, "office.example.org", &[[203, 0, 113, 10]]);
    fail(&mut controller, office, 15);
    assert_eq!(controller.bans.ledger().len(), 2);
}

#[test]
fn a_trusted_name_is_trusted_at_its_address() {
    let mut controller = started_with(NoKernel::default(), |config| {
        config.trusted_names = vec!["office.example.org".parse().unwrap()];
    });
    let office = [203, 0, 113, 7];
    fail(&mut controller, office, 15);
    resolved(&mut controller, "office.example.org", &[office]);
    assert!(controller.bans.ledger().is_empty());
    let network: IpNet = "203.0.113.7/32".parse().unwrap();
    assert!(controller.datapath_mut().trusted.contains(&network));
    assert!(refuse(&mut controller, ban("203.0.113.7/32", None)).contains("trusted"));
    let failed = Some("no server answers".to_owned());
    let news = News {
        name: "office.example.org".parse().unwrap(),
        addresses: Addresses { all: BTreeSet::from([IpAddr::from(office)]), left_out: 0, failed },
    };
    controller.resolved(news, at(0));
    let status = ask(&mut controller, Request::Status);
    assert_eq!(status["trusted_names"][0]["why"], "no server answers");
    assert!(controller.datapath_mut().trusted.contains(&network));
    resolved(&mut controller, "office.example.org", &[]);
    assert!(!controller.datapath_mut().trusted.contains(&network));
}
