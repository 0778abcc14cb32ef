//! `cargo xtask deb`: the Debian packages, out of the release binary and `packaging`.
//!
//! The same sources give the same bytes: every time is that of the last commit, and every mode is set.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::build;
use crate::setup::{self, For};
use crate::step::{succeed, timed};
use crate::workspace::Workspace;

const NAME: &str = "ringfence";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The largest binary that is shipped, in bytes.
const BINARY_MAX: u64 = 15_000_000;

/// What is installed as it lies in the repository.
const FILES: [(&str, &str); 6] = [
    ("packaging/config.yml", "etc/ringfence/config.yml"),
    ("packaging/ringfence.service", "usr/lib/systemd/system/ringfence.service"),
    (
        "packaging/asterisk/manager.d/ringfence.conf",
        "usr/share/ringfence/asterisk/manager.d/ringfence.conf",
    ),
    (
        "packaging/asterisk/logger.d/ringfence.conf",
        "usr/share/ringfence/asterisk/logger.d/ringfence.conf",
    ),
    ("packaging/logrotate.d/ringfence", "usr/share/ringfence/logrotate.d/ringfence"),
    ("packaging/debian/copyright", "usr/share/doc/ringfence/copyright"),
];

/// The programs that are installed as they lie in the repository.
const SCRIPTS: [(&str, &str); 2] = [
    ("packaging/wazo-upgrade/pre-stop", "usr/share/wazo-upgrade/pre-stop.d/50-ringfence"),
    ("packaging/wazo-upgrade/post-start", "usr/share/wazo-upgrade/post-start.d/50-ringfence"),
];

/// What `deb` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Pack twice and compare the bytes, then run lintian
    #[arg(long)]
    check: bool,
}

/// Sets up, builds, and packs.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    setup::ensure(&workspace, For::Packaging)?;
    let built = Built::of(&workspace)?;
    let packer = built.packer(&workspace, VERSION)?;
    let packages = timed("pack", || packer.pack(&workspace.target().join("deb")))?;
    if args.check {
        let again = workspace.target().join("deb/again");
        let others = timed("pack again", || packer.pack(&again))?;
        for (package, other) in packages.iter().zip(&others) {
            compare(package, other)?;
        }
        remove(&again)?;
        timed("run lintian", || {
            let mut lintian = Command::new("lintian");
            // Debian would accept neither an error nor a warning.
            succeed(lintian.args(["--fail-on", "error,warning"]).args(&packages))
        })?;
    }
    for package in packages {
        println!("{}", package.display());
    }
    Ok(())
}

/// Packs the product twice into `directory`, the second time as a later version; returns both.
pub(crate) fn upgrade(workspace: &Workspace, directory: &Path) -> Result<[PathBuf; 2]> {
    setup::ensure(workspace, For::Packaging)?;
    let built = Built::of(workspace)?;
    let pack = |version: &str| -> Result<PathBuf> {
        let packer = built.packer(workspace, version)?;
        timed(&format!("pack {version}"), || packer.pack_product(directory))
    };
    let later = format!("{VERSION}+later");
    let packages = [pack(VERSION)?, pack(&later)?];
    remove(&directory.join("work"))?;
    Ok(packages)
}

/// What is built of the product and goes into its package.
struct Built {
    binary: PathBuf,
    manual: PathBuf,
}

impl Built {
    fn of(workspace: &Workspace) -> Result<Self> {
        let binary = build::package(workspace, NAME)?;
        let manual = workspace.target().join("deb/manual");
        timed("write the man pages and completions", || write_manual(workspace, &manual))?;
        Ok(Self { binary, manual })
    }

    fn packer<'a>(&'a self, workspace: &'a Workspace, version: &'a str) -> Result<Packer<'a>> {
        Packer::new(workspace.root(), &self.binary, &self.manual, version)
    }
}

/// Fails unless two packages have the same bytes.
fn compare(package: &Path, other: &Path) -> Result<()> {
    let read = |file: &Path| fs::read(file).with_context(|| format!("read {}", file.display()));
    ensure!(
        read(package)? == read(other)?,
        "{} and {} differ: look with diffoscope",
        package.display(),
        other.display()
    );
    Ok(())
}

/// Makes packages of one build.
struct Packer<'a> {
    root: &'a Path,
    binary: &'a Path,
    /// What goes below `/usr/share`: the man pages and the shells' completions.
    manual: &'a Path,
    version: &'a str,
    /// Debian's name for the processor.
    architecture: String,
    /// The time of everything in the packages, in seconds since 1970.
    epoch: String,
}

