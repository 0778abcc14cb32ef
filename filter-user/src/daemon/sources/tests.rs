//! Sources that come and go, over a datapath in memory.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use api::{Reply, Request};
use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Builder;
use tokio::time::timeout;

use super::*;
use crate::ban::InForce;
use crate::clock::Now;
use crate::controller::tests::NoKernel;
use crate::source::Strain;
use crate::store::Store;

/// Generous: the machine may be busy.
const SOON: Duration = Duration::from_secs(20);

const FILTER: &str = "[Definition]\nfailregex = ^refused <HOST>$\n";

struct Bench {
    directory: TempDir,
    controller: Controller<NoKernel>,
    sources: Sources,
}

impl Bench {
    /// With a jail `web` that reads `app-*.log`.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        fs::write(path("web.conf"), FILTER).unwrap();
        let text = format!(
            "jails: {{web: {{filter: {}, log: [\"{}\"]}}}}\n\
             sources: {{asterisk: {{ami: {{enabled: false}}, notice_log: {}}}}}\n",
            path("web.conf"),
            path("app-*.log"),
            path("notice")
        );
        let mut config = Config::parse("config.yml".as_ref(), text.as_bytes()).unwrap().config;
        for (name, jail) in &mut config.jails {
            jail.enabled = ["asterisk-wazo", "web"].contains(name);
        }
        config.paths.state = directory.path().to_owned();
        let now = Now { kernel: crate::clock::now(), wall: Timestamp::now() };
        let bans = (Store::nowhere(), None, &InForce::default());
        let mut controller = Controller::new(
            NoKernel::default(),
            &config,
            Arc::default(),
            BTreeSet::default(),
            bans,
            now,
        )
        .unwrap();
        let sources = Sources::start(&config, BTreeMap::new(), &mut controller);
        Self { directory, controller, sources }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// As if these logs were found now.
    fn find(&mut self, names: &[&str]) {
        let paths = names.iter().map(|name| self.path(name)).collect();
        self.sources.find(&mut self.controller, &Found { patterns: 0, paths });
    }

    /// Receives messages until `enough`, but not what the searches have found: those of a slow machine would be among
    /// the test's own.
    async fn observe(&mut self, enough: impl Fn(&Value) -> bool) -> Value {
        let observe = async {
            loop {
                let status = self.status();
                if enough(&status) {
                    return status;
                }
                let news = self.sources.next().await.unwrap();
                if !matches!(news, News::Found(_)) {
                    self.sources.take(&mut self.controller, news);
                }
            }
        };
        timeout(SOON, observe).await.expect("enough is heard")
    }

    fn status(&mut self) -> Value {
        match self.controller.answer(Request::Status, crate::clock::now()) {
            Reply::Ok(status) => serde_json::to_value(status).unwrap(),
            other @ Reply::Error(_) => panic!("{other:?}"),
        }
    }
}

/// The logs of `web` that are read, with the failures of each.
fn logs(status: &Value) -> Vec<(String, u64)> {
    let sources = status["sources"].as_array().unwrap().iter();
    let of = sources.filter(|source| source["name"] == "web");
    let name =
        |source: &Value| source["place"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    of.map(|source| (name(source), source["failures"].as_u64().unwrap())).collect()
}

fn run(test: impl Future<Output = ()>) {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn a_thousand_logs_that_come_and_go_leave_nothing() {
    run(async {
        let mut bench = Bench::new();
        bench.controller.rest_no_numbers();
        for day in 0..1000 {
            let name = format!("app-{day}.log");
            fs::write(bench.path(&name), "refused 192.0.2.66\n").unwrap();
            bench.find(&[&name]);
            if day % 100 == 0 {
                let heard = bench.observe(|status| logs(status).contains(&(name.clone(), 1))).await;
                assert!(logs(&heard).len() <= 2, "{heard}");
            }
            fs::remove_file(bench.path(&name)).unwrap();
            // It may be between two names once.
            bench.find(&[]);
            assert_eq!(logs(&bench.status()).len(), 1);
            bench.find(&[]);
            assert_eq!(logs(&bench.status()), []);
            tokio::task::yield_now().await;
        }
        bench.find(&[]);
        let feeds = bench.controller.sources_mut().count();
        assert!(feeds <= 4, "{feeds} sources are known");
        assert!(bench.sources.tasks.len() <= 4, "{} tasks", bench.sources.tasks.len());
        assert!(bench.sources.positions.is_empty());
        // A source that now has the number of an earlier one gets its own lines.
        fs::write(bench.path("app-new.log"), "refused 192.0.2.1\n".repeat(3)).unwrap();
        bench.find(&["app-new.log"]);
        bench.observe(|status| logs(status) == [("app-new.log".to_owned(), 3)]).await;
    });
}

#[test]
fn what_is_lost_or_left_out_is_in_status() {
    run(async {
        let mut bench = Bench::new();
        fs::write(bench.path("app-1.log"), "").unwrap();
        bench.find(&["app-1.log"]);
        let row = |status: &Value| {
            let sources = status["sources"].as_array().unwrap();
            sources.iter().find(|source| source["name"] == "web").unwrap().clone()
        };
        let strain = Strain { left_out: 7, read: 3, ..Strain::default() };
        for (strain, left_out) in [(Some(strain), 7), (None, 0)] {
            let heard = Heard { lost: 2, lines: 10, strain, ..Heard::state(SourceState::Ok) };
            Sources::observe(&mut bench.controller, 1, heard);
            let row = row(&bench.status());
            assert_eq!((&row["state"], &row["left_out"]), (&"ok".into(), &left_out.into()));
            let why = row["why"].as_str().unwrap_or_default();
            assert_eq!(why.contains("7 of 10 lines were left out"), strain.is_some(), "{why}");
        }
        assert_eq!(row(&bench.status())["lost"], 4);
    });
}

#[test]
fn what_is_lost_is_said_again_when_it_is_ten_times_as_much() {
    let said = |counts: &[u64]| counts.windows(2).filter(|two| is_tenfold(two[0], two[1])).count();
    assert_eq!(said(&[0, 0]), 0);
    assert_eq!(said(&[0, 1, 2, 9]), 1);
    assert_eq!(said(&[0, 3, 10, 11, 99, 100]), 3);
    assert_eq!(said(&(0..100_000).collect::<Vec<_>>()), 5);
}

/// Challenges and the join remember a source by its number for a while.
#[test]
fn the_number_of_a_source_that_is_gone_rests() {
    run(async {
        let mut bench = Bench::new();
        for day in 0..5 {
            let name = format!("app-{day}.log");
            fs::write(bench.path(&name), "").unwrap();
            bench.find(&[&name]);
            bench.find(&[]);
            bench.find(&[]);
        }
        // The source of the NOTICE log, and one for each recent log.
        assert_eq!(bench.controller.sources_mut().count(), 1 + 5);
    });
}
