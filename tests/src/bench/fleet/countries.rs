//! A table of countries for a whole world: how soon it is in force, its memory, and what a packet costs more.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use filter_user::client;
use filter_user::control::Request;
use geo::{Database, Policy, Table, compile};
use ipnet::IpNet;
use serde::Serialize;

use crate::bench::float;
use crate::bench::operations::site::{UNIT, environment, peak_during, resident};
use crate::cases::{World, messages};
use crate::kernel::Kernel;
use crate::netns::Cable;
use crate::packet_builder::Frame;
use crate::ringfence::{Config, Ringfence};
use crate::screen::Paint;
use crate::{interrupt, scratch};

/// The networks of the database, of both families.
const NETWORKS: u32 = 500_000;

/// How long everything may take.
const LIMIT: Duration = Duration::from_mins(1);

/// How often a frame is decided on, and how often this is measured.
const REPEATS: u32 = 300_000;
const ROUNDS: u32 = 3;

/// Sources whose country is admitted, one of each family, and one whose country is not.
const OPEN: [&str; 2] = ["192.0.2.66", "2001:db8::66"];
const SHUT: &str = "2a0f:ffff::1";

/// What is measured.
#[derive(Clone, Debug, Serialize)]
pub struct Countries {
    /// The networks.
    pub networks: u32,
    /// Megabytes of the file.
    pub file: f64,
    /// Seconds to read and to compile it.
    pub compiled: f64,
    /// Seconds from `ringfence reload` until the table is in force, in a daemon that had none.
    pub in_force: f64,
    /// Megabytes of the daemon: before, after, and at the peak.
    pub memory: [f64; 3],
    /// What a REGISTER costs.
    pub packets: Cost,
}

/// Nanoseconds of a REGISTER over IPv4, of one over IPv6, and of one over IPv6 that is shut out.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    /// Without a table.
    pub without: [u64; 3],
    /// With it.
    pub with: [u64; 3],
}

impl Countries {
    /// As text.
    pub fn text(&self, paint: Paint) -> String {
        let Self { networks, file, compiled, in_force, memory, packets } = self;
        let [before, after, peak] = memory;
        let Cost { without, with } = packets;
        [
            paint.bold(&format!("Countries of {networks} networks, {file:.1} MB")),
            format!("  read and compiled in {compiled:.2} s, in force {in_force:.2} s after a reload"),
            format!("  memory: {before:.0} MB before, {after:.0} MB after, {peak:.0} MB at the peak"),
            format!(
                "  a REGISTER over IPv4: {} ns, {} ns with the table; over IPv6: {} ns, {} ns; shut out: {} ns",
                without[0], with[0], without[1], with[1], with[2]
            ),
        ]
        .join("\n")
    }
}

/// The table of a policy that admits ten countries, and the bytes of its database.
fn table() -> anyhow::Result<(Vec<u8>, Table, Duration)> {
    let bytes = geo::writer::world(NETWORKS);
    let start = Instant::now();
    let database = Database::read(bytes.clone()).map_err(|why| anyhow!("{why}"))?;
    let admit: Vec<_> = admitted()
        .iter()
        .map(|name| name.parse())
        .collect::<Result<_, _>>()
        .map_err(|why| anyhow!("{why}"))?;
    let admit = Policy::Admit(admit.into_iter().collect());
    let table =
        compile(&[("world".to_owned(), database)], &admit).map_err(|why| anyhow!("{why}"))?;
    Ok((bytes, table, start.elapsed()))
}

fn admitted() -> Vec<String> {
    (b'A'..=b'J').map(|letter| format!("A{}", char::from(letter))).collect()
}

/// What a packet costs in the kernel, without a table and with one.
///
/// # Errors
///
/// If the kernel does not load the program.
pub fn cost() -> anyhow::Result<Cost> {
    cost_with(&table()?.1)
}

fn cost_with(table: &Table) -> anyhow::Result<Cost> {
    let shut: IpAddr = SHUT.parse()?;
    let open: Vec<IpAddr> = OPEN.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    ensure!(
        table.shuts_out(shut) && !open.iter().any(|address| table.shuts_out(*address)),
        "the database is another"
    );
    let entries = table.entries(&BTreeSet::new()).into_iter();
    let networks = entries.map(|entry| (IpNet::from(entry.network), entry.is_shut));
    let unlimited = World::default().unlimited();
    let shut_out = World { shut: networks.collect(), ..unlimited.clone() };
    let mut kernel = Kernel::load(0)?;
    let mut best = [[Duration::MAX; 3]; 2];
    for _ in 0..ROUNDS {
        interrupt::check()?;
        for (world, best) in [&unlimited, &shut_out].into_iter().zip(&mut best) {
            kernel.enter(world, 1)?;
            for (address, best) in open.iter().chain([&shut]).zip(best) {
                let frame = Frame::from(*address).payload(messages::register()).build();
                *best = kernel.repeat(&frame, REPEATS)?.min(*best);
            }
        }
    }
    let nanoseconds =
        |times: [Duration; 3]| times.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    let [without, with] = best;
    Ok(Cost { without: nanoseconds(without), with: nanoseconds(with) })
}

/// Measures.
pub(super) fn measure(binary: &Path) -> anyhow::Result<Countries> {
    let (bytes, table, compiled) = table()?;
    let packets = cost_with(&table)?;
    drop(table);
    let directory = scratch::directory("countries")?;
    let file = directory.path().join("world.mmdb");
    fs::write(&file, &bytes).context("write a database")?;
    let cable = Cable::new()?;
    let mut config = Config::new(Path::new("/nonexistent/fail2ban"));
    config.environment = environment(UNIT);
    let mut ringfence = Ringfence::start(&cable.far, binary, &config)?;
    let process = ringfence.id();
    let before = resident(process)?.own;
    let settings =
        format!("geo: {{databases: [{}], admit: [{}]}}\n", file.display(), admitted().join(", "));
    ringfence.configure(|config| config.more = settings)?;
    let start = Instant::now();
    let mut in_force = Duration::ZERO;
    let peak = peak_during(process, || {
        ringfence.client().run(&["reload"], false)?.success("ringfence reload")?;
        loop {
            interrupt::check()?;
            let status: serde_json::Value =
                client::ask(ringfence.client().socket(), &Request::Status)?;
            in_force = start.elapsed();
            if status["geo"]["state"] == "ok" && status["geo"]["in_force"] == true {
                return Ok(());
            }
            ensure!(in_force < LIMIT, "the table is not in force: {}", status["geo"]);
            thread::sleep(Duration::from_millis(5));
        }
    })?;
    let after = resident(process)?.own;
    ringfence.stop()?;
    Ok(Countries {
        networks: NETWORKS,
        file: float(bytes.len() as u64) / 1e6,
        compiled: compiled.as_secs_f64(),
        in_force: in_force.as_secs_f64(),
        memory: [before, after, before + peak],
        packets,
    })
}
