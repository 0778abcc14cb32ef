use super::*;
use crate::BansQuery;

fn refused(method: &str, target: &str, body: &str) -> (ErrorId, String) {
    let refusal = find(method, target, body.as_bytes()).unwrap_err();
    (refusal.id, refusal.message)
}

#[test]
fn a_network_is_written_as_it_is_or_escaped() {
    let lift = |network: &str, inside| {
        Request::Unban(Unban::Network { network: network.parse().unwrap(), inside })
    };
    for (target, expected) in [
        ("/1.0/bans/203.0.113.7", lift("203.0.113.7/32", false)),
        ("/1.0/bans/203.0.113.7/32", lift("203.0.113.7/32", false)),
        ("/1.0/bans/203.0.113.0%2F24", lift("203.0.113.0/24", false)),
        ("/1.0/bans/2001:db8::/64?inside=true", lift("2001:db8::/64", true)),
        ("/1.0/bans/2001%3adb8%3A%3a7", lift("2001:db8::7/128", false)),
    ] {
        let (route, request) = find("DELETE", target, b"").unwrap();
        assert_eq!((route, request), (&UNBAN, expected), "{target}");
    }
    let inside =
        BansQuery { inside: Some("192.0.2.9/32".parse().unwrap()), ..BansQuery::default() };
    assert_eq!(find("GET", "/1.0/bans?inside=192.0.2.9&", b"").unwrap().1, Request::Bans(inside));
}

#[test]
fn a_call_that_is_wrong_says_what_is() {
    use ErrorId::{InvalidRequest, MethodNotAllowed, NoSuchEndpoint};
    for (method, target, body, id, says) in [
        ("GET", "", "", NoSuchEndpoint, "api.yml"),
        ("GET", "/", "", NoSuchEndpoint, "api.yml"),
        ("GET", "/1.0/status/", "", NoSuchEndpoint, "api.yml"),
        ("GET", "/1.0/sources/", "", NoSuchEndpoint, "api.yml"),
        ("GET", "//1.0/status", "", NoSuchEndpoint, "api.yml"),
        ("GET", "/2.0/status", "", NoSuchEndpoint, "api.yml"),
        ("DELETE", "/1.0/bans/", "", NoSuchEndpoint, "api.yml"),
        ("POST", "/1.0/status", "", MethodNotAllowed, "only GET"),
        ("PATCH", "/1.0/bans", "", MethodNotAllowed, "only GET, POST, DELETE"),
        ("get", "/1.0/status", "", MethodNotAllowed, "only GET"),
        ("GET", "/1.0/status?x=1", "", InvalidRequest, "no parameters"),
        ("GET", "/1.0/bans?jial=sshd", "", InvalidRequest, "there are jail, scope"),
        ("GET", "/1.0/bans?jail=a&jail=b", "", InvalidRequest, "`jail` is given twice"),
        ("GET", "/1.0/bans?limit=0", "", InvalidRequest, "nonzero"),
        ("GET", "/1.0/bans?limit=70000", "", InvalidRequest, "70000"),
        ("GET", "/1.0/bans?limit=many", "", InvalidRequest, "`limit` must be a whole number"),
        ("GET", "/1.0/bans?after=1", "", InvalidRequest, "`after` must be the values of `next`"),
        ("GET", "/1.0/bans?jail=%ff", "", InvalidRequest, "UTF-8"),
        ("GET", "/1.0/bans?inside=x", "", InvalidRequest, "`inside` must be an address"),
        ("GET", "/1.0/sources/nobody", "", InvalidRequest, "IP address"),
        ("DELETE", "/1.0/bans/nobody", "", InvalidRequest, "`network` must be an address"),
        ("DELETE", "/1.0/bans/192.0.2.1?inside=1", "", InvalidRequest, "true or false"),
        ("DELETE", "/1.0/bans", "", InvalidRequest, "?all=true"),
        ("DELETE", "/1.0/bans?all=false", "", InvalidRequest, "?all=true"),
        ("POST", "/1.0/bans", "", InvalidRequest, "missing field"),
        ("POST", "/1.0/bans", "[]", InvalidRequest, "object"),
        ("POST", "/1.0/bans", "{", InvalidRequest, "not JSON"),
        ("POST", "/1.0/bans", r#"{"command":"x"}"#, InvalidRequest, "`command`"),
        (
            "POST",
            "/1.0/bans",
            r#"{"network":"192.0.2.1/32","scope":"sip","force":false,"recent":1}"#,
            InvalidRequest,
            "unknown field `recent`",
        ),
        (
            "PUT",
            "/1.0/allows/192.0.2.1",
            r#"{"network":"192.0.2.2/32"}"#,
            InvalidRequest,
            "`network` is given twice",
        ),
        ("PUT", "/1.0/maintenance", r#"{"seconds":1,"x":1}"#, InvalidRequest, "unknown field `x`"),
        ("POST", "/1.0/bans/lift", r#"{"networks":[],"x":1}"#, InvalidRequest, "unknown field"),
        ("POST", "/1.0/bans/lift", r#"{"which":"all"}"#, InvalidRequest, "`which`"),
    ] {
        let (was, why) = refused(method, target, body);
        assert!(was == id && why.contains(says), "{method} {target} {body}: {was:?} {why}");
    }
}

#[test]
fn no_two_routes_have_the_same_place() {
    for (place, route) in ROUTES.iter().enumerate() {
        let same = |other: &&&Route| (other.method, other.path) == (route.method, route.path);
        assert_eq!(ROUTES.iter().position(|other| same(&other)), Some(place), "{}", route.path);
        let named: Vec<_> = route.path.split('/').filter_map(named).collect();
        assert_eq!(named, route.in_path.iter().map(|one| one.name).collect::<Vec<_>>());
    }
}

#[test]
fn an_error_names_its_resource() {
    let table = [
        ("/1.0/bans/203.0.113.0%2F24?x", Some("bans"), Some("203.0.113.0/24")),
        ("/1.0/status", Some("status"), None),
        ("/1.0/nothing", None, None),
        ("/", None, None),
    ];
    for (target, kind, id) in table {
        let (was, its) = resource(target);
        assert_eq!((was.as_deref(), its.as_deref()), (kind, id), "{target}");
    }
}

/// An ACL is `ringfence`, what it is about, and the action, as Wazo's daemons have it.
#[test]
fn each_route_has_an_acl() {
    for route in ROUTES {
        let parts: Vec<_> = route.acl.split('.').collect();
        let [service, resource, action] = parts[..] else { panic!("{}", route.acl) };
        assert_eq!(service, "ringfence");
        assert!(
            route.path.split('/').any(|part| part == resource),
            "{}: {}",
            route.path,
            route.acl
        );
        let Ok((_, request)) = find(route.method.as_str(), &example(route.path), b"") else {
            // It needs a body, so it changes something.
            assert_ne!(action, "read", "{}", route.path);
            continue;
        };
        assert_eq!(action == "read", route.method == Method::Get, "{}", route.path);
        assert!(action != "read" || !request.changes(), "{}: {}", route.path, route.acl);
    }
}

/// A path with values.
fn example(path: &str) -> String {
    let values = [("{network}", "192.0.2.1"), ("{address}", "192.0.2.1"), ("{jail}", "sshd")];
    let path =
        values.into_iter().fold(path.to_owned(), |path, (name, value)| path.replace(name, value));
    path.replace("{name}", "a").replace("{setting}", "maxretry")
}
