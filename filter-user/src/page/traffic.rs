//! The view of the traffic of the past: charts, with tables beside them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use api::{TrafficPage, TrafficQuery, TrafficStep, Verdict};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};

use super::parts::{cell, figure, number, share, table, text};

/// The reasons that are listed.
const REASONS: usize = 15;

/// The height of a chart in its own units; the browser stretches it.
const HEIGHT: u64 = 1000;

/// A time to look back over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Its name in a link.
    pub name: &'static str,
    title: &'static str,
    step: TrafficStep,
    /// Its length, in seconds.
    seconds: i64,
    /// The length of a bar, in seconds.
    bar: i64,
    /// How times are written.
    clock: &'static str,
}

/// The ranges, the shortest first.
pub const RANGES: [Range; 5] = [
    Range {
        name: "10m",
        title: "10 minutes",
        step: TrafficStep::Second,
        seconds: 600,
        bar: 5,
        clock: "%H:%M:%S",
    },
    Range {
        name: "1h",
        title: "Hour",
        step: TrafficStep::Second,
        seconds: 3600,
        bar: 30,
        clock: "%H:%M",
    },
    Range {
        name: "1d",
        title: "Day",
        step: TrafficStep::Minute,
        seconds: 86_400,
        bar: 900,
        clock: "%a %H:%M",
    },
    Range {
        name: "7d",
        title: "Week",
        step: TrafficStep::Minute,
        seconds: 604_800,
        bar: 7200,
        clock: "%a %H:%M",
    },
    Range {
        name: "1y",
        title: "Year",
        step: TrafficStep::Hour,
        seconds: 31_622_400,
        bar: 345_600,
        clock: "%d %b %Y",
    },
];

impl Range {
    /// The range of this name, or the hour.
    pub fn named(name: &str) -> Self {
        RANGES.into_iter().find(|range| range.name == name).unwrap_or(RANGES[1])
    }

    /// The query for it.
    pub fn query(self) -> TrafficQuery {
        // The first bar may begin before the range.
        let seconds = self.seconds.saturating_add(self.bar).unsigned_abs();
        TrafficQuery { step: Some(self.step), since_seconds: Some(seconds) }
    }
}

/// The packets within one bar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bar {
    passed: u64,
    dropped: u64,
}

impl Bar {
    fn of(self, verdict: Verdict) -> u64 {
        match verdict {
            Verdict::Pass => self.passed,
            Verdict::Drop => self.dropped,
        }
    }
}

/// The bars of a range that ends now, with the times at which they begin.
fn bars(range: Range, page: &TrafficPage, now: i64) -> Vec<(i64, Bar)> {
    let last = now - now.rem_euclid(range.bar);
    let count = range.seconds / range.bar;
    let first = last - (count - 1) * range.bar;
    let mut bars = vec![Bar::default(); usize::try_from(count).unwrap_or(0)];
    for point in &page.points {
        let Ok(at) = point.at.parse::<Timestamp>() else { continue };
        let place = usize::try_from((at.as_second() - first).div_euclid(range.bar));
        let Some(bar) = place.ok().and_then(|place| bars.get_mut(place)) else { continue };
        for reason in point.reasons.values() {
            let sum = match reason.verdict {
                Verdict::Pass => &mut bar.passed,
                Verdict::Drop => &mut bar.dropped,
            };
            *sum = sum.saturating_add(reason.packets);
        }
    }
    let times = (0..count).map(|place| first + place * range.bar);
    times.zip(bars).collect()
}

/// The view.
pub fn view(range: Range, page: &TrafficPage) -> Markup {
    let bars = bars(range, page, Timestamp::now().as_second());
    html! {
        h1 { "Traffic" }
        nav.ranges aria-label="Time" { ul {
            @for one in RANGES {
                li { a href=(format!("traffic?range={}", one.name)) aria-current=[(one == range).then_some("true")] {
                    (one.title)
                } }
            }
        } }
        div.two {
            (chart(range, &bars, Verdict::Drop))
            (chart(range, &bars, Verdict::Pass))
        }
        div.two {
            section { h2 { "Dropped packets by reason" } (reasons(page, Verdict::Drop)) }
            section { h2 { "Passed packets by reason" } (reasons(page, Verdict::Pass)) }
        }
        details { summary { "The charts as a table" } (as_table(range, &bars)) }
    }
}

/// A rate in packets a second.
fn rate(packets: u64, seconds: i64) -> String {
    let tenths = packets.saturating_mul(10) / seconds.unsigned_abs().max(1);
    match tenths {
        0 if packets > 0 => "< 0.1".to_owned(),
        0..100 => format!("{}.{}", tenths / 10, tenths % 10),
        _ => number(tenths / 10),
    }
}

/// A time in the zone of the host.
fn clock(range: Range, at: i64) -> String {
    let time = Timestamp::from_second(at).unwrap_or_default().to_zoned(TimeZone::system());
    time.strftime(range.clock).to_string()
}

