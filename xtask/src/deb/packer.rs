//! Makes the packages of one build.
//!
//! The same build gives the same bytes: every file has the time of the last commit and a fixed mode.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::tree::{Tree, compress, files, make_parent, remove, set_mode};
use crate::shipped::Architecture;
use crate::step::{output, succeed};
use crate::workspace::find_program;

const NAME: &str = "ringfence";
/// The most bytes that the shipped binary may have, and the agent of a fleet.
const BINARY_MAX: u64 = 15_000_000;
const AGENT_MAX: u64 = 5_500_000;
/// The maintainer of the packages, unless `DEBFULLNAME` and `DEBEMAIL` name another, as for Debian's
/// tools. The project has no address of its own: vulnerabilities are reported through its repository.
/// Nobody else can own this one (RFC 2606).
const MAINTAINER: (&str, &str) = ("The Ringfence developers", "developers@ringfence.example");

/// Files that are installed unchanged from the repository.
const FILES: [(&str, &str); 18] = [
    ("packaging/config.yml", "etc/ringfence/config.yml"),
    ("packaging/ringfence.service", "usr/lib/systemd/system/ringfence.service"),
    ("packaging/ringfence-fleet.service", "usr/lib/systemd/system/ringfence-fleet.service"),
    ("packaging/sysusers.d/ringfence.conf", "usr/lib/sysusers.d/ringfence.conf"),
    (
        "packaging/asterisk/manager.d/ringfence.conf",
        "usr/share/ringfence/asterisk/manager.d/ringfence.conf",
    ),
    (
        "packaging/asterisk/logger.d/ringfence.conf",
        "usr/share/ringfence/asterisk/logger.d/ringfence.conf",
    ),
    ("packaging/fail2ban/ringfence.conf", "etc/fail2ban/action.d/ringfence.conf"),
    ("packaging/logrotate.d/ringfence", "usr/share/ringfence/logrotate.d/ringfence"),
    ("packaging/wazo-auth-keys/ringfence.yml", "usr/share/ringfence/wazo-auth-keys/ringfence.yml"),
    ("packaging/debian/copyright", "usr/share/doc/ringfence/copyright"),
    (
        "packaging/prometheus/ringfence.rules.yml",
        "usr/share/doc/ringfence/examples/prometheus/ringfence.rules.yml",
    ),
    (
        "packaging/prometheus/ringfence-metrics.service",
        "usr/share/doc/ringfence/examples/prometheus/ringfence-metrics.service",
    ),
    (
        "packaging/prometheus/ringfence-metrics.timer",
        "usr/share/doc/ringfence/examples/prometheus/ringfence-metrics.timer",
    ),
    (
        "packaging/audit/ringfence-audit.service",
        "usr/share/doc/ringfence/examples/audit/ringfence-audit.service",
    ),
    (
        "packaging/audit/ringfence-audit.timer",
        "usr/share/doc/ringfence/examples/audit/ringfence-audit.timer",
    ),
    (
        "packaging/wazo-service/ringfence-maintenance.service",
        "usr/share/doc/ringfence/examples/wazo-service/ringfence-maintenance.service",
    ),
    ("packaging/nginx/ringfence", "usr/share/doc/ringfence/examples/nginx/ringfence"),
    ("packaging/grafana/ringfence.json", "usr/share/doc/ringfence/examples/grafana/ringfence.json"),
];

/// Programs that are installed unchanged from the repository.
const SCRIPTS: [(&str, &str); 2] = [
    ("packaging/wazo-upgrade/pre-stop", "usr/share/wazo-upgrade/pre-stop.d/50-ringfence"),
    ("packaging/wazo-upgrade/post-start", "usr/share/wazo-upgrade/post-start.d/50-ringfence"),
];

/// The parts of the product's package that were built.
pub(super) struct Built {
    pub(super) binary: PathBuf,
    /// The agent of a fleet.
    pub(super) agent: PathBuf,
    /// The files for `/usr/share`: the man pages and the shell completions.
    pub(super) manual: PathBuf,
}

