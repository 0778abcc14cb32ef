use proptest::prelude::*;

use super::*;

/// The output of Asterisk 22.
const ENDPOINTS: &str = "
 Endpoint:  <Endpoint/CID.....................................>  <State.....>  <Channels.>
    I/OAuth:  <AuthId/UserName...........................................................>
==========================================================================================

 Endpoint:  alice/1001                                           Invalid       0 of inf
     InAuth:  alice-auth/alice
        Aor:  alice                                              1

 Endpoint:  bob                                                  Invalid       0 of inf
    OutAuth:  trunk/1234
     InAuth:  bob/bob
 Endpoint:  carol                                                Invalid       0 of inf
     InAuth:  bob/bob
";

/// The same, for one section.
const AUTH: &str = "
     Auth:  bob/bob

 ParameterName            : ParameterValue
 =========================================
 auth_type                : userpass
 md5_cred                 : 
 password                 : s e;cret: \u{e9}
 password_digest          : 
 realm                    : 
 username                 : bob
";

fn account(id: &str, password: &str) -> Account {
    Account {
        id: id.to_owned(),
        user: id.to_owned(),
        endpoints: BTreeSet::from([id.to_owned()]),
        password: super::password(Some(password), None, None).unwrap_or(Password::Hashed),
    }
}

fn attacked(account: &str) -> Attacked {
    let last = "2026-01-01T00:00:00Z".to_owned();
    Attacked { account: account.to_owned(), failures: 40, sources: 9, last }
}

#[test]
fn the_output_of_asterisk_is_read() {
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(
        printed_endpoints(ENDPOINTS),
        [
            ("alice-auth".to_owned(), "alice".to_owned(), set(&["alice"])),
            ("bob".to_owned(), "bob".to_owned(), set(&["bob", "carol"])),
        ]
    );
    let Some(Password::Clear(secret)) = printed_auth(AUTH) else { panic!() };
    assert_eq!(secret.expose(), "s e;cret: \u{e9}");
    let hashed = AUTH
        .replace("s e;cret: \u{e9}", "")
        .replace("md5_cred                 : ", "md5_cred : 0123");
    assert!(matches!(printed_auth(&hashed), Some(Password::Hashed)));
    assert!(printed_auth("Unable to find object bob.\n").is_none());
}

#[test]
fn accounts_are_named_and_passwords_are_not() {
    let accounts = [
        account("1001", "1001"),
        account("1002", "Tr1cky-Secret"),
        account("1003", "Tr1cky-Secret"),
        account("1004", "839201"),
        account("1005", "xk4Qz"),
        account("1006", "good-enough-9"),
        account("1007", ""),
    ];
    let findings = findings(&accounts, &[attacked("1005"), attacked("1006"), attacked("nobody")]);
    let said: Vec<(&str, Severity)> = findings.iter().map(|one| (&*one.id, one.severity)).collect();
    assert_eq!(
        said,
        [
            ("sip-password/short/1005", Severity::Critical),
            ("sip-password/name/1001", Severity::Critical),
            ("sip-password/digits/1004", Severity::Critical),
            ("sip-password/shared/1002", Severity::Warning),
            ("sip-attacked", Severity::Note),
            ("sip-password/hashed", Severity::Note),
        ]
    );
    let text = format!("{findings:?}");
    for secret in ["Tr1cky", "839201", "xk4Qz", "good-enough"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    assert!(text.contains("under attack now: 40 failures that count, from 9 sources"), "{text}");
}

#[test]
fn many_accounts_have_a_bounded_report() {
    let accounts: Vec<Account> =
        (0..5000).map(|number| account(&number.to_string(), &number.to_string())).collect();
    let findings = findings(&accounts, &[]);
    assert_eq!(findings.len(), FINDINGS_MAX + 1);
    let more = findings.last().unwrap();
    assert_eq!(more.title, "4900 more SIP accounts have weak passwords");
    assert!(more.evidence.concat().ends_with("and 4880 more"), "{more:?}");
}

proptest! {
    #[test]
    fn any_output_is_read(text in any::<String>()) {
        printed_endpoints(&text);
        printed_auth(&text);
    }
}
