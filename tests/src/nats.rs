//! NATS servers from Debian's package, in namespaces, with TLS and a key for each host.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::child::{self, OnSignal, Running};
use crate::netns::Netns;
use crate::ringfence::Ringfence;
use crate::{debian, scratch};

const LIMIT: Duration = Duration::from_mins(1);

/// The bucket.
pub const BUCKET: &str = "ringfence";

/// The name of the administrator among the users.
pub const ADMINISTRATOR: &str = "administrator";

/// The agent of the fleet, which is built beside `ringfence`.
///
/// # Errors
///
/// If it has not been built.
pub fn agent() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("path of this executable")?;
    let named = std::env::var_os("RINGFENCE_BIN").map(PathBuf::from);
    let beside = named.iter().chain([&own]).flat_map(|path| path.ancestors().skip(1).take(2));
    let mut found = beside.map(|directory| directory.join("ringfence-fleet"));
    found
        .find(|agent| agent.is_file())
        .context("there is no ringfence-fleet: build it with `cargo build -p fleet-agent`")
}

/// The permissions of a host, as `docs/fleet.md` has them.
fn permissions(host: &str) -> String {
    format!(
        "publish: {{allow: [\"$KV.{BUCKET}.bans.{host}.>\", \"$KV.{BUCKET}.hosts.{host}\", \
         \"$JS.API.CONSUMER.CREATE.KV_{BUCKET}\", \"$JS.API.CONSUMER.CREATE.KV_{BUCKET}.>\", \
         \"$JS.API.CONSUMER.INFO.KV_{BUCKET}.>\", \"$JS.API.CONSUMER.DELETE.KV_{BUCKET}.>\", \
         \"$JS.FC.KV_{BUCKET}.>\"]}}, subscribe: {{allow: [\"_INBOX_{host}.>\"]}}"
    )
}

/// One server.
#[derive(Debug)]
struct Server {
    name: String,
    host: Netns,
    address: IpAddr,
    process: Option<Running>,
}

/// A cluster of servers, or one. They are killed when dropped.
#[derive(Debug)]
pub struct Nats {
    servers: Vec<Server>,
    program: PathBuf,
    // The last field, so that the files outlive the processes.
    directory: TempDir,
}

impl Nats {
    /// Starts a server in each of these namespaces, and makes the bucket. `hosts` are the names of the fleet.
    ///
    /// # Errors
    ///
    /// If they cannot be downloaded or started.
    pub fn start(
        places: Vec<(Netns, IpAddr)>,
        hosts: &[&str],
        cache: &Path,
    ) -> anyhow::Result<Self> {
        let program = debian::unpacked(cache, "nats-server")?.join("usr/sbin/nats-server");
        let program = if program.is_file() {
            program
        } else {
            debian::unpacked(cache, "nats-server")?.join("usr/bin/nats-server")
        };
        let directory = scratch::directory("nats")?;
        let addresses: Vec<IpAddr> = places.iter().map(|(_, address)| *address).collect();
        certificates(directory.path(), &addresses)?;
        let mut users = String::new();
        for host in hosts {
            let key = key(directory.path(), host)?;
            writeln!(users, "{{nkey: {key}, permissions: {{{}}}}}", permissions(host))?;
        }
        let key = key(directory.path(), ADMINISTRATOR)?;
        writeln!(users, "{{nkey: {key}}}")?;
        fs::write(
            directory.path().join("users.conf"),
            format!("authorization {{timeout: 30, users: [\n{users}]}}\n"),
        )
        .context("write the users")?;
        let server = |(place, (host, address)): (usize, (Netns, IpAddr))| Server {
            name: format!("nats-{}", place + 1),
            host,
            address,
            process: None,
        };
        let servers = places.into_iter().enumerate().map(server).collect();
        let mut nats = Self { servers, program, directory };
        for place in 0..nats.servers.len() {
            nats.start_server(place)?;
        }
        let replicas = nats.servers.len().to_string();
        let deadline = Instant::now() + LIMIT;
        // A cluster needs a moment to choose its leader.
        loop {
            match nats.administer(&["init", "--replicas", &replicas]) {
                Ok(()) => return Ok(nats),
                Err(why) => ensure!(Instant::now() < deadline, "{why:#}\n{}", nats.log()),
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Starts a server again.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn start_server(&mut self, place: usize) -> anyhow::Result<()> {
        let routes: Vec<String> =
            self.servers.iter().map(|server| format!("nats://{}:6222", server.address)).collect();
        let is_cluster = self.servers.len() > 1;
        let server = self.servers.get_mut(place).context("there is no such server")?;
        let (here, name, address) = (self.directory.path(), &server.name, server.address);
        let cluster = if is_cluster {
            format!(
                "cluster {{name: fleet, listen: \"{address}:6222\", routes: [{}]}}\n",
                routes.join(", ")
            )
        } else {
            String::new()
        };
        let at = here.display();
        let text = format!(
            "server_name: {name}\nlisten: \"{address}:4222\"\n\
             jetstream {{store_dir: \"{at}/{name}\"}}\n{cluster}\
             tls {{timeout: 30, cert_file: \"{at}/server.pem\", key_file: \"{at}/server.key\"}}\n\
             include \"users.conf\"\n"
        );
        let config = here.join(format!("{name}.conf"));
        fs::write(&config, text).context("write the configuration of NATS")?;
        let log = File::options().create(true).append(true).open(here.join("log"));
        let log = log.context("open the log of NATS")?;
        let mut command = server.host.command(&self.program);
        command.arg("-c").arg(config).stdin(Stdio::null());
        command.stdout(log.try_clone().context("duplicate a file")?).stderr(log);
        server.process = Some(Running::spawn("nats-server", &mut command)?);
        Ok(())
    }

    /// Kills a server.
    ///
    /// # Errors
    ///
    /// If it does not end.
    pub fn kill_server(&mut self, place: usize) -> anyhow::Result<()> {
        let server = self.servers.get_mut(place).context("there is no such server")?;
        if let Some(mut process) = server.process.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// Runs a command of the administrator of the fleet.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn administer(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let first = self.servers.first().context("there is no server")?;
        let mut command = first.host.command(agent()?);
        command.args(arguments).arg("--server").arg(format!("tls://{}:4222", first.address));
        command.arg("--ca-file").arg(self.directory.path().join("ca.pem"));
        command.arg("--nkey-file").arg(self.directory.path().join(ADMINISTRATOR));
        child::finish("ringfence-fleet", &mut command, LIMIT, OnSignal::Stop)?
            .success("ringfence-fleet")
            .map(drop)
    }

    /// The settings of a host.
    pub fn settings(&self, host: &str, more: &str) -> String {
        let servers: Vec<String> =
            self.servers.iter().map(|server| format!("'tls://{}:4222'", server.address)).collect();
        let at = self.directory.path().display();
        format!(
            "fleet:\n  servers: [{}]\n  host: {host}\n  ca_file: {at}/ca.pem\n  nkey_file: {at}/{host}\n{more}",
            servers.join(", ")
        )
    }

    /// The file with the seed of a user.
    pub fn seed(&self, user: &str) -> PathBuf {
        self.directory.path().join(user)
    }

    /// The file with the certificate authority.
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Stores records as a user, without an agent. Returns how many the servers refused.
    ///
    /// # Errors
    ///
    /// If the user cannot connect from this namespace.
    pub fn store(
        &self,
        from: &Netns,
        user: &str,
        records: Vec<(String, String)>,
    ) -> anyhow::Result<usize> {
        let first = self.servers.first().context("there is no server")?;
        let server = format!("tls://{}:4222", first.address);
        let seed = fs::read_to_string(self.seed(user)).context("read the seed")?;
        let authority = self.authority();
        from.run_in(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let options = async_nats::ConnectOptions::new();
                let options = options.add_root_certificates(authority).nkey(seed.trim().to_owned());
                let options = options.custom_inbox_prefix(format!("_INBOX_{user}"));
                let context = async_nats::jetstream::new(options.connect(server).await?);
                let mut refused = 0;
                // The client waits if too many are not acknowledged.
                for part in records.chunks(1000) {
                    let mut waiting = Vec::new();
                    for (key, value) in part {
                        let subject = format!("$KV.{BUCKET}.{key}");
                        waiting.push(context.publish(subject, value.clone().into()).await?);
                    }
                    for stored in waiting {
                        refused += usize::from(stored.await.is_err());
                    }
                }
                Ok(refused)
            })
        })
    }