/// Makes packages of one build.
pub(super) struct Packer<'a> {
    /// The sources.
    pub(super) root: &'a Path,
    pub(super) built: &'a Built,
    pub(super) version: &'a str,
    pub(super) architecture: Architecture,
    /// The time of all files of the packages, in seconds since 1970.
    pub(super) epoch: &'a str,
}

impl Packer<'_> {
    /// Writes both packages into `directory`.
    pub(super) fn pack(&self, directory: &Path) -> Result<[PathBuf; 2]> {
        let [product, symbols] = self.lay_out(directory)?;
        Ok([self.build(&product, directory)?, self.build(&symbols, directory)?])
    }

    /// Writes only the package of the product. The package of the symbols takes longest to compress.
    pub(super) fn pack_product(&self, directory: &Path) -> Result<PathBuf> {
        let [product, _symbols] = self.lay_out(directory)?;
        self.build(&product, directory)
    }

    /// The files of both packages.
    fn lay_out(&self, directory: &Path) -> Result<[Tree; 2]> {
        let work = directory.join("work");
        remove(&work)?;
        let product = Tree::new(work.join(NAME))?;
        let symbols = Tree::new(work.join("ringfence-dbgsym"))?;
        self.install_binary(&product, &symbols)?;
        self.install_agent(&product)?;
        self.install_files(&product)?;
        self.install_manual(&product)?;
        let binary = product.path("usr/sbin/ringfence");
        let dependencies = dependencies(&work, &binary, self.architecture)?;
        self.write_control(&product, "control", &dependencies)?;
        let conffiles = "/etc/fail2ban/action.d/ringfence.conf\n/etc/ringfence/config.yml\n";
        product.write("DEBIAN/conffiles", conffiles, 0o644)?;
        for script in ["postinst", "prerm", "postrm"] {
            let from = self.root.join("packaging/debian").join(script);
            product.copy(&from, &format!("DEBIAN/{script}"), 0o755)?;
        }
        self.write_control(&symbols, "control-dbgsym", "")?;
        Ok([product, symbols])
    }

    /// Installs the binary without the data for debuggers, which goes into the other package.
    fn install_binary(&self, product: &Tree, symbols: &Tree) -> Result<()> {
        let binary = &self.built.binary;
        let id = build_id(binary)?;
        let (first, rest) = id.split_at_checked(2).context("the build ID is too short")?;
        let debug = symbols.path(&format!("usr/lib/debug/.build-id/{first}/{rest}.debug"));
        make_parent(&debug)?;
        let objcopy = || Command::new(self.architecture.tool("objcopy"));
        succeed(
            objcopy()
                .args(["--only-keep-debug", "--compress-debug-sections"])
                .args([binary, &debug]),
        )?;
        set_mode(&debug, 0o644)?;
        let link = symbols.path("usr/share/doc/ringfence-dbgsym");
        make_parent(&link)?;
        std::os::unix::fs::symlink(NAME, &link).context("link the documents of the symbols")?;

        let installed = product.path("usr/sbin/ringfence");
        make_parent(&installed)?;
        let mut link = OsString::from("--add-gnu-debuglink=");
        link.push(&debug);
        succeed(
            objcopy()
                .args(["--strip-unneeded", "--remove-section=.comment"])
                .arg(link)
                .args([binary, &installed]),
        )?;
        set_mode(&installed, 0o755)?;
        check_size(&installed, BINARY_MAX)?;
        let Some(mut run) = runner(self.architecture, &installed) else {
            eprintln!("xtask: without qemu-aarch64 (Debian's qemu-user), {NAME} is not started");
            return Ok(());
        };
        // With a faulty example the service would not start on any new host.
        let config = self.root.join("packaging/config.yml");
        succeed(run.arg("--config").arg(config).args(["check-config", "-q"]))
    }

    /// Installs the agent. Few hosts need it, so its data for debuggers is left out.
    fn install_agent(&self, product: &Tree) -> Result<()> {
        let installed = product.path("usr/sbin/ringfence-fleet");
        make_parent(&installed)?;
        succeed(
            Command::new(self.architecture.tool("objcopy"))
                .args(["--strip-all", "--remove-section=.comment"])
                .args([&self.built.agent, &installed]),
        )?;
        set_mode(&installed, 0o755)?;
        check_size(&installed, AGENT_MAX)?;
        let page = "usr/share/man/man8/ringfence-fleet.8";
        product.copy(&self.root.join("packaging/man/ringfence-fleet.8"), page, 0o644)?;
        compress(&product.path(page))
    }

    fn install_files(&self, product: &Tree) -> Result<()> {
        for (from, to) in FILES {
            product.copy(&self.root.join(from), to, 0o644)?;
        }
        for (from, to) in SCRIPTS {
            product.copy(&self.root.join(from), to, 0o755)?;
        }
        let documents = "usr/share/doc/ringfence";
        for name in files(&self.root.join("docs"))? {
            let from = self.root.join("docs").join(&name);
            product.copy(&from, &format!("{documents}/{name}"), 0o644)?;
        }
        product.copy(
            &self.root.join("CHANGELOG.md"),
            &format!("{documents}/CHANGELOG.md"),
            0o644,
        )?;
        let date = output(Command::new("date").args(["-u", "-R", "-d"]).arg(self.at()))?;
        let version = self.version;
        let changelog = format!(
            "{NAME} ({version}) stable; urgency=medium\n\n  * CHANGELOG.md lists the changes.\n\n \
             -- {}  {date}\n",
            maintainer()
        );
        let file = format!("{documents}/changelog");
        product.write(&file, &changelog, 0o644)?;
        compress(&product.path(&file))
    }

    fn install_manual(&self, product: &Tree) -> Result<()> {
        for file in files(&self.built.manual)? {
            let installed = format!("usr/share/{file}");
            product.copy(&self.built.manual.join(&file), &installed, 0o644)?;
            if file.starts_with("man/") {
                compress(&product.path(&installed))?;
            }
        }
        Ok(())
    }

    fn write_control(&self, tree: &Tree, template: &str, dependencies: &str) -> Result<()> {
        let template = self.root.join("packaging/debian").join(template);
        let text = fs::read_to_string(&template)
            .with_context(|| format!("read {}", template.display()))?;
        let mut sums = Command::new("md5sum");
        let mut kib = 0;
        for file in files(&tree.0)? {
            let size = fs::symlink_metadata(tree.path(&file)).context("look at a file")?.len();
            kib += size.div_ceil(1024);
            sums.arg(&file);
        }
        let sums = output(sums.current_dir(&tree.0))?;
        tree.write("DEBIAN/md5sums", &format!("{sums}\n"), 0o644)?;
        let text = text
            .replace("@VERSION@", self.version)
            .replace("@MAINTAINER@", &maintainer())
            .replace("@ARCHITECTURE@", self.architecture.debian())
            .replace("@INSTALLED_SIZE@", &kib.to_string())
            .replace("@DEPENDS@", dependencies);
        tree.write("DEBIAN/control", &text, 0o644)
    }

    /// Packs a tree. `dpkg-deb` sorts the files. It uses one thread, because otherwise the compressed
    /// bytes would depend on the number of processors.
    fn build(&self, tree: &Tree, directory: &Path) -> Result<PathBuf> {
        tree.set_times(&self.at())?;
        let package = tree.0.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{package}_{}_{}.deb", self.version, self.architecture.debian());
        let file = directory.join(name);
        let mut dpkg = Command::new("dpkg-deb");
        dpkg.args(["--build", "--root-owner-group", "-Zxz", "--threads-max=1"])
            .args([&tree.0, &file])
            .env("SOURCE_DATE_EPOCH", self.epoch)
            .stdout(Stdio::null());
        succeed(&mut dpkg)?;
        Ok(file)
    }

    /// The time in the form that `date` and `touch` expect.
    fn at(&self) -> String {
        format!("@{}", self.epoch)
    }
}

