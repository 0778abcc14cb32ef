//! Entries for the history: bans that end, and manual changes.

use std::collections::BTreeMap;
use std::time::Duration;

use api::{
    Answer, ChangedSetting, EndedBan, HistoryEvent, Maintenance, Order, Refused, Reply, Request,
    Unban,
};
use ipnet::IpNet;

use super::Controller;
use crate::ban::{Entry, Origin};
use crate::clock::KernelTime;
use crate::datapath::Datapath;
use crate::duration;
use crate::report;
use crate::store::{DecisionKey, Event};

/// The most changed settings that a reload's entry lists.
const CHANGES_MAX: usize = 16;

/// The most characters of each of them.
const CHANGE_MAX: usize = 200;

/// The kind of the record in the store that the emergency switch is on.
const SWITCH: &str = "switch";

/// The action of a request, as text, and its network.
pub(super) type Action = (Option<IpNet>, String);

impl<D: Datapath> Controller<D> {
    /// Records that a ban has ended or was lifted.
    pub(super) fn note_end(&self, entry: &Entry, is_lifted: bool, now: KernelTime) {
        self.tell_end(entry, is_lifted);
        // Bans for floods are short, and those of feeds and other hosts many: they would fill the history.
        if matches!(entry.ban.origin, Origin::Flood | Origin::Feed(_) | Origin::Fleet) {
            return;
        }
        let ended = EndedBan {
            jail: self.jail_name(entry.ban.origin).to_owned(),
            scope: self.ports.name(entry.ban.scope).to_owned(),
            since: self.started.show(entry.ban.since),
            reason: entry.reason.to_string(),
        };
        let event =
            if is_lifted { HistoryEvent::BanLifted(ended) } else { HistoryEvent::BanEnded(ended) };
        self.note(Some(entry.ban.network), &event, now);
    }

    /// Records a manual change, unless it was refused.
    pub(super) fn note_changes(
        &self,
        actions: Vec<Action>,
        answer: &Reply,
        who: &str,
        now: KernelTime,
    ) {
        let Reply::Ok(answer) = answer else { return };
        let refused: &[Refused] = if let Answer::BannedMany(many) = answer {
            &many.refused
        } else if let Answer::Lifted(lifted) = answer {
            &lifted.refused
        } else {
            &[]
        };
        let is_refused = |place: usize| refused.iter().any(|refused| refused.place == place as u64);
        for (place, (network, action)) in actions.into_iter().enumerate() {
            if !is_refused(place) {
                self.note_change(network, who, action, now);
            }
        }
    }

    /// Records a manual change.
    pub fn note_change(&self, network: Option<IpNet>, who: &str, action: String, now: KernelTime) {
        let event = HistoryEvent::Change { by: who.to_owned(), action };
        self.note(network, &event, now);
    }

    /// Records a reload that was applied, with the settings that it changed.
    pub fn note_reload(&self, changes: &[ChangedSetting], who: &str, now: KernelTime) {
        self.note_change(None, who, reload(changes), now);
    }

    /// Records that the first start was not confirmed in time.
    pub fn note_lapse(&self, now: KernelTime) {
        self.note(None, &HistoryEvent::Lapsed, now);
    }

    /// Records that the emergency switch is on or off, if that differs from what was recorded last. It may
    /// have been changed while no daemon ran.
    pub fn note_switch(&mut self, is_on: bool, who: &str, action: String, now: KernelTime) {
        if self.enforcement.is_noted_as_switched != is_on {
            self.enforcement.is_noted_as_switched = is_on;
            self.put_switch();
            self.note_change(None, who, action, now);
        }
    }

    /// Loads what was recorded last about the emergency switch.
    pub(super) fn take_switch(&mut self, kept: &BTreeMap<DecisionKey, String>) {
        let is_on = kept.keys().any(|(kind, _)| kind == SWITCH);
        self.enforcement.is_noted_as_switched |= is_on;
    }

    /// Saves what was recorded last about the emergency switch.
    pub(super) fn put_switch(&self) {
        let is_on = self.enforcement.is_noted_as_switched;
        self.bans.store().decide(SWITCH, "", is_on.then(|| "true".to_owned()));
    }

    pub(super) fn note(&self, network: Option<IpNet>, event: &HistoryEvent, now: KernelTime) {
        let is_manual = matches!(event, HistoryEvent::Change { .. } | HistoryEvent::Lapsed);
        if let Ok(what) = serde_json::to_string(event) {
            self.bans.store().happened(Event { at: now.into(), network, is_manual, what });
        }
    }
}

