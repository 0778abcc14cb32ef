//! The suggestions as text.

use api::{ExposureSuggestion, OpenTo};

use crate::words::printable;

/// The suggestions for a terminal.
pub fn in_words(all: &ExposureSuggestion) -> String {
    let mut text = format!("{}, ringfence {}, {}\n", all.host, all.version, all.time);
    for port in &all.ports {
        let what = match (port.now, port.suggested) {
            (OpenTo::Everybody, OpenTo::Everybody) => "leave it open",
            (OpenTo::Everybody, OpenTo::Trusted) => "open it to trusted networks only",
            (OpenTo::Everybody, OpenTo::Nobody) => "close it",
            (OpenTo::Trusted, _) => "open to trusted networks only",
            (OpenTo::Nobody, _) => "closed",
        };
        let processes = match &port.processes[..] {
            [] => String::new(),
            all => format!(" ({})", all.join(", ")),
        };
        add!(
            text,
            "\n{}: {} listens on {}{processes}: {what}\n",
            port.service,
            port.transport.as_str(),
            port.addresses.join(", ")
        );
        add!(text, "    {}\n", printable(&port.reason));
        let users: Vec<String> = port
            .networks
            .iter()
            .map(|user| {
                let trusted = if user.trusted { ", trusted" } else { "" };
                format!("{} ({}{trusted})", user.network, user.last)
            })
            .collect();
        if !users.is_empty() {
            add!(text, "    last used by {}\n", users.join(", "));
        }
        for rule in &port.contradictions {
            add!(text, "    {}\n", printable(rule));
        }
    }
    match &all.configuration {
        Some(configuration) => {
            text += "\nto paste into the configuration, then `ringfence reload`:\n\n";
            text += configuration;
        }
        None => text += "\nthere is nothing to close\n",
    }
    if !all.unread.is_empty() {
        text.push('\n');
    }
    for unread in &all.unread {
        add!(text, "could not read {}: {}\n", unread.what, unread.why);
    }
    text
}
