//! Tests that the JSON schemas in `docs/api` and the replies recorded in `docs/api/examples` match the
//! types.

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use schemars::generate::{Contract, SchemaSettings};
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;

mod openapi;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api")
}

fn root<T: JsonSchema>(contract: Contract, definitions: &'static str) -> Schema {
    // A comment is wrapped as in the source; its lines are joined.
    let join_lines = |schema: &mut Schema| {
        if let Some(Value::String(text)) = schema.get_mut("description") {
            *text = text.replace('\n', " ");
        }
    };
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.contract = contract;
        settings.definitions_path = definitions.into();
    });
    let settings = settings.with_transform(RecursiveTransform(join_lines));
    settings.into_generator().into_root_schema_for::<T>()
}

fn schema<T: JsonSchema>() -> String {
    format!("{:#}\n", root::<T>(Contract::Serialize, "/$defs").to_value())
}

fn is_up_to_date(file: &str, expected: &str) {
    let path = directory().join(file);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, expected).unwrap();
        return;
    }
    let is = fs::read_to_string(&path).unwrap_or_default();
    assert!(is == expected, "{} is out of date: UPDATE_DOCS=1 cargo test -p api", path.display());
}

#[test]
fn the_schemas_are_up_to_date() {
    let schemas = [
        ("status", schema::<Status>()),
        ("audit", schema::<Audit>()),
        ("exposure-suggest", schema::<ExposureSuggestion>()),
        ("bans", schema::<BansPage>()),
        ("active", schema::<ActivePage>()),
        ("jails", schema::<Jails>()),
        ("why", schema::<Why>()),
        ("ban", schema::<Banned>()),
        ("allow", schema::<AllowChanged>()),
        ("allows", schema::<Allows>()),
        ("set", schema::<TuneChanged>()),
        ("feeds", schema::<Feeds>()),
        ("feeds-confirm", schema::<FeedConfirmed>()),
        ("fleet", schema::<Fleet>()),
        ("fleet-settings", schema::<FleetSettings>()),
        ("fleet-bans", schema::<FleetTaken>()),
        ("fleet-cut", schema::<FleetChanged>()),
        ("feeds-test", schema::<FeedTest>()),
        ("alerts", schema::<Alerts>()),
        ("alerts-test", schema::<AlertsTested>()),
        ("alert-message", schema::<AlertMessage>()),
        ("action-message", schema::<ActionMessage>()),
        ("peers", schema::<PeersPage>()),
        ("history", schema::<HistoryPage>()),
        ("ban-many", schema::<BannedMany>()),
        ("unban", schema::<Lifted>()),
        ("take-over", schema::<TakenOver>()),
        ("confirm", schema::<Confirmed>()),
        ("traffic", schema::<TrafficPage>()),
        ("page-link", schema::<PageLink>()),
        ("reload", schema::<Reloaded>()),
        ("maintenance", schema::<MaintenanceState>()),
        ("event", schema::<Event>()),
        ("problem", schema::<Problem>()),
        ("error", schema::<Failure>()),
    ];
    for (name, expected) in schemas {
        is_up_to_date(&format!("{name}.json"), &expected);
    }
    is_up_to_date("api.yml", &openapi::document());
}

/// Checks that no field of a recorded reply is lost in its type, and none is added.
fn there_and_back<T: Serialize + DeserializeOwned + Debug>(name: &str, recorded: &Value) {
    let read: T =
        serde_json::from_value(recorded.clone()).unwrap_or_else(|why| panic!("{name}: {why}"));
    assert_eq!(&serde_json::to_value(&read).unwrap(), recorded, "{name}");
}

#[test]
fn recorded_replies_are_of_their_types() {
    let mut found = 0;
    for entry in fs::read_dir(directory().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let recorded: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        match name.split('-').next().unwrap() {
            "status" => there_and_back::<Status>(&name, &recorded),
            "audit" => there_and_back::<Audit>(&name, &recorded),
            "active" => there_and_back::<ActivePage>(&name, &recorded),
            "bans" => there_and_back::<BansPage>(&name, &recorded),
            "jails" => there_and_back::<Jails>(&name, &recorded),
            "why" => there_and_back::<Why>(&name, &recorded),
            "ban" if name.starts_with("ban-many") => there_and_back::<BannedMany>(&name, &recorded),
            "ban" => there_and_back::<Banned>(&name, &recorded),
            "unban" => there_and_back::<Lifted>(&name, &recorded),
            "allow" => there_and_back::<AllowChanged>(&name, &recorded),
            "allows" => there_and_back::<Allows>(&name, &recorded),
            "set" => there_and_back::<TuneChanged>(&name, &recorded),
            "peers" => there_and_back::<PeersPage>(&name, &recorded),
            "traffic" => there_and_back::<TrafficPage>(&name, &recorded),
            "history" => there_and_back::<HistoryPage>(&name, &recorded),
            "take" => there_and_back::<TakenOver>(&name, &recorded),
            "confirm" => there_and_back::<Confirmed>(&name, &recorded),
            "reload" => there_and_back::<Reloaded>(&name, &recorded),
            "maintenance" => there_and_back::<MaintenanceState>(&name, &recorded),
            other => panic!("no request is answered by {other}"),
        }
        found += 1;
    }
    assert!(found > 10, "{found}");
}

/// The page about the socket has every path, and the requests in it are valid.
#[test]
fn the_page_has_every_request() {
    let page = fs::read_to_string(directory().with_extension("md")).unwrap();
    for route in ROUTES {
        let row = format!("`{} {}", route.method, route.path);
        assert!(page.contains(&row), "{row}");
    }
    let mut requests = 0;
    for line in page.lines().filter(|line| line.contains("http://ringfence/")) {
        let (before, behind) = line.split_once("http://ringfence").unwrap();
        let target: String = behind.chars().take_while(|c| !"' \"".contains(*c)).collect();
        let method = before.split_once("-X ").map_or("GET", |(_, m)| m.split(' ').next().unwrap());
        let body = line.split_once("-d '").map_or("", |(_, body)| body.split('\'').next().unwrap());
        if OTHERS.contains(&&*target) {
            continue;
        }
        find(method, &target, body.as_bytes()).unwrap_or_else(|why| panic!("{line}: {why}"));
        requests += 1;
    }
    assert!(requests >= 4, "{requests}");
}

/// Paths that are no requests.
const OTHERS: [&str; 2] = ["/1.0/api/api.yml", "/1.0/events"];