/// The actions of a request; empty for one that changes nothing.
pub(super) fn actions(request: &Request) -> Vec<Action> {
    let one = |network: &IpNet, action: String| vec![(Some(network.trunc()), action)];
    let all = |action: String| vec![(None, action)];
    let because = |reason: &Option<String>| {
        reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"))
    };
    match request {
        Request::Ban { network, seconds, scope, reason, .. } => {
            one(network, format!("ban {}, scope {scope}{}", lasting(*seconds), because(reason)))
        }
        Request::BanMany { bans, .. } => {
            let action = |order: &Order| {
                let Order { network, seconds, scope, reason, jail, .. } = order;
                let by = jail.as_ref().map_or_else(String::new, |jail| format!(" of {jail}"));
                let text =
                    format!("ban{by} {}, scope {scope}{}", lasting(*seconds), because(reason));
                (Some(network.trunc()), text)
            };
            bans.iter().map(action).collect()
        }
        Request::Unban(Unban::Network { network, inside: false }) => {
            one(network, "unban".to_owned())
        }
        Request::Unban(Unban::Network { network, inside: true }) => {
            one(network, "unban, with everything inside".to_owned())
        }
        Request::Unban(Unban::Manual { network, reason }) => {
            one(network, format!("unban, if banned for: {reason}"))
        }
        Request::Unban(Unban::Networks { networks }) => {
            networks.iter().map(|network| (Some(network.trunc()), "unban".to_owned())).collect()
        }
        Request::Unban(Unban::Jail { jail }) => all(format!("unban everything by {jail}")),
        Request::Unban(Unban::All) => all("unban everything".to_owned()),
        Request::TakeOver { bans, from, .. } => {
            all(format!("import {} bans from {from}", bans.len()))
        }
        Request::Maintenance(Maintenance::On { seconds, .. }) => {
            all(format!("close SIP {}", lasting(Some(*seconds))))
        }
        Request::Maintenance(Maintenance::Off) => all("open SIP".to_owned()),
        Request::Allow { network, seconds, comment } => {
            one(network, format!("allow {}{}", lasting(*seconds), because(comment)))
        }
        Request::Disallow { network } => one(network, "disallow".to_owned()),
        Request::Set { jail, setting, value } => {
            let value = value.as_deref().unwrap_or("default");
            all(format!("set {jail} {} {value}", setting.as_str()))
        }
        Request::FeedsConfirm { name } => all(format!("confirm the feed {name}")),
        Request::FleetCut { host } => all(format!("cut off {host} of the fleet")),
        Request::FleetJoin { host } => all(format!("accept the bans of {host} of the fleet again")),
        // The daemon's loop carries out the first two, and records what came of them.
        Request::Reload { .. }
        | Request::Confirm
        | Request::Maintenance(Maintenance::Status)
        | Request::Status
        | Request::Bans(_)
        | Request::Active(_)
        | Request::Jails
        | Request::Why { .. }
        | Request::Allows
        | Request::Feeds
        | Request::PageLink
        | Request::Traffic(_)
        | Request::Fleet
        | Request::FleetReport(_)
        | Request::FleetBans(_)
        | Request::FleetAllows { .. }
        | Request::Peers { .. }
        | Request::Alerts
        | Request::AlertsTest { .. }
        | Request::History(_) => Vec::new(),
    }
}

/// A reload, as text.
fn reload(changes: &[ChangedSetting]) -> String {
    let show = |change: &ChangedSetting| {
        let mut text = report::change(change);
        if let Some((end, _)) = text.char_indices().nth(CHANGE_MAX) {
            text.truncate(end);
            text.push_str("...");
        }
        let later = if change.needs_restart { " (after a restart)" } else { "" };
        text + later
    };
    let mut shown: Vec<String> = changes.iter().take(CHANGES_MAX).map(show).collect();
    if changes.len() > CHANGES_MAX {
        shown.push(format!("{} more settings", changes.len() - CHANGES_MAX));
    }
    match &shown[..] {
        [] => "reload the configuration, which has not changed".to_owned(),
        shown => format!("reload the configuration: {}", shown.join("; ")),
    }
}

