//! Several files, and the effective configuration. `UPDATE_DOCS=1` records the latter again.

use std::path::PathBuf;

use super::*;

#[test]
fn conf_d_overrides_the_main_file_and_its_first_file_wins() {
    let host = host(&[
        ("config.yml", "mode: generic\ndry_run: true\ntrusted: [192.0.2.1, 192.0.2.2]\n"),
        ("conf.d/20-later.yml", "mode: native\nsip: {udp: [5062]}\ntrusted: [192.0.2.3]\n"),
        ("conf.d/10-first.yml", "# mine\nmode: auto\nsip:\n  tcp: []\n"),
        ("conf.d/.01-hidden.yml", "mode: [\n"),
        ("conf.d/01-old.yml.dpkg-old", "mode: [\n"),
        ("conf.d/01-other.yaml", "mode: [\n"),
    ]);
    symlink("/dev/null", host.path().join("conf.d/30-masked.yml")).unwrap();
    let loaded = load(&host).unwrap();

    let expected = Config {
        dry_run: true,
        trusted: vec!["192.0.2.3/32".parse().unwrap()],
        sip: SipPorts { udp: vec![PortRange::single(5062)], tcp: vec![] },
        ..Config::default()
    };
    assert_eq!(loaded.config, expected);
    let origins: Vec<String> = loaded
        .effective()
        .iter()
        .filter(|setting| setting.origin != SetBy::Default)
        .map(|setting| relative(&host, &format!("{} {}", setting.path, setting.origin)))
        .collect();
    assert_eq!(
        origins,
        [
            "mode conf.d/10-first.yml:2",
            "dry_run config.yml:2",
            "trusted conf.d/20-later.yml:3",
            "sip.udp conf.d/20-later.yml:2",
            "sip.tcp conf.d/10-first.yml:4",
        ]
    );
    let files: Vec<String> =
        loaded.files.iter().map(|file| relative(&host, &file.display().to_string())).collect();
    assert_eq!(
        files,
        ["conf.d/10-first.yml", "conf.d/20-later.yml", "conf.d/30-masked.yml", "config.yml"]
    );
}

#[test]
fn errors_come_from_every_file_even_where_another_wins() {
    let host = host(&[
        ("config.yml", "mode: fast\n"),
        ("conf.d/10-me.yml", "mode: auto\njails:\n  asterisk-wazo: {maxretri: 5}\n"),
    ]);
    fs::create_dir(host.path().join("conf.d/20-directory.yml")).unwrap();
    let errors = load(&host).unwrap_err();
    assert_eq!(
        relative(&host, &errors.to_string()),
        "conf.d/10-me.yml:3:19: unknown key `jails.asterisk-wazo.maxretri`; did you mean \
         `maxretry`?
conf.d/20-directory.yml: cannot be read: Is a directory (os error 21)
config.yml:1:7: `mode` is `fast`; expected `auto`, `native` or `generic`"
    );
}

#[test]
fn only_the_default_file_may_be_missing() {
    let host = host(&[("conf.d/10-me.yml", "mode: native\n")]);
    let main = host.path().join("config.yml");
    let errors = Config::load(Some(&main)).unwrap_err();
    assert_eq!(relative(&host, &errors.to_string()), "config.yml: no such file");

    let loaded = read_hierarchy(&main, false).unwrap();
    assert_eq!(loaded.config.mode, Mode::Native);
    assert_eq!(loaded.files, [host.path().join("conf.d/10-me.yml")]);

    fs::write(&main, "a".repeat(usize::try_from(FILE_MAX).unwrap() + 1)).unwrap();
    let errors = read_hierarchy(&main, false).unwrap_err();
    assert_eq!(
        relative(&host, &errors.to_string()),
        "config.yml: larger than 1024 KiB, the largest file that is read"
    );

    let empty = TempDir::new().unwrap();
    let loaded = read_hierarchy(&empty.path().join("config.yml"), false).unwrap();
    assert_eq!((loaded.config, loaded.files), (Config::default(), vec![]));
}

