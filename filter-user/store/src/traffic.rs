//! How many packets passed and were dropped, by time and reason: each second of the last hour, each minute of the last
//! week, each hour of the last year.
//!
//! Must never grow without a bound.

use std::time::Duration;

use rusqlite::{Connection, params};

use super::failure::Failure;
use super::times::Clock;

/// The most rows that wait to be written: more than an hour of seconds with ten reasons each. Beyond it, packets are
/// left out.
pub(super) const WAITING_MAX: usize = 65_536;

/// The most rows that one answer has.
const ANSWER_MAX: i64 = 250_000;

/// How long a row counts packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
}

impl Step {
    /// Every step.
    pub const ALL: [Self; 3] = [Self::Second, Self::Minute, Self::Hour];

    /// Its length, in seconds.
    pub fn seconds(self) -> i64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
        }
    }

    /// How long its rows are kept.
    pub fn kept(self) -> Duration {
        match self {
            Self::Second => Duration::from_hours(1),
            Self::Minute => Duration::from_hours(7 * 24),
            Self::Hour => Duration::from_hours(366 * 24),
        }
    }
}

/// The packets with one reason within one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// How long it counts.
    pub step: Step,
    /// When it begins, in seconds of UTC since 1970.
    pub at: i64,
    /// The name of the reason.
    pub reason: String,
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Which part is wanted.
#[derive(Clone, Copy, Debug)]
pub struct TrafficQuery {
    /// How long each row counts.
    pub step: Step,
    /// The first that begins not before this, in seconds of UTC since 1970.
    pub since: i64,
}

/// Adds rows to those that are there.
pub(super) fn write<'a>(
    connection: &Connection,
    rows: impl IntoIterator<Item = &'a Traffic>,
) -> Result<(), Failure> {
    let mut put = connection.prepare(
        "INSERT INTO traffic (step, at, reason, packets, bytes) VALUES (?1, ?2, ?3, ?4, ?5)
            ON CONFLICT (step, at, reason) DO UPDATE SET
                packets = packets + excluded.packets, bytes = bytes + excluded.bytes",
    )?;
    for Traffic { step, at, reason, packets, bytes } in rows {
        let [packets, bytes] = [*packets, *bytes].map(|n| i64::try_from(n).unwrap_or(i64::MAX / 2));
        put.execute(params![step.seconds(), at, reason, packets, bytes])?;
    }
    Ok(())
}

/// Deletes what is too old, and what is in the future because the wall clock was set.
pub(super) fn tidy(connection: &Connection, now: &Clock) -> Result<(), Failure> {
    let now = now.wall().as_second();
    for step in Step::ALL {
        let kept = i64::try_from(step.kept().as_secs()).unwrap_or(i64::MAX);
        connection.execute(
            "DELETE FROM traffic WHERE step = ?1 AND (at < ?2 OR at > ?3)",
            params![step.seconds(), now.saturating_sub(kept), now.saturating_add(step.seconds())],
        )?;
    }
    Ok(())
}

/// Reads rows, the oldest first.
pub(super) fn read(connection: &Connection, query: &TrafficQuery) -> Result<Vec<Traffic>, Failure> {
    let sql = "SELECT at, reason, packets, bytes FROM traffic WHERE step = ?1 AND at >= ?2
        ORDER BY at, reason LIMIT ?3";
    let mut statement = connection.prepare(sql)?;
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    let values = params![query.step.seconds(), query.since, ANSWER_MAX];
    let found = statement.query_map(values, |row| {
        Ok(Traffic {
            step: query.step,
            at: row.get(0)?,
            reason: row.get(1)?,
            packets: count(row.get(2)?),
            bytes: count(row.get(3)?),
        })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::schema;
    use detection::clock::KernelTime;

    const NOW: i64 = 1_800_000_000;

    fn clock() -> Clock {
        Clock::at("boot", KernelTime(0), Timestamp::from_second(NOW).unwrap())
    }

    fn file() -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection).unwrap();
        connection
    }

    fn row(step: Step, at: i64, reason: &str) -> Traffic {
        Traffic { step, at, reason: reason.to_owned(), packets: 3, bytes: 300 }
    }

    fn of(connection: &Connection, step: Step, since: i64) -> Vec<Traffic> {
        read(connection, &TrafficQuery { step, since }).unwrap()
    }

    #[test]
    fn what_is_added_is_there() {
        let file = file();
        let [first, other] = [row(Step::Minute, NOW, "banned"), row(Step::Minute, NOW, "sip")];
        write(&file, [&first, &other, &first]).unwrap();
        write(&file, [&row(Step::Hour, NOW, "banned")]).unwrap();
        let doubled = Traffic { packets: 6, bytes: 600, ..first };
        assert_eq!(of(&file, Step::Minute, NOW), [doubled, other]);
        assert_eq!(of(&file, Step::Minute, NOW + 1), []);
        let most = Traffic { packets: u64::MAX, bytes: u64::MAX, ..row(Step::Second, NOW, "x") };
        write(&file, [&most, &most]).unwrap();
        assert!(of(&file, Step::Second, 0)[0].packets > u64::MAX / 4);
    }

    #[test]
    fn each_step_is_kept_for_its_time() {
        let file = file();
        for step in Step::ALL {
            let kept = i64::try_from(step.kept().as_secs()).unwrap();
            for at in [NOW - kept - 1, NOW - kept, NOW, NOW + 2 * step.seconds()] {
                write(&file, [&row(step, at, "x")]).unwrap();
            }
        }
        tidy(&file, &clock()).unwrap();
        for step in Step::ALL {
            let kept = i64::try_from(step.kept().as_secs()).unwrap();
            let times: Vec<i64> = of(&file, step, 0).iter().map(|row| row.at).collect();
            assert_eq!(times, [NOW - kept, NOW], "{step:?}");
        }
    }

    /// A host on which ten reasons occur all the time.
    #[test]
    fn a_year_of_it_has_a_bounded_size() {
        let file = file();
        let names: Vec<String> = (0..10).map(|number| format!("register-limit-{number}")).collect();
        file.execute_batch("BEGIN").unwrap();
        for step in Step::ALL {
            let steps = i64::try_from(step.kept().as_secs()).unwrap() / step.seconds();
            let rows = (0..steps).flat_map(|number| {
                let at = NOW - number * step.seconds();
                names.iter().map(move |name| Traffic {
                    packets: 1_000_000,
                    bytes: 500_000_000,
                    ..row(step, at, name)
                })
            });
            write(&file, &rows.collect::<Vec<_>>()).unwrap();
        }
        file.execute_batch("COMMIT").unwrap();
        let size: i64 = file
            .query_row(
                "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert!(size < 18_000_000, "{size}");
    }
}
