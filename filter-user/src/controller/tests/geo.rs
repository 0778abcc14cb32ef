//! Where addresses are, and whom a policy must not shut out.

use std::sync::Arc;

use ::geo::Database;
use ::geo::writer::{Said, Writer};

use super::*;
use crate::config::Geo;
use crate::doctor::Trunks;
use crate::geo::Compiled;
use crate::host::Essential;

/// A policy over a database in which 185.0.0.0/16 is in Germany, and 185.1.0.0/16 in China.
fn compiled(bans: &str, admits: &str) -> Arc<Compiled> {
    let mut writer = Writer::default();
    for (network, country) in [("185.0.0.0/16", "DE"), ("185.1.0.0/16", "CN")] {
        writer.add(network.parse().unwrap(), &Said::Country(country.to_owned()));
    }
    let database = Database::read(writer.bytes("Test-Country")).unwrap();
    let databases = vec![("/country.mmdb".to_owned(), database)];
    let places = |text: &str| text.split_terminator(',').map(|one| one.parse().unwrap()).collect();
    let settings = Geo {
        databases: vec!["/country.mmdb".into()],
        ban: places(bans),
        admit: places(admits),
        ..Geo::default()
    };
    let policy = settings.policy().unwrap();
    let table = Some(::geo::compile(&databases, &policy).unwrap());
    Arc::new(Compiled { settings, databases, table, stamps: Vec::new() })
}

fn with_known(known: &[[u8; 4]]) -> Controller<NoKernel> {
    let known = known.iter().map(|octets| IpAddr::from(*octets)).collect();
    started_with(NoKernel { known, ..NoKernel::default() }, |_| {})
}

#[test]
fn who_must_not_be_shut_out() {
    let table = compiled("CN", "");
    let objections = |controller: &Controller<NoKernel>, session: Option<&str>| {
        controller.geo_objections(&table, session.map(|text| text.parse().unwrap()), at(1))
    };
    let mut controller = with_known(&[[185, 0, 0, 1], [185, 1, 0, 1]]);
    assert!(objections(&controller, None).is_empty(), "half of the known peers");
    assert!(objections(&controller, Some("185.0.0.9")).is_empty());
    let found = objections(&controller, Some("185.1.0.9"));
    assert!(found[0].contains("185.1.0.9 (CN), from which an SSH session comes"), "{found:?}");
    let gateways = ["185.1.0.254".parse().unwrap()].into();
    let essential = Essential { gateways, ..Essential::default() };
    controller.set_essentials(&essential, &Trunks::default(), at(1));
    let found = objections(&controller, None);
    assert!(found[0].contains("the default gateway 185.1.0.254 (CN)"), "{found:?}");
    // The table leaves it out even if it is forced.
    assert!(controller.geo_exceptions().contains(&"185.1.0.254/32".parse().unwrap()));

    let controller = with_known(&[[185, 0, 0, 1], [185, 1, 0, 1], [185, 1, 0, 2]]);
    let found = objections(&controller, None);
    assert!(found[0].contains("2 of the 3 known peers"), "{found:?}");
    assert!(found[0].contains("185.1.0.1 (CN)"), "{found:?}");
    let none = with_known(&[]);
    assert!(objections(&none, None).is_empty());
    // Peers that are forgotten at night count for a week.
    let mut controller = with_known(&[[185, 1, 0, 1], [185, 1, 0, 2]]);
    controller.remember_peers(at(1));
    controller.datapath.known = vec![[185, 0, 0, 1].into()];
    let then = |seconds| controller.geo_objections(&table, None, at(seconds));
    assert!(then(6 * 24 * 3600)[0].contains("2 of the 3 known peers"));
    assert!(then(8 * 24 * 3600).is_empty());
}

#[test]
fn a_policy_is_forced_until_it_changes() {
    let mut controller = with_known(&[]);
    let (one, other) = (compiled("CN", ""), compiled("", "DE"));
    controller.want_geo(&one.settings);
    assert!(!controller.is_geo_forced(&one.settings));
    controller.force_geo(Some(&one.settings));
    assert!(controller.is_geo_forced(&one.settings) && !controller.is_geo_forced(&other.settings));
    let dry = Geo { dry_run: true, ..one.settings.clone() };
    controller.want_geo(&dry);
    assert!(controller.is_geo_forced(&dry));
    controller.want_geo(&other.settings);
    assert!(!controller.is_geo_forced(&one.settings));
}

#[test]
fn what_a_database_says_is_shown() {
    let mut controller = with_known(&[[185, 1, 0, 1]]);
    let table = compiled("CN", "");
    controller.want_geo(&table.settings);
    let status =
        |controller: &mut Controller<NoKernel>| ask(controller, Request::Status)["geo"].clone();
    assert_eq!(status(&mut controller)["state"], "waiting");
    controller.note_geo(Some((api::GeoState::Failing, "it is broken".to_owned())));
    let failing = status(&mut controller);
    assert_eq!((&failing["state"], &failing["in_force"]), (&"failing".into(), &false.into()));
    controller.use_geo(Arc::clone(&table), at(1)).unwrap();
    let shown = status(&mut controller);
    assert_eq!(shown["policy"], "ban CN");
    assert_eq!((&shown["state"], &shown["networks"]), (&"ok".into(), &1.into()));
    assert_eq!(shown["databases"][0]["kind"], "Test-Country");

    let mut why = |address: &str| {
        let why = ask(&mut controller, Request::Why { address: address.parse().unwrap() });
        (why["place"]["country"].clone(), why["shut_out"] == true, why["dropped"] == true)
    };
    assert_eq!(why("185.1.0.9"), ("CN".into(), true, true));
    assert_eq!(why("185.0.0.9"), ("DE".into(), false, false));
    assert_eq!(why("185.1.0.1"), ("CN".into(), false, false), "a known peer");
    assert_eq!(why("8.8.8.8"), (Value::Null, false, false));
}

#[test]
fn the_first_login_from_another_country_is_told() {
    let login = |address: [u8; 4]| Attempt {
        answered: true,
        ..Attempt::new(Verdict::Success, Class::Challenge, address.into())
    };
    let (german, chinese, nowhere) = ([185, 0, 0, 1], [185, 1, 0, 1], [8, 8, 8, 8]);
    let is_new = |known: &[[u8; 4]], before: &[[u8; 4]], address: [u8; 4]| {
        let mut controller = with_known(known);
        assert_eq!(controller.new_country(address.into()), None, "without a database");
        controller.use_geo(compiled("", "DE"), at(1)).unwrap();
        for address in before {
            controller.observe(&login(*address), 0, "asterisk-wazo", at(2));
        }
        let told = controller.new_country(address.into()).map(|country| country.to_string());
        assert_eq!(controller.new_country(address.into()), None, "it is told once");
        told
    };
    assert_eq!(is_new(&[], &[], german), None, "the first of all");
    assert_eq!(is_new(&[], &[german], chinese).as_deref(), Some("CN"));
    assert_eq!(is_new(&[german], &[], chinese).as_deref(), Some("CN"));
    assert_eq!(is_new(&[german, chinese], &[], chinese), None);
    assert_eq!(is_new(&[german], &[chinese], chinese), None);
    assert_eq!(is_new(&[german], &[], nowhere), None);

    // It is kept over a restart.
    let key = ("geo-login".to_owned(), "DE".to_owned());
    let mut controller = with_known(&[]);
    controller.load_geo(&[(key, "true".to_owned())].into());
    controller.use_geo(compiled("", "DE"), at(1)).unwrap();
    assert_eq!(controller.new_country(german.into()), None);
    assert!(controller.new_country(chinese.into()).is_some());
}