#[test]
fn the_command_line_wins_by_the_same_rules() {
    let mut loaded = parse("interfaces: [eth0]\nmode: generic").unwrap();
    loaded.override_with(&Overrides::default()).unwrap();
    assert_eq!(loaded, parse("interfaces: [eth0]\nmode: generic").unwrap());

    let overrides = Overrides {
        interfaces: vec!["eth1".into(), "eth2".into()],
        mode: Some(Mode::Native),
        dry_run: true,
    };
    loaded.override_with(&overrides).unwrap();
    assert_eq!(loaded.config.interfaces, ["eth1", "eth2"]);
    assert_eq!(loaded.config.mode, Mode::Native);
    assert!(loaded.config.dry_run);
    assert_eq!(loaded.origin("mode"), &SetBy::CommandLine);
    assert!(loaded.render_yaml().contains("dry_run: true  # command line\n"));

    let wrong = Overrides { interfaces: vec!["eth 1".into()], ..Overrides::default() };
    assert_eq!(
        loaded.override_with(&wrong).unwrap_err().to_string(),
        "command line: in `interfaces`, `eth 1` is not an interface name; write one such as `eth0`"
    );
}

#[test]
fn the_effective_configuration_says_who_set_what() {
    let loaded = parse(
        "trusted: [192.0.2.1, '2001:db8::']\ninterfaces: [on]\njails:\n  asterisk-wazo:\n    \
         maxretry: 5\nsip: {udp: [5060, 5070-5080]}\nsignatures: {user_agents: [iWar]}\n",
    )
    .unwrap();
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/tests/effective.yml");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&recorded, loaded.render_yaml()).unwrap();
    }
    assert_eq!(
        loaded.render_yaml(),
        fs::read_to_string(&recorded).unwrap(),
        "UPDATE_DOCS=1 cargo test -p filter-user --lib config"
    );
    let json = loaded.render_json();
    assert_eq!(json["config"]["jails"]["asterisk-wazo"]["maxretry"], json!(5));
    assert_eq!(json["config"]["sip"]["udp"], json!([5060, "5070-5080"]));
    assert_eq!(json["config"]["limits"]["register"]["rate"], json!("10/s"));
    assert_eq!(json["origins"]["jails.asterisk-wazo.maxretry"], json!("config.yml:5"));
    assert_eq!(json["origins"]["mode"], json!("default"));
    assert_eq!(json["files"], json!(["config.yml"]));
}

#[test]
fn the_reference_file_holds_the_defaults() {
    let reference = Config::reference();
    assert_eq!(parse(&reference).unwrap().config, Config::default());
    let uncommented: Vec<&str> =
        reference.lines().filter_map(|line| line.strip_prefix('#')).collect();
    let loaded = parse(&uncommented.join("\n")).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.effective().iter().all(|setting| setting.origin != SetBy::Default));
}

#[test]
fn paths_are_read_while_all_else_is_wrong() {
    let host = host(&[
        ("config.yml", "trustd: 1\npaths: {runtime: /run/other, state: 7}\n"),
        ("conf.d/10-broken.yml", "jails: {sshd: [\n"),
        ("conf.d/20.yaml", "dry_run: true\n"),
        ("conf.d/30.conf", ""),
        ("conf.d/40.yml~", ""),
        ("conf.d/.hidden.yml", ""),
        ("conf.d/50.yml.dpkg-old", ""),
    ]);
    let (loaded, wrong) = Config::load_what_is_right(Some(&host.path().join("config.yml")));
    assert_eq!(loaded.config.paths.runtime, Path::new("/run/other"));
    assert_eq!(loaded.config.paths.bpffs, Config::default().paths.bpffs);
    let wrong = relative(&host, &wrong.to_string());
    assert!(wrong.contains("10-broken.yml:") && wrong.contains("`trustd`"), "{wrong}");
    let ignored: Vec<String> =
        loaded.ignored.iter().map(|file| relative(&host, &file.display().to_string())).collect();
    assert_eq!(ignored, ["conf.d/20.yaml", "conf.d/30.conf"]);
    assert!(load(&host).is_err());
}

