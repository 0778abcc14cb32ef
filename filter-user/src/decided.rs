//! The replies to `allow`, `disallow`, `allows`, `set` and `history` as text.

use std::io::Write;

use anyhow::Result;
use api::{
    AllowChanged, Allowed, Allows, EndedBan, HistoryEvent, HistoryPage, HistoryRow, TuneChanged,
};

use crate::report::{count, left, line, shown_text, table, unless_durable, when};
use crate::rows::{self, Form};

/// `allow`.
pub fn allowed(changed: &AllowChanged) -> String {
    let AllowChanged { allowed, lifted, durability, .. } = changed;
    let until = allowed.until.as_deref().map_or_else(
        || "until it is disallowed".to_owned(),
        |until| format!("until {} ({} left)", when(until), left(until)),
    );
    let mut text = format!("{} is allowed {until}\n", allowed.network);
    if *lifted > 0 {
        line(&mut text, &format!("{} in it lifted", count(*lifted, "ban")));
    }
    text + &unless_durable(durability)
}

/// `disallow`.
pub fn disallowed(changed: &AllowChanged) -> String {
    let network = &changed.allowed.network;
    let mut text = format!("{network} is no longer allowed\n");
    if changed.is_configured {
        line(&mut text, "it stays trusted: it is under `trusted` in the configuration");
    }
    text + &unless_durable(&changed.durability)
}

/// `allows`.
pub fn allows(Allows { allows }: &Allows) -> String {
    if allows.is_empty() {
        return "no network is allowed at run time\n".to_owned();
    }
    let row = |allowed: &Allowed| {
        let Allowed { network, since, until, comment, by } = allowed;
        let end = until.as_deref();
        vec![
            network.clone(),
            when(since),
            end.map_or_else(|| "no end".to_owned(), when),
            end.map_or_else(|| "-".to_owned(), left),
            by.clone(),
            comment.as_deref().map(shown_text).unwrap_or_default(),
        ]
    };
    let head = ["NETWORK", "SINCE", "UNTIL", "LEFT", "BY", "COMMENT"];
    table(&head, allows.iter().map(row).collect())
}

/// `set`.
pub fn set(changed: &TuneChanged) -> String {
    let TuneChanged { jail, setting, old, new, configured, durability } = changed;
    let setting = setting.as_str();
    let mut text = format!("{jail}: {setting} is {new}; it was {old}\n");
    if new != configured {
        line(
            &mut text,
            &format!(
                "the configured value is {configured}; `ringfence set {jail} {setting} default` \
                 restores it"
            ),
        );
    }
    text + &unless_durable(durability)
}

/// Writes the `history` that `page` returns, as text or as JSON. `page` is called with the place before
/// which to continue.
///
/// # Errors
///
/// If a page does not arrive, or `out` fails.
pub fn history(
    mut page: impl FnMut(Option<i64>) -> Result<HistoryPage>,
    json: bool,
    out: impl Write,
) -> Result<()> {
    let form = Form {
        name: "history",
        text: |row, _is_first| happened(row),
        none: "no ban has ended, and nothing has been changed manually\n",
    };
    let page = |before| page(before).map(|HistoryPage { history, next }| (history, next));
    rows::write(&form, json, page, out)
}

/// An entry of the history: its time and network, and below that the event.
fn happened(HistoryRow { time, network, event }: &HistoryRow) -> String {
    let network = network.as_deref().unwrap_or("-");
    let ban = |how: &str, ban: &EndedBan| {
        let EndedBan { jail, scope, since, reason } = ban;
        let (since, reason) = (when(since), shown_text(reason));
        format!("ban by {jail} {how}, scope {scope}, since {since}: {reason}")
    };
    let what = match event {
        HistoryEvent::BanEnded(ended) => ban("ended", ended),
        HistoryEvent::BanLifted(ended) => ban("lifted", ended),
        HistoryEvent::BanPrevented { jail, is, reason } => {
            format!("{jail} did not ban it, because it is {is}: {}", shown_text(reason))
        }
        HistoryEvent::Lapsed => {
            "the first start was not confirmed, so packets were no longer dropped".to_owned()
        }
        HistoryEvent::Change { by, action } => {
            format!("{}: {}", shown_text(by), shown_text(action))
        }
    };
    let mut text = String::new();
    line(&mut text, &format!("{:<12}  {network}", when(time)));
    let mut rest = String::new();
    for word in what.split(' ') {
        if !rest.is_empty() && rest.chars().count() + 1 + word.chars().count() > 66 {
            line(&mut text, &format!("{:14}{rest}", ""));
            rest.clear();
        }
        if !rest.is_empty() {
            rest.push(' ');
        }
        rest.push_str(word);
    }
    if !rest.is_empty() {
        line(&mut text, &format!("{:14}{rest}", ""));
    }
    text
}

