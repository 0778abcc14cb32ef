//! The rules of nftables and iptables, as their programs list them.

use ::audit::firewall::{Family, Rules, parse_iptables, parse_nft};

use super::{Missing, program};

/// The rules from each installed program.
pub(super) fn read(missing: &mut Missing) -> Vec<Rules> {
    let mut all = Vec::new();
    let mut is_installed = false;
    match program::output("nft", &["-j", "list", "ruleset"]) {
        Ok(None) => {}
        Ok(Some(text)) => {
            is_installed = true;
            match parse_nft(&text) {
                Ok(rules) => all.push(rules),
                Err(why) => missing.add("the rules of nftables", why),
            }
        }
        Err(why) => {
            is_installed = true;
            missing.add("the rules of nftables", format!("{why:#}"));
        }
    }
    for (tool, family) in [("iptables-save", Family::V4), ("ip6tables-save", Family::V6)] {
        match program::output(tool, &[]) {
            Ok(None) => {}
            Ok(Some(text)) => {
                is_installed = true;
                let rules = parse_iptables(tool, family, &text);
                // Without a table there is nothing to report.
                if !rules.chains.is_empty() {
                    all.push(rules);
                }
            }
            Err(why) => missing.add(format!("the rules of {tool}"), format!("{why:#}")),
        }
    }
    if !is_installed {
        missing.add("the firewall", "neither nft nor iptables-save is installed");
    }
    all
}