/// Fails if a stripped binary has more bytes than this.
fn check_size(binary: &Path, most: u64) -> Result<()> {
    let name = binary.file_name().unwrap_or_default().display();
    let size = fs::metadata(binary).with_context(|| format!("look at {name}"))?.len();
    ensure!(size <= most, "{name} has {size} bytes, {most} are allowed");
    Ok(())
}

/// The command that runs a binary of this architecture here, if possible.
fn runner(architecture: Architecture, binary: &Path) -> Option<Command> {
    if architecture.is_native() {
        return Some(Command::new(binary));
    }
    let qemu = ["qemu-aarch64", "qemu-aarch64-static"].into_iter().find_map(find_program)?;
    let mut command = Command::new(qemu);
    let libraries = architecture.cross_libraries();
    command.arg("-L").arg(libraries.parent().unwrap_or(&libraries)).arg(binary);
    Some(command)
}

/// The maintainer of the packages.
fn maintainer() -> String {
    let variable =
        |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let (name, address) = MAINTAINER;
    format!("{} <{}>", variable("DEBFULLNAME", name), variable("DEBEMAIL", address))
}

/// The address in the packages to which nobody can write, if it is that.
pub(crate) fn placeholder() -> Option<&'static str> {
    env::var_os("DEBEMAIL").is_none().then_some(MAINTAINER.1)
}