    /// What the servers said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

/// The running agent of a host, killed when dropped.
#[derive(Debug)]
pub struct Agent {
    process: Running,
    log: TempDir,
}

impl Agent {
    /// Starts the agent of a daemon.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn start(host: &Netns, ringfence: &Ringfence) -> anyhow::Result<Self> {
        Self::start_with(host, ringfence, &[])
    }

    /// The same, with these variables in its environment.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn start_with(
        host: &Netns,
        ringfence: &Ringfence,
        environment: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let log = scratch::directory("agent")?;
        let file = File::create(log.path().join("log")).context("create the agent's log")?;
        let mut command = host.command(agent()?);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.arg("run").arg("--socket").arg(ringfence.client().socket());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        Ok(Self { process: Running::spawn("ringfence-fleet", &mut command)?, log })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Kills it.
    ///
    /// # Errors
    ///
    /// If it does not end.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill().map(drop)
    }

    /// What it said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log.path().join("log")).unwrap_or_default()
    }
}

/// Makes a user's key, and returns its public part.
fn key(directory: &Path, user: &str) -> anyhow::Result<String> {
    let mut command = Command::new(agent()?);
    command.arg("key").arg(directory.join(user));
    let done = child::finish("ringfence-fleet key", &mut command, LIMIT, OnSignal::Stop)?;
    Ok(done.success("ringfence-fleet key")?.stdout.trim().to_owned())
}

/// Makes a certificate authority and a certificate for these addresses.
fn certificates(directory: &Path, addresses: &[IpAddr]) -> anyhow::Result<()> {
    let names: Vec<String> = addresses.iter().map(|address| format!("IP:{address}")).collect();
    let extensions = format!("subjectAltName={}\nbasicConstraints=CA:FALSE\n", names.join(","));
    fs::write(directory.join("extensions"), extensions).context("write the extensions")?;
    let curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for line in [
        format!("req -x509 {curve} -keyout ca.key -out ca.pem -days 9 -subj /CN=fleet"),
        format!("req {curve} -keyout server.key -out server.csr -subj /CN=nats"),
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 9 \
         -extfile extensions"
            .to_owned(),
    ] {
        let mut openssl = Command::new("openssl");
        openssl.current_dir(directory).args(line.split_whitespace());
        child::finish("openssl", &mut openssl, LIMIT, OnSignal::Stop)?.success("openssl")?;
    }
    Ok(())
}
