//! Payloads that real tools sent to a real Asterisk, and its replies.

use filter_common::decision::Reason;

use super::{Case, World, ip};
use crate::packet_builder::Frame;

macro_rules! recorded {
    ($($name:literal => $reason:ident,)*) => {
        /// Their names, payloads and reasons.
        pub const RECORDED: &[(&str, &[u8], Reason)] = &[
            $(($name, include_bytes!(concat!("../../fixtures/sip/", $name)), Reason::$reason),)*
        ];
    };
}

recorded! {
    "ack-udp-svwar-invite-force" => Request,
    "bye-udp-sipp-goodauth" => Request,
    "crlf-udp-malformed" => KeepAlive,
    "get-tcp-malformed-tcp" => NotSip,
    "get-udp-malformed" => NotSip,
    "invite-credentials-udp-invite-good-badext" => Request,
    "invite-udp-invite-good-badext" => Request,
    "invite-udp-svmap-invite" => Request,
    "options-credentials-udp-sipsak-options" => Request,
    "options-udp-options-noauth-unknown" => Request,
    "options-udp-sipsak-options" => Request,
    "options-udp-svmap" => Request,
    "register-credentials-tcp-tcp-reg-wrongpw" => RegisterCredentials,
    "register-credentials-udp-acl-contact" => RegisterCredentials,
    "register-credentials-udp-sipsak-flood" => RegisterCredentials,
    "register-credentials-udp-svcrack-found" => RegisterCredentials,
    "register-tcp-sipp-regflood-tcp" => Register,
    "register-tcp-tcp-reg-unknown" => Register,
    "register-udp-acl-contact" => Register,
    "register-udp-sipp-regflood-udp" => Register,
    "register-udp-sipsak-flood" => Register,
    "response-200-udp-reg-other-aor" => Response,
    "response-401-tcp-sipp-regflood-tcp" => Response,
    "response-401-udp-acl-contact" => Response,
    "response-403-udp-acl-global" => Response,
    "response-404-udp-acl-contact" => Response,
    "response-481-udp-sipp-goodauth" => Response,
    "subscribe-udp-subscribe-unknown" => Request,
}

/// The rows: each payload alone, and each REGISTER of a source over its limit.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, payload, expect) in RECORDED {
        let frame = Frame::from(ip("192.0.2.66")).payload(payload);
        let frame = if name.contains("-tcp-") { frame.tcp(5060) } else { frame.udp(5060) }.build();
        cases.push(Case::new(format!("recorded: {name}"), frame.clone(), *expect));
        if matches!(expect, Reason::Register | Reason::RegisterCredentials) {
            let over = if name.contains("credentials") {
                Reason::RegisterCredentials
            } else {
                Reason::RegisterLimit
            };
            let name = format!("recorded, over the limit: {name}");
            cases.push(Case::new(name, frame, over).within(World::default().limit(1)).after(1));
        }
    }
    cases
}
