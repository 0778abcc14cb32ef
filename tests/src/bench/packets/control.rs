//! How long it takes from the command `ringfence ban` until the program drops.

use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use filter_user::client;
use filter_user::control::Request;

use crate::bench::sender::Family;
use crate::bench::sources::Choice;
use crate::bpf::{Action, Program};
use crate::netns::Cable;
use crate::packet_builder::Frame;
use crate::ringfence::{Config, Ringfence};
use crate::{interrupt, scratch};

/// The number of bans over the socket, and of bans with one process each.
const OVER_SOCKET: u32 = 300;
const BY_COMMAND: u32 = 50;
const LIMIT: Duration = Duration::from_secs(5);
/// The number of the first source that is banned here.
const FIRST: u32 = 0x6000_0000;

/// Microseconds of each ban.
#[derive(Debug)]
pub(super) struct Times {
    /// From before connecting to the control socket until the first packet is dropped.
    pub(super) over_socket: Vec<f64>,
    /// From before starting the process `ringfence ban` until the first packet is dropped.
    pub(super) by_command: Vec<f64>,
}

/// Starts a daemon and bans some hundred sources with it.
pub(super) fn measure(binary: &Path) -> anyhow::Result<Times> {
    let cable = Cable::new()?;
    let directory = scratch::directory("bench")?;
    let log = directory.path().join("fail2ban");
    std::fs::write(&log, "").context("make an empty log")?;
    let ringfence = Ringfence::start(&cable.far, binary, &Config::new(&log))?;
    let pin = ringfence.pins().into_iter().find(|pin| {
        pin.file_name().is_some_and(|name| name.to_string_lossy().starts_with("program-"))
    });
    let program = Program::from_pin(&pin.context("the daemon has not pinned a program")?)?;
    let client = ringfence.client();
    let mut over_socket = Vec::new();
    for number in FIRST..FIRST + OVER_SOCKET {
        interrupt::check()?;
        over_socket.push(time(&program, number, |source| {
            let request = Request::Ban {
                network: source.into(),
                seconds: Some(600),
                scope: "sip".to_owned(),
                except: Vec::new(),
                reason: None,
                force: false,
            };
            client::ask(client.socket(), &request).map(drop)
        })?);
    }
    let mut by_command = Vec::new();
    for number in FIRST + OVER_SOCKET..FIRST + OVER_SOCKET + BY_COMMAND {
        by_command.push(time(&program, number, |source| {
            client.run(&["ban", &source.to_string()], false)?.success("ringfence ban")?;
            Ok(())
        })?);
    }
    Ok(Times { over_socket, by_command })
}

/// Microseconds from the start of `ban` until the first packet of its source is dropped.
fn time(
    program: &Program,
    number: u32,
    ban: impl FnOnce(IpAddr) -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let source = Family::V4.source(Choice::One(number));
    // No limit drops a TCP segment without data.
    let frame = Frame::from(source).tcp(5060).payload([]).build();
    if program.run(&frame, 1)? == Action::Drop {
        bail!("{source} is dropped before it is banned");
    }
    thread::scope(|scope| {
        let (ready, is_ready) = std::sync::mpsc::channel();
        let watcher = scope.spawn(move || -> anyhow::Result<Instant> {
            ready.send(()).context("the thread that bans is gone")?;
            let deadline = Instant::now() + LIMIT;
            while Instant::now() < deadline {
                if program.run(&frame, 1)? == Action::Drop {
                    return Ok(Instant::now());
                }
            }
            bail!("{source} is not dropped {} s after its ban", LIMIT.as_secs())
        });
        is_ready.recv().context("the thread that watches is gone")?;
        let started = Instant::now();
        let banned = ban(source);
        let dropped = watcher.join().map_err(|_panic| anyhow::anyhow!("the watcher panicked"))?;
        banned?;
        Ok(dropped?.saturating_duration_since(started).as_secs_f64() * 1e6)
    })
}
