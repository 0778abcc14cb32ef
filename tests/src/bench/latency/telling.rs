//! The recorded text of Asterisk about a REGISTER with a wrong password.

use std::net::IpAddr;

/// The line of the NOTICE log, in Wazo's date format.
pub(super) fn line(source: IpAddr, attempt: u32) -> String {
    format!(
        "[2026-11-22 09:34:06.5226] NOTICE[9999] res_pjsip/pjsip_distributor.c: Request 'REGISTER' from \
         '<sip:1001@192.0.2.10>' failed for '{source}:35101' (callid: guess-{attempt}@{source}) - \
         Failed to authenticate\n"
    )
}

/// The events of AMI: that of the challenge, and that of the failed response.
pub(super) fn events(source: IpAddr, attempt: u32) -> String {
    let head = |event: &str, severity: &str| {
        format!(
            "Event: {event}\r\nPrivilege: security,all\r\nEventTV: 2026-11-22T09:34:06.522+0000\r\n\
             Severity: {severity}\r\nService: PJSIP\r\nEventVersion: 1\r\nAccountID: 1001\r\n\
             SessionID: guess-{attempt}@{source}\r\nLocalAddress: IPV4/UDP/192.0.2.10/5060\r\n\
             RemoteAddress: IPV4/UDP/{source}/35101\r\n"
        )
    };
    format!(
        "{}Challenge: \r\n\r\n{}Challenge: 1795340046/b748140151ca032a0b183176c2108886\r\n\
         Response: 4e1493fbbe5efc1623e9722e8daa5530\r\nExpectedResponse: \r\n\r\n",
        head("ChallengeSent", "Informational"),
        head("ChallengeResponseFailed", "Error")
    )
}

#[cfg(test)]
mod tests {
    use filter_user::failure::{Class, Verdict};
    use filter_user::parse::ami::{self, Block};
    use filter_user::parse::asterisk;

    use super::*;

    #[test]
    fn both_tell_of_the_same_failure() {
        let source: IpAddr = "203.0.113.9".parse().unwrap();
        let line = line(source, 7);
        let logged = asterisk::parse(line.trim_end().as_bytes()).unwrap();
        let events = events(source, 7);
        let (challenge, answer) = events.split_once("\r\n\r\n").unwrap();
        for (block, verdict) in [(challenge, Verdict::Ignored), (answer, Verdict::Failure)] {
            let Block::Security(Some(event)) = ami::parse(block.trim_end().as_bytes()) else {
                panic!("{block}");
            };
            assert_eq!(
                (event.verdict, event.address, &event.session),
                (verdict, source, &logged.session)
            );
        }
        assert_eq!((logged.verdict, logged.class), (Verdict::Failure, Class::WrongCredential));
        assert_eq!(logged.address, source);
    }
}