impl<'a> Packer<'a> {
    fn new(root: &'a Path, binary: &'a Path, manual: &'a Path, version: &'a str) -> Result<Self> {
        let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
        let epoch = match env::var("SOURCE_DATE_EPOCH") {
            Ok(epoch) => epoch,
            Err(_unset) => {
                let mut git = Command::new("git");
                output(git.args(["log", "-1", "--format=%ct"]).current_dir(root))
                    .context("set SOURCE_DATE_EPOCH where there is no git repository")?
            }
        };
        Ok(Self { root, binary, manual, version, architecture, epoch })
    }

    /// Writes both packages into `directory`.
    fn pack(&self, directory: &Path) -> Result<[PathBuf; 2]> {
        let [product, symbols] = self.lay_out(directory)?;
        Ok([self.build(&product, directory)?, self.build(&symbols, directory)?])
    }

    /// Writes the package without that of the symbols, which takes longest to compress.
    fn pack_product(&self, directory: &Path) -> Result<PathBuf> {
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
        self.install_files(&product)?;
        self.install_manual(&product)?;
        let dependencies = dependencies(&work, &product.path("usr/sbin/ringfence"))?;
        self.write_control(&product, "control", &dependencies)?;
        product.write("DEBIAN/conffiles", "/etc/ringfence/config.yml\n", 0o644)?;
        for script in ["postinst", "prerm", "postrm"] {
            let from = self.root.join("packaging/debian").join(script);
            product.copy(&from, &format!("DEBIAN/{script}"), 0o755)?;
        }
        self.write_control(&symbols, "control-dbgsym", "")?;
        Ok([product, symbols])
    }

    /// The binary without what only a debugger reads, which goes into the other package.
    fn install_binary(&self, product: &Tree, symbols: &Tree) -> Result<()> {
        let id = build_id(self.binary)?;
        let (first, rest) = id.split_at_checked(2).context("the build ID is too short")?;
        let debug = symbols.path(&format!("usr/lib/debug/.build-id/{first}/{rest}.debug"));
        make_parent(&debug)?;
        let objcopy = || Command::new("objcopy");
        succeed(
            objcopy()
                .args(["--only-keep-debug", "--compress-debug-sections"])
                .args([self.binary, &debug]),
        )?;
        set_mode(&debug, 0o644)?;
        let link = symbols.path("usr/share/doc/ringfence-dbgsym");
        make_parent(&link)?;
        std::os::unix::fs::symlink(NAME, &link).context("link the documents of the symbols")?;

        let installed = product.path("usr/sbin/ringfence");
        make_parent(&installed)?;
        let mut link = std::ffi::OsString::from("--add-gnu-debuglink=");
        link.push(&debug);
        succeed(
            objcopy()
                .args(["--strip-unneeded", "--remove-section=.comment"])
                .arg(link)
                .args([self.binary, &installed]),
        )?;
        set_mode(&installed, 0o755)?;
        let size = fs::metadata(&installed).context("look at the stripped binary")?.len();
        ensure!(size <= BINARY_MAX, "the binary has {size} bytes, {BINARY_MAX} are allowed");
        // A faulty example would keep the service from starting on every new host.
        let config = self.root.join("packaging/config.yml");
        succeed(Command::new(&installed).arg("--config").arg(config).args(["check-config", "-q"]))
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
             -- The Ringfence developers <developers@ringfence.example>  {date}\n"
        );
        let file = format!("{documents}/changelog");
        product.write(&file, &changelog, 0o644)?;
        compress(&product.path(&file))
    }

    fn install_manual(&self, product: &Tree) -> Result<()> {
        for file in files(self.manual)? {
            let installed = format!("usr/share/{file}");
            product.copy(&self.manual.join(&file), &installed, 0o644)?;
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
            .replace("@ARCHITECTURE@", &self.architecture)
            .replace("@INSTALLED_SIZE@", &kib.to_string())
            .replace("@DEPENDS@", dependencies);
        tree.write("DEBIAN/control", &text, 0o644)
    }

    /// Packs a tree. `dpkg-deb` sorts the files; more than one thread would make the compressed bytes
    /// depend on how many processors there are.
    fn build(&self, tree: &Tree, directory: &Path) -> Result<PathBuf> {
        tree.set_times(&self.at())?;
        let package = tree.0.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{package}_{}_{}.deb", self.version, self.architecture);
        let file = directory.join(name);
        let mut dpkg = Command::new("dpkg-deb");
        dpkg.args(["--build", "--root-owner-group", "-Zxz", "--threads-max=1"])
            .args([&tree.0, &file])
            .env("SOURCE_DATE_EPOCH", &self.epoch)
            .stdout(Stdio::null());
        succeed(&mut dpkg)?;
        Ok(file)
    }

    /// The time of everything, as `date` and `touch` take it.
    fn at(&self) -> String {
        format!("@{}", self.epoch)
    }
}

