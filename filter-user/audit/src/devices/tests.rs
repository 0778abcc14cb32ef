use api::Severity::{Critical, Note, Warning};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// As wazo-provd answered, run from its source with configurations like those that Wazo's wizard makes; the
/// passwords are made up.
const CONFIGS: &str = include_str!("configs.json");
const DEVICES: &str = include_str!("devices.json");

/// Every password in the fixture.
const SECRETS: [&str; 6] =
    ["Vq3wXk81LmZr07Tb", "p7RtY2mNc94KsQd1", "SipSecret", "7391", "Kx2-", "h8Tz4LmQ0aWe"];

fn inventory() -> Inventory {
    Inventory::new(CONFIGS.as_bytes(), parse_devices(DEVICES.as_bytes()).unwrap()).unwrap()
}

fn said(examined: &Examined) -> Vec<(&str, api::Severity)> {
    examined.findings.iter().map(|one| (&*one.id, one.severity)).collect()
}

#[test]
fn the_findings_about_a_wazo() {
    let examined = examine(&inventory(), &HttpAuth::None, &[]);
    assert_eq!(
        said(&examined),
        [
            ("device-password/admin/name/lobby", Critical),
            ("device-password/admin/digits/numbers", Critical),
            ("device-password/admin/vendor/spare", Warning),
            ("device-password/admin/missing/bare", Critical),
            ("device-password/admin/inherited", Note),
            ("device-password/user/empty/lobby", Warning),
            ("device-password/user/short/d5", Note),
            ("device-password/user/missing/bare", Warning),
            ("device-password/user/missing/spare", Note),
            ("device-password/user/inherited", Note),
            ("device-password/admin/shared/defaultconfigdevice", Warning),
            ("device-public/00_11_22_33_44_02", Warning),
            ("device-unconfigured", Note),
            ("provisioning-without-key", Critical),
        ]
    );
    let fixes: Vec<(&str, Field)> =
        examined.fixes.iter().map(|fix| (&*fix.config, fix.field)).collect();
    assert_eq!(
        fixes,
        [
            ("lobby", Field::Admin),
            ("numbers", Field::Admin),
            ("spare", Field::Admin),
            ("bare", Field::Admin),
            ("d5", Field::User),
            ("lobby", Field::User),
            ("bare", Field::User),
            ("spare", Field::User),
            ("defaultconfigdevice", Field::Admin),
            ("numbers", Field::User),
        ]
    );
    let text = format!("{examined:?}{:?}", inventory());
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[test]
fn a_fresh_wazo_has_only_notes() {
    let devices: Vec<Device> = parse_devices(DEVICES.as_bytes()).unwrap();
    let mut configs: Value = serde_json::from_str(CONFIGS).unwrap();
    configs["configs"].as_array_mut().unwrap().retain(|one| {
        ["base", "default", "defaultconfigdevice", "autoprov", "d1", "d6"]
            .contains(&one["id"].as_str().unwrap())
    });
    let devices = devices.into_iter().filter(|one| ["d1", "d6"].contains(&&*one.id)).collect();
    let inventory = Inventory::new(configs.to_string().as_bytes(), devices).unwrap();
    let examined = examine(&inventory, &HttpAuth::Key, &[]);
    assert_eq!(
        said(&examined),
        [("device-password/admin/inherited", Note), ("device-password/user/inherited", Note)]
    );
    assert!(examined.fixes.is_empty());
}

#[test]
fn a_plugin_that_accepts_only_digits() {
    let configs = |password: &str| {
        let template = json!({"id": "t", "X_type": "device", "parent_ids": [],
                              "raw_config": {"admin_password": password, "user_password": "Rr7-xPq2LmZ"}});
        json!({"configs": [template, config("d", &["t"], &json!({}))]}).to_string()
    };
    let device = Device {
        config: Some("d".to_owned()),
        plugin: Some("wazo-alcatel-2.01.20".to_owned()),
        ..Device::default()
    };
    let examined = |password: &str| {
        let answer = configs(password);
        let inventory = Inventory::new(answer.as_bytes(), vec![device.clone()]).unwrap();
        examine(&inventory, &HttpAuth::Unknown, &[])
    };
    let found = examined("Vq3wXk81LmZr07Tb");
    assert_eq!(said(&found), [("device-password/admin/ignored/t", Critical)]);
    assert!(found.fixes[0].only_digits && found.fixes.len() == 1);
    assert!(said(&examined("8392017455120391")).is_empty());
}

#[test]
fn networks_of_ones_own_are_not_public() {
    let own = ["203.0.113.0/24".parse().unwrap()];
    let examined = examine(&inventory(), &HttpAuth::Unknown, &own);
    assert!(said(&examined).iter().all(|(id, _)| !id.starts_with("device-public")));
    assert!(said(&examined).iter().all(|(id, _)| !id.starts_with("provisioning")));
}

fn config(id: &str, parents: &[&str], raw: &Value) -> Value {
    json!({"id": id, "parent_ids": parents, "raw_config": raw})
}

fn effective(configs: &[Value], id: &str) -> Option<String> {
    let answer = json!({ "configs": configs }).to_string();
    let inventory = Inventory::new(answer.as_bytes(), Vec::new()).unwrap();
    inventory.password(id, Field::Admin).map(|(_, secret)| secret.expose().to_owned())
}

#[test]
fn settings_are_inherited_as_in_wazo_provd() {
    let with = |password: &str| json!({ "admin_password": password });
    let a = || config("a", &[], &with("a"));
    let b = || config("b", &[], &with("b"));
    for (configs, expected) in [
        (vec![a(), config("x", &["a"], &json!({}))], Some("a")),
        (vec![a(), b(), config("x", &["a", "b"], &json!({}))], Some("b")),
        (vec![a(), b(), config("x", &["b", "a"], &with("own"))], Some("own")),
        // The settings of a parent win over those of its own parents.
        (vec![config("a", &["b"], &with("a")), b(), config("x", &["a"], &json!({}))], Some("a")),
        // A parent that was merged for an earlier one is not merged again.
        (
            vec![config("a", &["b"], &with("a")), b(), config("x", &["a", "b"], &json!({}))],
            Some("a"),
        ),
        (vec![a(), config("x", &["a"], &json!({"admin_password": null}))], None),
        (vec![config("x", &["x", "nobody"], &json!({}))], None),
        (vec![config("y", &["x"], &with("y")), config("x", &["y"], &json!({}))], Some("y")),
    ] {
        assert_eq!(effective(&configs, "x").as_deref(), expected, "{configs:?}");
    }
}

#[test]
fn a_wrong_answer_is_refused_without_being_repeated() {
    for answer in [
        "",
        "[]",
        "{}",
        "{\"configs\": {}}",
        "<html>hunter2</html>",
        "{\"configs\": [{\"id\": \"a\", \"parent_ids\": \"hunter2\"}]}",
        "{\"configs\": [{\"id\": \"a\", \"raw_config\": {\"admin_password\": {\"hunter2\": 1}}}]}",
        "{\"configs\": [{\"id\": \"a\", \"raw_config\": \"hunter2\"}]}",
        "{\"configs\": [{\"id\": \"a\", \"raw_config\": {\"admin_password\": \"hunter2",
    ] {
        let why = Inventory::new(answer.as_bytes(), Vec::new()).unwrap_err();
        assert!(why.contains("no list of configurations") && !why.contains("hunter2"), "{why}");
    }
}

#[test]
fn five_thousand_devices_have_a_bounded_report() {
    let mut configs: Vec<Value> = vec![config("base", &[], &json!({}))];
    let mut devices = Vec::new();
    for number in 0..5000 {
        let id = format!("d{number}");
        configs.push(config(&id, &["base"], &json!({ "admin_password": "admin" })));
        devices.push(Device {
            mac: Some(format!("00:00:00:00:{:02x}:{:02x}", number / 256, number % 256)),
            ip: Some("198.51.100.7".to_owned()),
            config: Some(id.clone()),
            plugin: Some("wazo-yealink-v86".to_owned()),
            id,
            ..Device::default()
        });
    }
    let answer = json!({ "configs": configs }).to_string();
    let inventory = Inventory::new(answer.as_bytes(), devices).unwrap();
    let examined = examine(&inventory, &HttpAuth::Unknown, &[]);
    assert!(examined.findings.len() < 500, "{}", examined.findings.len());
    assert_eq!(examined.fixes.len(), 10_000);
    let chars: usize = examined.findings.iter().map(|one| format!("{one:?}").len()).sum();
    assert!(chars < 500_000, "{chars}");
}

#[test]
fn a_long_line_of_parents_is_followed() {
    let configs: Vec<Value> = (0..20_000)
        .map(|number| config(&number.to_string(), &[&(number + 1).to_string()], &json!({})))
        .chain([config("20000", &[], &json!({ "admin_password": "z" }))])
        .collect();
    assert_eq!(effective(&configs, "0").as_deref(), Some("z"));
}

proptest! {
    #[test]
    fn any_answer_is_read(answer in any::<Vec<u8>>()) {
        let _refused = Inventory::new(&answer, Vec::new());
        let _refused = parse_devices(&answer);
    }

    /// Parents in any order, with cycles.
    #[test]
    fn any_parents_are_followed(parents in proptest::collection::vec((0..8_usize, 0..8_usize), 0..20)) {
        let of = |id: usize| {
            let of: Vec<String> = parents.iter().filter(|(from, _)| *from == id).map(|(_, to)| to.to_string()).collect();
            json!({"id": id.to_string(), "parent_ids": of, "raw_config": {"admin_password": id}})
        };
        let configs: Vec<Value> = (0..8).map(of).collect();
        for id in 0..8_usize {
            prop_assert_eq!(effective(&configs, &id.to_string()), Some(id.to_string()));
        }
    }
}
