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

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api")
}

fn schema<T: JsonSchema>(contract: Contract) -> String {
    // A comment is wrapped as in the source; its lines are joined.
    let join_lines = |schema: &mut Schema| {
        if let Some(Value::String(text)) = schema.get_mut("description") {
            *text = text.replace('\n', " ");
        }
    };
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.contract = contract)
        .with_transform(RecursiveTransform(join_lines));
    let schema = settings.into_generator().into_root_schema_for::<T>();
    format!("{:#}\n", schema.to_value())
}

#[test]
fn the_schemas_are_up_to_date() {
    let (asked, told) = (Contract::Deserialize, Contract::Serialize);
    let schemas = [
        ("request", schema::<Line>(asked)),
        ("status", schema::<Status>(told.clone())),
        ("audit", schema::<Audit>(told.clone())),
        ("exposure-suggest", schema::<ExposureSuggestion>(told.clone())),
        ("bans", schema::<BansPage>(told.clone())),
        ("jails", schema::<Jails>(told.clone())),
        ("why", schema::<Why>(told.clone())),
        ("ban", schema::<Banned>(told.clone())),
        ("allow", schema::<AllowChanged>(told.clone())),
        ("allows", schema::<Allows>(told.clone())),
        ("set", schema::<TuneChanged>(told.clone())),
        ("peers", schema::<PeersPage>(told.clone())),
        ("history", schema::<HistoryPage>(told.clone())),
        ("ban-many", schema::<BannedMany>(told.clone())),
        ("unban", schema::<Lifted>(told.clone())),
        ("take-over", schema::<TakenOver>(told.clone())),
        ("confirm", schema::<Confirmed>(told.clone())),
        ("reload", schema::<Reloaded>(told.clone())),
        ("maintenance", schema::<MaintenanceState>(told.clone())),
        ("error", schema::<Failure>(told)),
    ];
    for (name, expected) in schemas {
        let path = directory().join(format!("{name}.json"));
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, expected).unwrap();
            continue;
        }
        let is = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            is == expected,
            "{} is out of date: UPDATE_DOCS=1 cargo test -p api",
            path.display()
        );
    }
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

/// The JSON in the page about the socket is valid.
#[test]
fn the_page_shows_requests_and_replies_that_are_valid() {
    let page = fs::read_to_string(directory().with_extension("md")).unwrap();
    let blocks = page.split("```json\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap().lines());
    let (mut requests, mut replies) = (0, 0);
    for line in lines {
        if line.contains("\"command\"") {
            serde_json::from_str::<Line>(line).unwrap_or_else(|why| panic!("{line}: {why}"));
            requests += 1;
        } else {
            let reply: Envelope<MaintenanceState> =
                serde_json::from_str(line).unwrap_or_else(|why| panic!("{line}: {why}"));
            assert_eq!(reply.api, VERSION, "{line}");
            replies += 1;
        }
    }
    assert!(requests >= 4 && replies >= 2, "{requests} {replies}");
}