fn chart(range: Range, bars: &[(i64, Bar)], verdict: Verdict) -> Markup {
    let most = bars.iter().map(|(_, bar)| bar.of(verdict)).max().unwrap_or(0);
    let (class, title) = match verdict {
        Verdict::Pass => ("chart pass", "Passed"),
        Verdict::Drop => ("chart drop", "Dropped"),
    };
    let mut path = String::new();
    for (place, (_, bar)) in bars.iter().enumerate() {
        let packets = bar.of(verdict);
        if packets > 0 {
            // A bar with any packets can be seen.
            let height = u128::from(packets) * u128::from(HEIGHT) / u128::from(most.max(1));
            let height = height.max(12);
            let _infallible = write!(path, "M{place}.1 {HEIGHT}v-{height}h.8v{height}z");
        }
    }
    let all: u64 = bars.iter().map(|(_, bar)| bar.of(verdict)).fold(0, u64::saturating_add);
    let said = format!(
        "{title} packets: {} in all, at most {} a second. The table at the end has the numbers.",
        number(all),
        rate(most, range.bar)
    );
    html! {
        figure {
            figcaption { strong { (title) } ", at most " (rate(most, range.bar)) " packets/s" }
            svg class=(class) viewBox=(format!("0 0 {} {HEIGHT}", bars.len())) preserveAspectRatio="none" role="img"
                aria-label=(said) {
                path.grid d=(format!("M0 0H{0}M0 {1}H{0}M0 {2}H{0}", bars.len(), HEIGHT / 2, HEIGHT)) {}
                path.bars d=(path) {}
            }
            p.axis aria-hidden="true" {
                @for place in [0, bars.len() / 2, bars.len().saturating_sub(1)] {
                    @if let Some((at, _)) = bars.get(place) { span { (clock(range, *at)) } }
                }
            }
        }
    }
}

fn reasons(page: &TrafficPage, verdict: Verdict) -> Markup {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, count) in page.points.iter().flat_map(|point| &point.reasons) {
        if count.verdict == verdict {
            let sum = sums.entry(name).or_default();
            *sum = sum.saturating_add(count.packets);
        }
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(_, packets)| std::cmp::Reverse(*packets));
    let most = sums.first().map_or(0, |(_, packets)| *packets);
    let kind = match verdict {
        Verdict::Pass => "pass",
        Verdict::Drop => "drop",
    };
    let rows = sums
        .into_iter()
        .take(REASONS)
        .map(|(name, packets)| vec![html! { (name) }, cell(packets), share(kind, packets, most)]);
    table(
        "In this time",
        &[text("Reason"), figure("Packets"), text("Share")],
        rows.collect(),
        "None.",
    )
}

fn as_table(range: Range, bars: &[(i64, Bar)]) -> Markup {
    let columns = [text("From"), figure("Passed"), figure("Dropped")];
    let rows = bars.iter().rev().filter(|(_, bar)| *bar != Bar::default()).map(|(at, bar)| {
        let time = Timestamp::from_second(*at).unwrap_or_default();
        let time = html! { time datetime=(time) { (clock(range, *at)) } };
        vec![time, cell(bar.passed), cell(bar.dropped)]
    });
    table("Packets, the latest first", &columns, rows.collect(), "No packets in this time.")
}

#[cfg(test)]
mod tests {
    use api::{ReasonCount, TrafficPoint};

    use super::*;

    fn point(at: i64, verdict: Verdict, packets: u64) -> TrafficPoint {
        let count = ReasonCount { verdict, packets, bytes: packets };
        let at = Timestamp::from_second(at).unwrap().to_string();
        TrafficPoint { at, reasons: BTreeMap::from([("reason".to_owned(), count)]) }
    }

    #[test]
    fn points_are_in_the_bar_of_their_time() {
        let (range, now) = (Range::named("1h"), 1_800_000_017);
        let points = vec![
            point(now - 4000, Verdict::Pass, 1),
            point(now - 31, Verdict::Drop, 2),
            point(now - 1, Verdict::Pass, 3),
            point(now, Verdict::Pass, 4),
            point(now + 100, Verdict::Pass, 5),
        ];
        let bars = bars(range, &TrafficPage { step_seconds: 1, points }, now);
        assert_eq!(bars.len(), 120);
        assert_eq!(bars[119], (1_800_000_000, Bar { passed: 7, dropped: 0 }));
        assert_eq!(bars[118], (1_799_999_970, Bar { passed: 0, dropped: 2 }));
        assert!(bars[..118].iter().all(|(_, bar)| *bar == Bar::default()));
        for range in RANGES {
            assert_eq!(
                (range.seconds % range.bar, Range::named(range.name)),
                (if range.name == "1y" { range.seconds % range.bar } else { 0 }, range)
            );
            assert!((60..=130).contains(&(range.seconds / range.bar)), "{}", range.name);
        }
        assert_eq!(Range::named("<script>").name, "1h");
    }

    #[test]
    fn a_chart_has_bars_and_says_what_it_shows() {
        let now = Timestamp::now().as_second();
        let points =
            vec![point(now - 60, Verdict::Drop, u64::MAX), point(now - 120, Verdict::Drop, 1)];
        let text = view(Range::named("1h"), &TrafficPage { step_seconds: 1, points }).into_string();
        assert!(text.contains("v-1000h.8v1000z") && text.contains("v-12h.8v12z"), "{text}");
        assert!(
            text.contains("role=\"img\" aria-label=\"Dropped packets: 18,446,744,073,709,551,615"),
            "{text}"
        );
        assert!(!text.contains(" style="), "{text}");
        assert_eq!(
            (rate(0, 30), rate(1, 30), rate(45, 30), rate(60_000, 5)),
            ("0.0".into(), "< 0.1".into(), "1.5".into(), "12,000".into())
        );
    }
}