#[cfg(test)]
mod tests {
    use api::{Durability, Tunable};

    use super::*;

    fn permit() -> Allowed {
        Allowed {
            network: "2001:db8:1234:5678::/64".to_owned(),
            since: "2026-01-02T00:00:00Z".to_owned(),
            until: Some("2031-01-02T00:00:00Z".to_owned()),
            comment: Some("branch office\u{1b}[2J, until the new line is there".to_owned()),
            by: "alice (sudo, root) from 198.51.100.9".to_owned(),
        }
    }

    fn durable() -> Durability {
        Durability { durable: true, why: None }
    }

    #[test]
    fn what_was_typed_is_shown_escaped() {
        let text = allows(&Allows { allows: vec![permit()] });
        assert!(text.contains("alice") && text.contains("\\u{1b}[2J"), "{text}");
        assert!(allows(&Allows::default()).contains("no network"));
    }

    #[test]
    fn a_change_says_what_it_leads_to() {
        let allowed_net = permit();
        let changed = AllowChanged {
            allowed: allowed_net,
            lifted: 2,
            is_configured: true,
            durability: durable(),
        };
        let text = allowed(&changed);
        assert!(text.contains("left)\n2 bans in it lifted\n"), "{text}");
        let text = disallowed(&changed);
        assert!(text.contains("no longer allowed\nit stays trusted"), "{text}");
        let changed = TuneChanged {
            jail: "sshd".to_owned(),
            setting: Tunable::Bantime,
            old: "1h".to_owned(),
            new: "2h".to_owned(),
            configured: "1h".to_owned(),
            durability: durable(),
        };
        let text = set(&changed);
        assert!(text.contains("bantime is 2h; it was 1h\n") && text.contains("default"), "{text}");
        assert_eq!(set(&TuneChanged { new: "1h".to_owned(), ..changed }).lines().count(), 1);
    }

    #[test]
    fn any_history_is_one_document_and_fits_the_screen() {
        let row = HistoryRow {
            time: "2026-01-02T00:00:00Z".to_owned(),
            network: Some("203.0.113.7".to_owned()),
            event: HistoryEvent::BanEnded(EndedBan {
                jail: "asterisk-wazo".to_owned(),
                scope: "sip".to_owned(),
                since: "2026-01-01T00:00:00Z".to_owned(),
                reason: "15 failures that count 45 on 12 accounts within 10m, the last one a\u{7}b"
                    .to_owned(),
            }),
        };
        let by = "root".to_owned();
        let change = HistoryEvent::Change { by, action: "unban everything".to_owned() };
        let change = HistoryRow { network: None, event: change, ..row.clone() };
        for rows in [0, 1, 300] {
            let write = |json| {
                let mut left = rows;
                let page = |_before| {
                    let some = left.min(256);
                    left -= some;
                    let mut history = vec![row.clone(); some];
                    history.extend((left == 0 && some > 0).then(|| change.clone()));
                    Ok(HistoryPage { history, next: (left > 0).then_some(1) })
                };
                let mut out = Vec::new();
                history(page, json, &mut out).unwrap();
                String::from_utf8(out).unwrap()
            };
            let value: serde_json::Value = serde_json::from_str(&write(true)).unwrap();
            let expected = if rows == 0 { 0 } else { rows + 1 };
            assert_eq!(value["history"].as_array().unwrap().len(), expected);
            let text = write(false);
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
            assert!(!text.contains('\u{7}'));
        }
    }
}