fn lasting(seconds: Option<u64>) -> String {
    seconds.map_or_else(
        || "without an end".to_owned(),
        |seconds| {
            format!("for {}", duration::format(Duration::from_secs(seconds).min(duration::MAX)))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::super::show;
    use super::super::tests::{NoKernel, at, fail, order, started_with};
    use super::*;

    /// The entries of the history, as they are shown.
    fn told(controller: &Controller<NoKernel>) -> Vec<(Option<String>, HistoryEvent)> {
        let events = controller.bans.store().take_history().into_iter();
        let read =
            |event: Event| (event.network.map(show), serde_json::from_str(&event.what).unwrap());
        events.map(read).collect()
    }

    #[test]
    fn the_history_has_ended_bans_and_who_changed_what() {
        let mut controller = started_with(NoKernel::default(), |_default| {});
        fail(&mut controller, [203, 0, 113, 7], 15);
        fail(&mut controller, [203, 0, 113, 8], 15);
        assert!(told(&controller).is_empty(), "what is in force is in no history");
        let network = "203.0.113.7/32".parse().unwrap();
        let unban = Request::Unban(Unban::Network { network, inside: false });
        controller.answer_to(unban.clone(), "alice", at(20));
        controller.answer_to(unban, "alice", at(21));
        controller.handle_timeout(at(3 * 3600));
        let told = told(&controller);
        let [lifted, change, ended] = &told[..] else { panic!("{told:?}") };
        assert!(matches!(&lifted.1, HistoryEvent::BanLifted(ban) if ban.jail == "asterisk-wazo"));
        let (by, action) = ("alice".to_owned(), "unban".to_owned());
        assert_eq!(change.1, HistoryEvent::Change { by, action });
        assert_eq!(change.0.as_deref(), Some("203.0.113.7"));
        assert!(matches!(&ended.1, HistoryEvent::BanEnded(ban) if ban.scope == "sip"), "{ended:?}");
    }

    #[test]
    fn a_reload_is_noted_with_what_changed() {
        let change = |number: usize, needs_restart| ChangedSetting {
            setting: format!("a{number}"),
            old: None,
            new: Some("x".repeat(if number == 0 { 1 } else { 1000 })),
            needs_restart,
        };
        let controller = started_with(NoKernel::default(), |_default| {});
        controller.note_reload(&[], "root", at(0));
        controller.note_reload(&[change(0, false), change(0, true)], "root", at(0));
        let many: Vec<ChangedSetting> = (1..100).map(|number| change(number, false)).collect();
        controller.note_reload(&many, "root", at(0));
        let actions: Vec<String> = told(&controller)
            .into_iter()
            .map(|(_, event)| {
                let HistoryEvent::Change { action, .. } = event else { panic!("{event:?}") };
                action
            })
            .collect();
        assert!(actions[0].ends_with("has not changed"), "{actions:?}");
        assert_eq!(
            actions[1],
            "reload the configuration: a0: unset -> x; a0: unset -> x (after a restart)"
        );
        assert!(actions[2].ends_with("; 83 more settings"), "{actions:?}");
        assert!(actions[2].len() < 4000);
    }

    #[test]
    fn the_emergency_switch_is_noted_once_for_each_change() {
        let mut controller = started_with(NoKernel::default(), |_default| {});
        let mut note = |is_on| controller.note_switch(is_on, "root", String::new(), at(0));
        for is_on in [false, true, true, false, true] {
            note(is_on);
        }
        assert_eq!(told(&controller).len(), 3);
        // A restart knows what was noted.
        let mut again = started_with(NoKernel::default(), |_default| {});
        let kept = [((SWITCH.to_owned(), String::new()), "true".to_owned())];
        again.take_switch(&BTreeMap::from(kept));
        again.note_switch(true, "root", String::new(), at(0));
        assert!(told(&again).is_empty());
        again.note_switch(false, "root", String::new(), at(0));
        assert_eq!(told(&again).len(), 1);
    }

    #[test]
    fn what_was_refused_or_changed_nothing_is_not_noted() {
        let mut controller = started_with(NoKernel::default(), |_default| {});
        let bans = vec![order("203.0.113.7/32"), order("127.0.0.1/32"), order("203.0.113.8/32")];
        controller.answer(Request::BanMany { bans, force: false }, at(0));
        controller.answer(Request::Status, at(0));
        let setting = api::Tunable::Maxretry;
        controller.answer(Request::Set { jail: "x".to_owned(), setting, value: None }, at(0));
        let told = told(&controller);
        let networks: Vec<&str> = told.iter().filter_map(|(net, _)| net.as_deref()).collect();
        assert_eq!(networks, ["203.0.113.7", "203.0.113.8"]);
        let action = "ban for 10m, scope sip: abuse".to_owned();
        assert_eq!(told[0].1, HistoryEvent::Change { by: "root".to_owned(), action });
    }
}
