//! Names and texts in the written file. Tests in the daemon's crate cover whole imports, with the
//! configuration's reader.

use super::*;

#[test]
fn names_and_texts_are_written_as_yaml_reads_them() {
    assert_eq!(own_name("My_Web.Site"), "my-web-site");
    let matches = ["_SYSTEMD_UNIT=x.service _UID=0 + _COMM=x".to_owned(), "_COMM=y+z".to_owned()];
    let expected = ["_SYSTEMD_UNIT=x.service _UID=0", "_COMM=x", "_COMM=y+z"];
    assert_eq!(alternatives(&matches), expected);
    for (text, written) in [
        ("/var/log/a.log", "/var/log/a.log"),
        ("/var/log/*error.log", "\"/var/log/*error.log\""),
        ("::1", "\"::1\""),
        ("a\"b: #", "\"a\\\"b: #\""),
        ("", "\"\""),
    ] {
        assert_eq!(quoted(text), written);
    }
}

#[test]
fn names_become_names_that_are_possible() {
    for (name, expected) in [
        ("3proxy", "jail-3proxy"),
        ("manual", "jail-manual"),
        ("a-jail-with-a-name-that-is-much-too-long", "a-jail-with-a-name-that-is-much"),
    ] {
        assert_eq!(own_name(name), expected);
    }
}
