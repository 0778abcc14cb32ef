//! Feeds as text for people.

use api::{FeedConfirmed, FeedRow, FeedTest, Feeds};

use crate::report::{line, shown_text, table, when};

/// `feeds`.
pub fn listed(Feeds { feeds, enforcing }: &Feeds) -> String {
    if feeds.is_empty() {
        return "no feeds are configured\n".to_owned();
    }
    let time = |time: &Option<String>| time.as_deref().map_or_else(|| "-".to_owned(), when);
    let row = |feed: &FeedRow| {
        vec![
            feed.name.clone(),
            feed.state.as_str().to_owned(),
            feed.entries.to_string(),
            feed.banned.to_string(),
            feed.packets.to_string(),
            time(&feed.fetched),
            time(&feed.next),
        ]
    };
    let head = ["FEED", "STATE", "ENTRIES", "BANNED", "PACKETS", "FETCHED", "NEXT"];
    let mut text = table(&head, feeds.iter().map(row).collect());
    for feed in feeds {
        let mut say = |words: &str| line(&mut text, &format!("{}: {words}", feed.name));
        if let Some(problem) = &feed.problem {
            say(&format!("PROBLEM: {}", shown_text(problem)));
        }
        if feed.dry_run {
            say("dry run: bans nothing");
        }
        let spared = feed.spared.iter().map(|(why, number)| format!("{number} {why}"));
        let spared: Vec<String> = spared.collect();
        if !spared.is_empty() {
            say(&format!("listed, but not banned: {}", spared.join(", ")));
        }
        if feed.left_out > 0 {
            say(&format!(
                "left out: {}, not in use on the Internet, too wide, or too many",
                entries(feed.left_out)
            ));
        }
        if feed.unread > 0 {
            say(&format!(
                "could not be read: {}; `ringfence feeds test` shows the first",
                entries(feed.unread)
            ));
        }
    }
    if !enforcing {
        line(&mut text, "nothing is enforced now, so these bans drop no packets");
    }
    text
}

/// `feeds confirm`.
pub fn confirmed(FeedConfirmed { name, entries: number }: &FeedConfirmed) -> String {
    format!("the feed {} now bans its list of {}\n", shown_text(name), entries(*number))
}

/// `feeds test`.
pub fn tested(found: &FeedTest) -> String {
    let mut text = String::new();
    let FeedTest { bogons, wide, trusted, covered, unread, .. } = found;
    let list = format!("{} in the form `{}`", shown_text(&found.url), found.format);
    line(&mut text, &format!("{list}: {} to ban", entries(found.entries)));
    if !found.sample.is_empty() {
        line(&mut text, &format!("the first: {}", found.sample.join(", ")));
    }
    for (number, what) in [
        (bogons, "not in use on the Internet, never banned"),
        (wide, "too wide, never banned"),
        (trusted, "trusted, never banned"),
        (covered, "covered by others"),
    ] {
        if *number > 0 {
            line(&mut text, &format!("{number} {what}"));
        }
    }
    if *unread > 0 {
        let first = found.first_unread.as_deref().unwrap_or_default();
        line(&mut text, &format!("{unread} could not be read; the first is entry {first}"));
    }
    if let Some(why) = &found.refused {
        line(&mut text, &format!("a feed would need a confirmation, because {why}"));
    }
    text
}

fn entries(number: u64) -> String {
    format!("{number} {}", if number == 1 { "entry" } else { "entries" })
}

#[cfg(test)]
mod tests {
    use api::FeedState;

    use super::*;

    #[test]
    fn a_feed_is_shown_with_its_problem() {
        let feed = FeedRow {
            name: "drop".to_owned(),
            state: FeedState::Failing,
            problem: Some("the server answers 503".to_owned()),
            entries: 7,
            spared: [("known".to_owned(), 1)].into(),
            left_out: 1,
            unread: 2,
            dry_run: true,
            ..FeedRow::default()
        };
        let text = listed(&Feeds { feeds: vec![feed], enforcing: false });
        for part in [
            "failing",
            "PROBLEM: the server",
            "not banned: 1 known",
            "1 entry",
            "2 entries",
            "dry run",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(listed(&Feeds::default()), "no feeds are configured\n");
    }
}