#[test]
fn paths_are_read_out_of_what_is_no_yaml() {
    for text in [
        "jails: {sshd: [\npaths: {runtime: /run/other}\n",
        "jails: {sshd: [\npaths:\n  state: /s\n\n  # here\n  runtime: /run/other\nsip: {udp: [\n",
        "\tx\npaths: {runtime: /run/other}\n",
    ] {
        let host = host(&[("config.yml", text)]);
        let (loaded, wrong) = Config::load_what_is_right(Some(&host.path().join("config.yml")));
        assert_eq!(loaded.config.paths.runtime, Path::new("/run/other"), "{text}");
        assert!(!wrong.errors().is_empty(), "{text}");
    }
    // The first file takes precedence here too.
    let host = host(&[
        ("config.yml", "]\npaths: {runtime: /run/main, bpffs: /sys/fs/bpf/main}\n"),
        ("conf.d/10.yml", "]\npaths: {runtime: /run/first}\n"),
        ("conf.d/20.yml", "paths: {state: /second}\n"),
    ]);
    let (loaded, _) = Config::load_what_is_right(Some(&host.path().join("config.yml")));
    let paths = ["/second", "/run/first", "/sys/fs/bpf/main"].map(PathBuf::from);
    let [state, runtime, bpffs] = paths;
    assert_eq!(loaded.config.paths, Paths { state, runtime, bpffs });
}

#[test]
fn only_what_is_set_is_shown() {
    let shown = parse("jails: {sshd: {maxretry: 7}}\n").unwrap().render_set();
    assert_eq!(shown, "jails:\n  sshd:\n    maxretry: 7  # config.yml:1\n");
    assert!(parse("").unwrap().render_set().starts_with("# nothing is set"));
}

#[test]
fn ports_get_names_from_every_file() {
    let host = host(&[
        ("config.yml", "ports: {vpn: {udp: [1194]}}\njails: {asterisk-wazo: {scope: web-rtc}}\n"),
        ("conf.d/10-me.yml", "ports: {web-rtc: {tcp: [8089-8090]}, ssh: {tcp: [22, 2222]}}\n"),
    ]);
    let Loaded { config, .. } = load(&host).unwrap();
    let named: Vec<(u8, &str)> =
        config.ports.iter().map(|(scope, class)| (scope.bit(), &*class.name)).collect();
    assert_eq!(named, [(1, "ssh"), (2, "provisioning"), (3, "http"), (4, "vpn"), (5, "web-rtc")]);
    assert_eq!(config.jails["asterisk-wazo"].scope, Scope::Ports(5));
    let (_, ssh) = config.ports.iter().next().unwrap();
    assert_eq!(ssh.tcp, [PortRange::single(22), PortRange::single(2222)]);

    for (text, expected) in [
        (
            "ports: {sip: {udp: [1]}}",
            "1:9: in `ports`, `sip` is taken; give these ports another name",
        ),
        (
            "ports: {Big Ones: {udp: [1]}}",
            "1:9: in `ports`, `Big Ones` is not a name for ports; use lower-case letters, digits, `-` \
             and `_`, at most 32",
        ),
        (
            "ports: {a: {tcp: [1]}, b: {tcp: [2]}, c: {tcp: [3]}}",
            "1:39: in `ports`, `c` is one too many: at most 5 names are possible, and there are \
             `ssh`, `provisioning`, `http`, `a`, `b`",
        ),
        ("ports: {a: {sctp: [1]}}", "1:13: unknown key `ports.a.sctp`; known here: `udp`, `tcp`"),
        (
            "ports: {a: {}}\njails: {asterisk-wazo: {scope: a}}",
            "2: the scope `a` closes no ports; list them in `ports: {a: {tcp: [...]}}`",
        ),
        (
            "ports: {a: {}}\njails: {sshd: {unproven_scope: a}}",
            "2: the scope `a` closes no ports; list them in `ports: {a: {tcp: [...]}}`",
        ),
        (
            "ports: {none: {tcp: [1]}}",
            "1:9: in `ports`, `none` is taken; give these ports another name",
        ),
    ] {
        assert_eq!(complaint(text), expected, "{text}");
    }
}

#[test]
fn a_jail_of_ones_own_may_be_in_several_files() {
    let directory = tempfile::tempdir().unwrap();
    let (main, conf_d) = (directory.path().join("config.yml"), directory.path().join("conf.d"));
    fs::create_dir(&conf_d).unwrap();
    fs::write(&main, "jails: {web: {filter: x, log: [/a], maxretry: 3}}").unwrap();
    fs::write(conf_d.join("50.yml"), "jails: {web: {maxretry: 4}}").unwrap();
    let loaded = Config::load(Some(&main)).unwrap();
    assert_eq!(loaded.config.jails["web"].maxretry, 4);
}