/// A package's files, and its control files in `DEBIAN`.
struct Tree(PathBuf);

impl Tree {
    fn new(root: PathBuf) -> Result<Self> {
        fs::create_dir_all(root.join("DEBIAN"))
            .with_context(|| format!("make {}", root.display()))?;
        Ok(Self(root))
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.0.join(relative)
    }

    fn copy(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let to = self.path(to);
        make_parent(&to)?;
        fs::copy(from, &to).with_context(|| format!("copy {}", from.display()))?;
        set_mode(&to, mode)
    }

    fn write(&self, to: &str, text: &str, mode: u32) -> Result<()> {
        let to = self.path(to);
        make_parent(&to)?;
        fs::write(&to, text).with_context(|| format!("write {}", to.display()))?;
        set_mode(&to, mode)
    }

    /// Gives every file the same time, and every directory the mode that Debian's have.
    fn set_times(&self, time: &str) -> Result<()> {
        let find = || {
            let mut find = Command::new("find");
            find.arg(&self.0);
            find
        };
        succeed(find().args(["-type", "d", "-exec", "chmod", "0755", "{}", "+"]))?;
        succeed(find().args(["-exec", "touch", "--no-dereference", "--date", time, "{}", "+"]))
    }
}

/// Has the command line write its man pages and completions.
fn write_manual(workspace: &Workspace, directory: &Path) -> Result<()> {
    remove(directory)?;
    let mut cargo = workspace.cargo("run");
    cargo.args(["--quiet", "--package", "filter-user", "--example", "manual", "--"]);
    succeed(cargo.arg(directory))
}

/// The regular files below a directory but those in `DEBIAN`, in order.
fn files(directory: &Path) -> Result<Vec<String>> {
    let mut find = Command::new("find");
    find.args(["-path", "./DEBIAN", "-prune", "-o", "-type", "f", "-printf", "%P\\n"]);
    let mut files: Vec<String> =
        output(find.current_dir(directory))?.lines().map(str::to_owned).collect();
    files.sort();
    Ok(files)
}

/// Without the time and the name.
fn compress(file: &Path) -> Result<()> {
    succeed(Command::new("gzip").args(["-9", "-n"]).arg(file))
}

fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("remove {}", directory.display()))?;
    }
    Ok(())
}

/// What the binary needs of Debian's libraries, as `dpkg-shlibdeps` finds out.
fn dependencies(work: &Path, binary: &Path) -> Result<String> {
    // It insists on a source package.
    let source = work.join("source");
    fs::create_dir_all(source.join("debian")).context("make a source package")?;
    let control = format!("Source: {NAME}\n\nPackage: {NAME}\nArchitecture: any\n");
    fs::write(source.join("debian/control"), control).context("write a source package")?;
    let mut shlibdeps = Command::new("dpkg-shlibdeps");
    let found = output(shlibdeps.arg("-O").arg(binary).current_dir(&source))?;
    let dependencies = found.trim().strip_prefix("shlibs:Depends=");
    Ok(dependencies.with_context(|| format!("dpkg-shlibdeps printed {found}"))?.to_owned())
}

/// By which a debugger finds the symbols.
fn build_id(binary: &Path) -> Result<String> {
    let notes = output(Command::new("readelf").args(["--notes", "--wide"]).arg(binary))?;
    let id = notes.split_once("Build ID: ").and_then(|(_, rest)| rest.split_whitespace().next());
    Ok(id.context("the binary has no build ID")?.to_owned())
}

fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().context("a file without a directory")?;
    fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .with_context(|| format!("set the mode of {}", path.display()))
}

/// What a command prints, without the last line's end; fails when it does.
fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        bail!("{program} failed ({})", output.status);
    }
    let text =
        String::from_utf8(output.stdout).with_context(|| format!("{program} printed no UTF-8"))?;
    Ok(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn packages_that_differ_in_a_byte_are_not_the_same() {
        let directory = env::temp_dir().join(format!("xtask-deb-{}", process::id()));
        fs::create_dir_all(&directory).unwrap();
        let file = |name: &str, text: &str| {
            let file = directory.join(name);
            fs::write(&file, text).unwrap();
            file
        };
        let (a, same, other) = (file("a", "12"), file("same", "12"), file("other", "13"));
        assert!(compare(&a, &same).is_ok());
        assert!(compare(&a, &other).is_err());
        fs::remove_dir_all(&directory).unwrap();
    }
}
