//! Which of the addresses that the host depends on no jail may ban.

use super::section::section;

section! {
    /// Which of the addresses that the host depends on no jail may ban.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Protect {
        gateways: bool = true,
            "Never let a jail ban the gateways of the default routes. Unlike trusted addresses, \
             what `protect` covers stays subject to the limits.",
            Flag();
        name_servers: bool = true,
            "Never let a jail ban the name servers in `/etc/resolv.conf` or behind systemd-resolved.",
            Flag();
        trunks: bool = true,
            "Never let a jail ban the trunks in Asterisk's `pjsip.conf`, `pjsip_wizard.conf` and \
             `iax.conf`, or in what wazo-confgend writes: the hosts that Asterisk registers to, identifies \
             by address or sends calls to, networks up to a /20 or, of IPv6, a /48.",
            Flag();
        ssh_sessions: bool = true,
            "Never let a jail close SSH to an address from which a user has logged in over ssh, until the \
             session ends.",
            Flag();
    }
}