/// The Debian libraries that the binary needs, as `dpkg-shlibdeps` reports them.
fn dependencies(work: &Path, binary: &Path, architecture: Architecture) -> Result<String> {
    // It requires a source package.
    let source = work.join("source");
    fs::create_dir_all(source.join("debian")).context("make a source package")?;
    let control = format!("Source: {NAME}\n\nPackage: {NAME}\nArchitecture: any\n");
    fs::write(source.join("debian/control"), control).context("write a source package")?;
    let mut shlibdeps = Command::new("dpkg-shlibdeps");
    if !architecture.is_native() {
        shlibdeps.arg(format!("-l{}", architecture.cross_libraries().display()));
    }
    shlibdeps.env("DEB_HOST_ARCH", architecture.debian());
    let found = output(shlibdeps.arg("-O").arg(binary).current_dir(&source))?;
    let dependencies = found.trim().strip_prefix("shlibs:Depends=");
    let dependencies = dependencies.with_context(|| format!("dpkg-shlibdeps printed {found}"))?;
    Ok(of_the_host(dependencies, architecture))
}

/// Dependencies with the names that packages have on their own architecture. Those of a cross compiler's
/// libraries are `libc6:arm64` and `libgcc-s1-arm64-cross`.
fn of_the_host(dependencies: &str, architecture: Architecture) -> String {
    let debian = architecture.debian();
    dependencies.replace(&format!(":{debian}"), "").replace(&format!("-{debian}-cross"), "")
}

/// The build ID, by which a debugger finds the symbols.
fn build_id(binary: &Path) -> Result<String> {
    let notes = output(Command::new("readelf").args(["--notes", "--wide"]).arg(binary))?;
    let id = notes.split_once("Build ID: ").and_then(|(_, rest)| rest.split_whitespace().next());
    Ok(id.context("the binary has no build ID")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_depends_on_libraries_of_its_own_architecture() {
        let cross = "libc6:arm64 (>= 2.36), libgcc-s1-arm64-cross (>= 4.2)";
        let host = "libc6 (>= 2.36), libgcc-s1 (>= 4.2)";
        assert_eq!(of_the_host(cross, Architecture::Arm64), host);
        assert_eq!(of_the_host(host, Architecture::Amd64), host);
    }
}
