//! The arguments of what an administrator decides while the daemon runs, `allow`, `disallow` and `set`, and of its
//! `history`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use ipnet::IpNet;

use super::Output;
use crate::ban_list::{network, time};
use crate::duration;

/// The arguments of `allow`.
#[derive(Debug, Args)]
pub struct Allow {
    /// The address or network
    #[arg(value_name = "NET", value_parser = network)]
    pub network: IpNet,
    /// How long, such as `10m` or `7d` [default: until `disallow`]
    #[arg(long = "for", value_name = "DURATION", value_parser = time)]
    pub time: Option<Duration>,
    /// What it is for, to show in `allows` and `why`
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// The arguments of `disallow`.
#[derive(Debug, Args)]
pub struct Disallow {
    /// The address or network
    #[arg(value_name = "NET", value_parser = network)]
    pub network: IpNet,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// The arguments of `set`.
#[derive(Debug, Args)]
pub struct Set {
    /// The jail
    pub jail: String,
    /// `maxretry`, `findtime` or `bantime`
    #[arg(value_name = "SETTING", hide_possible_values = true)]
    pub setting: Setting,
    /// The value as in the configuration, or seconds; `default` for the configured one
    pub value: String,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// A setting that `set` changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Setting {
    /// How many failures lead to a ban.
    Maxretry,
    /// How long a failure counts.
    Findtime,
    /// How long a ban lasts.
    Bantime,
}

/// The arguments of `history`.
#[derive(Debug, Args)]
pub struct HistoryOf {
    /// Only what concerns this address or network, something in it, or a network around it
    #[arg(value_name = "NET", value_parser = network)]
    pub network: Option<IpNet>,
    /// Only what happened within this time, such as `10m` or `7d`
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub since: Option<Duration>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}
