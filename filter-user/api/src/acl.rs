//! The ACLs of what is no request. A [`Route`](crate::Route) has the ACL of each request.
//!
//! A token of wazo-auth that allows `ringfence.#` may do everything.

/// To read the metrics.
pub const METRICS: &str = "ringfence.metrics.read";

/// To see the page.
pub const PAGE: &str = "ringfence.page.read";

/// To listen to events.
pub const EVENTS: &str = "ringfence.events.read";
