//! The rows of the signatures, which the datapath declares.

use std::rc::Rc;

use crate::config::Signatures;
use crate::config::kind;
use crate::config::schema::{Field, field};

/// The signatures of scanners.
pub(in crate::config) fn fields<'a>(
    signatures: &'a mut Signatures,
    _scopes: &Rc<[String]>,
) -> [Field<'a>; 1] {
    [field(
        "signatures.user_agents",
        "The User-Agents of scanners, whose packets are dropped. A final `*` matches any ending. \
         A match does not ban the source.",
        kind::UserAgents(&mut signatures.user_agents),
    )]
}
