//! The description of the API, in the form of `OpenAPI`, made from the routes and the types.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::*;
use crate::route::{Kind, Parameter};

/// The document, as YAML.
pub(super) fn document() -> String {
    let document = values();
    let mut text = String::new();
    for key in ["openapi", "info", "servers", "paths", "components"] {
        yaml(&json!({key: document[key]}), 0, &mut text);
    }
    text
}

fn values() -> Value {
    let mut components = Map::new();
    let mut requests = part::<Request>(Contract::Deserialize, &mut components);
    let variants = requests["oneOf"].take();
    let mut paths = Map::new();
    for route in ROUTES {
        let variant = variant_of(route, &variants);
        let operation = operation(route, &variant);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_lowercase()] = operation;
    }
    for (path, kind, what, acl) in OTHERS {
        paths.insert(path.to_owned(), other(kind, what, acl));
    }
    answers(&mut components);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Ringfence",
            "version": "1.0",
            "description": "What the Ringfence daemon can be asked over its control socket. Members of the \
                group `ringfence` may send GET requests; the others are for root. Over TCP, if `api.listen` is \
                set, each request needs a token of wazo-auth with the ACL that it names.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The Unix socket /run/ringfence/control.sock"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"wazo_auth_token": {"type": "apiKey", "in": "header",
                "name": "X-Auth-Token", "description": "A token of wazo-auth, over TCP only."}},
        },
    })
}

/// Says which ACL an operation needs.
fn guard(operation: &mut Value, acl: &str) {
    operation["description"] = format!("**Required ACL:** `{acl}`").into();
    // None over the control socket.
    operation["security"] = json!([{}, {"wazo_auth_token": []}]);
}

/// The official schema of the format, under the Apache License 2.0, has no objection.
#[test]
fn the_document_is_valid() {
    const SCHEMA: &str = "openapi-3.1.json";
    let schema = serde_json::from_str(include_str!("openapi-3.1.json")).unwrap();
    let mut compiler = boon::Compiler::new();
    compiler.add_resource(SCHEMA, schema).unwrap();
    let mut schemas = boon::Schemas::new();
    let schema = compiler.compile(SCHEMA, &mut schemas).unwrap();
    let mut document = values();
    schemas.validate(&document, schema).unwrap_or_else(|why| panic!("{why:#}"));
    let mut refers = vec![&document];
    let mut references = 0;
    while let Some(value) = refers.pop() {
        match value {
            Value::Object(entries) => {
                if let Some(Value::String(to)) = entries.get("$ref") {
                    let to = to.strip_prefix('#').unwrap();
                    assert!(document.pointer(to).is_some(), "{to} is not there");
                    references += 1;
                }
                refers.extend(entries.values());
            }
            Value::Array(items) => refers.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    assert!(references > 50, "{references}");
    document["paths"]["/1.0/status"]["get"]["responses"] = json!(7);
    assert!(schemas.validate(&document, schema).is_err(), "an error is found");
}

/// The paths that are answered without a request: their type and description.
const OTHERS: [(&str, &str, &str, Option<&str>); 3] = [
    ("/1.0/api/api.yml", "application/yaml", "This document.", None),
    (
        "/1.0/events",
        "text/event-stream",
        "What happens from now on, as server-sent events. The data of each has the schema `event`.",
        Some(acl::EVENTS),
    ),
    (
        "/metrics",
        "text/plain",
        "The metrics, for Prometheus; in the format of OpenMetrics if it is accepted.",
        Some(acl::METRICS),
    ),
];

fn other(kind: &str, what: &str, acl: Option<&str>) -> Value {
    let mut other = json!({"get": {
        "summary": what,
        "responses": {
            "200": {"description": what, "content": {kind: {"schema": {"type": "string"}}}},
            "default": problem(),
        },
    }});
    if let Some(acl) = acl {
        guard(&mut other["get"], acl);
    }
    other
}

/// The schema of a type; what it refers to goes to the components.
fn part<T: JsonSchema>(contract: Contract, components: &mut Map<String, Value>) -> Value {
    let mut schema = root::<T>(contract, "/components/schemas").to_value();
    if let Some(Value::Object(found)) = schema.pointer_mut("/components/schemas").map(Value::take) {
        components.extend(found);
    }
    let object = schema.as_object_mut().unwrap();
    object.remove("components");
    object.remove("$schema");
    object.remove("title");
    schema
}

/// The answers, under the names of their schemas in `docs/api`.
fn answers(components: &mut Map<String, Value>) {
    macro_rules! answers {
        ($($name:literal: $type:ty),+ $(,)?) => {$(
            let schema = part::<$type>(Contract::Serialize, components);
            components.insert($name.to_owned(), schema);
        )+};
    }
    answers!(
        "status": Status, "bans": BansPage, "jails": Jails, "why": Why, "ban": Banned,
        "ban-many": BannedMany, "take-over": TakenOver, "unban": Lifted, "allow": AllowChanged,
        "allows": Allows, "set": TuneChanged, "feeds": Feeds, "feeds-confirm": FeedConfirmed,
        "alerts": Alerts, "alerts-test": AlertsTested,
        "fleet": Fleet, "fleet-settings": FleetSettings, "fleet-bans": FleetTaken, "fleet-cut": FleetChanged,
        "active": ActivePage, "peers": PeersPage, "history": HistoryPage,
        "maintenance": MaintenanceState, "confirm": Confirmed, "traffic": TrafficPage, "page-link": PageLink, "reload": Reloaded,
        "problem": Problem, "event": Event,
    );
}

/// The part of the schema of requests that is about those of a route.
fn variant_of(route: &Route, variants: &Value) -> Value {
    let has =
        |variant: &Value, key: &str, value: &str| variant["properties"][key]["const"] == value;
    let found = |variants: &Value, key: &str, value: &str| {
        let variants = variants.as_array().unwrap();
        let found = variants.iter().find(|variant| has(variant, key, value));
        found.unwrap_or_else(|| panic!("no request with `{key}` of `{value}`")).clone()
    };
    let variant = found(variants, "command", route.command);
    match (&variant["oneOf"], route.implied) {
        (variants @ Value::Array(_), [(key, value)]) => found(variants, key, value),
        _ => variant,
    }
}

fn operation(route: &Route, variant: &Value) -> Value {
    let mut properties = variant["properties"].as_object().unwrap().clone();
    properties.remove("command");
    for (key, _) in route.implied {
        properties.remove(*key).unwrap_or_else(|| panic!("{}: `{key}`", route.path));
    }
    let mut parameters = Vec::new();
    for (place, named) in [("path", route.in_path), ("query", route.in_query)] {
        for parameter in named {
            let schema = properties.remove(parameter.name);
            let schema = schema.unwrap_or_else(|| panic!("{}: {parameter:?}", route.path));
            parameters.push(described(*parameter, place, &schema));
        }
    }
    if let Some(name) = route.assured_by {
        parameters.push(json!({"name": name, "in": "query", "required": true,
            "description": "Must be `true`, because the request applies to everything.",
            "schema": {"type": "boolean", "const": true}}));
    }
    let text = variant["description"].as_str().unwrap();
    let summary = text.split(". ").next().unwrap().trim_end_matches('.');
    let implied = route.implied.iter().map(|(_, value)| *value);
    let name: Vec<_> = std::iter::once(route.command).chain(implied).collect();
    let mut operation = json!({
        "operationId": name.join("-"),
        "tags": [route.path.split('/').nth(2).unwrap()],
        "summary": summary,
        "responses": {
            "200": {"description": "The answer.", "content": {"application/json": {
                "schema": {"$ref": format!("#/components/schemas/{}", route.answer)}}}},
            "default": problem(),
        },
    });
    guard(&mut operation, route.acl);
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if route.method.has_body() && !properties.is_empty() {
        let required = variant["required"].as_array().cloned().unwrap_or_default();
        let is_in = |key: &Value| properties.contains_key(key.as_str().unwrap());
        let required: Vec<Value> = required.into_iter().filter(is_in).collect();
        let mut schema = json!({"type": "object", "additionalProperties": false});
        if !required.is_empty() {
            schema["required"] = required.clone().into();
        }
        schema["properties"] = properties.into();
        operation["requestBody"] = json!({"required": !required.is_empty(),
            "content": {"application/json": {"schema": schema}}});
    } else {
        assert!(properties.is_empty(), "{} {}: {properties:?}", route.method, route.path);
    }
    operation
}

fn problem() -> Value {
    json!({"description": "There is no answer.", "content": {"application/json": {
        "schema": {"$ref": "#/components/schemas/problem"}}}})
}

/// A parameter: its schema has no null, because then it is left out.
fn described(parameter: Parameter, place: &str, of: &Value) -> Value {
    let mut of = of.clone();
    let object = of.as_object_mut().unwrap();
    let mut text = object.remove("description").unwrap().as_str().unwrap().to_owned();
    object.remove("default");
    if let Some(Value::Array(kinds)) = object.get("type") {
        let kind = kinds.iter().find(|kind| *kind != "null").unwrap().clone();
        object.insert("type".to_owned(), kind);
    }
    if let Some(Value::Array(any)) = object.remove("anyOf") {
        of = any.into_iter().find(|one| one["type"] != "null").unwrap();
    }
    match parameter.kind {
        Kind::Place => {
            text.push_str(" Its three values are written between commas: `network,origin,scope`.");
            of = json!({"type": "string"});
        }
        Kind::Networks => {
            text.push_str(" They are written between commas.");
            of = json!({"type": "string"});
        }
        Kind::Network => text = text.replace(", with its prefix length: `192.0.2.66/32`", ""),
        Kind::Text | Kind::Number | Kind::Switch => {}
    }
    let text = text.replace("; null for all", "").replace("; null for as many as fit", "");
    let text =
        text.replace("; null for the first page", "").replace("; null for the newest page", "");
    json!({"name": parameter.name, "in": place, "required": place == "path",
        "description": text, "schema": of})
}

/// Writes a value as YAML: text is quoted as in JSON, which YAML contains.
fn yaml(value: &Value, depth: usize, into: &mut String) {
    let indent = "  ".repeat(depth);
    let is_plain = |key: &str| {
        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphabetic() || "_-".contains(c))
    };
    let begun: Vec<(String, &Value)> = match value {
        Value::Object(entries) if !entries.is_empty() => {
            let key = |key: &str| {
                if is_plain(key) { key.to_owned() } else { Value::from(key).to_string() }
            };
            entries.iter().map(|(name, value)| (format!("{}:", key(name)), value)).collect()
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().map(|item| ("-".to_owned(), item)).collect()
        }
        Value::Object(_)
        | Value::Array(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_) => return writeln!(into, "{indent}{}", one_line(value)).unwrap(),
    };
    for (begin, value) in begun {
        into.push_str(&indent);
        into.push_str(&begin);
        let is_block = value.as_object().is_some_and(|entries| !entries.is_empty())
            || value.as_array().is_some_and(|items| !items.is_empty());
        if is_block {
            into.push('\n');
            yaml(value, depth + 1, into);
        } else {
            writeln!(into, " {}", one_line(value)).unwrap();
        }
    }
}

/// A comment is wrapped as in the source; its lines are joined.
fn one_line(scalar: &Value) -> String {
    scalar.to_string().replace("\\n", " ")
}
