//! The report of a side-by-side bench: one JSON object for programs, one table for people.
//!
//! ```json
//! {"bench":"local","machine":{..},"rounds":5,"subject":"ours","results":[
//!   {"metric":"tcp1_gbps","case":"0|0","better":"higher",
//!    "ours":{"median":..,"q1":..,"q3":..},
//!    "peers":{"kernel-route":{"median":..,"q1":..,"q3":..,"ratio":{"median":..,"q1":..,"q3":..}}}}]}
//! ```
//!
//! A ratio is ours / peer whichever way is better, round by round; the table says *ahead*, *behind* or *tie*.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use comfy_table::{Cell, CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use serde::Serialize;

use crate::machine::Machine;
use crate::statistics::Spread;

/// All figures of one run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Which bench it was, such as `local`.
    pub bench: &'static str,
    /// What held for all figures, in words, where it is not the same in every run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<String>,
    /// Where it ran.
    pub machine: Machine,
    /// How often everything was measured.
    pub rounds: usize,
    /// Whose figures are `ours`.
    pub subject: &'static str,
    /// One entry per metric and case.
    pub results: Vec<Comparison>,
}

/// One metric in one case: ours beside each peer.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// The metric's name, its unit last.
    pub metric: String,
    /// The CPUs of sender and receiver, such as `0|1`.
    pub case: String,
    /// Which way is better.
    pub better: Better,
    /// Our figures.
    pub ours: Spread,
    /// Each peer's figures by its name.
    pub peers: BTreeMap<String, PeerResult>,
}

/// A peer's figures and how ours stand to them.
#[derive(Debug, Clone, Serialize)]
pub struct PeerResult {
    /// The peer's own figures.
    #[serde(flatten)]
    pub spread: Spread,
    /// Ours / peer, round by round.
    pub ratio: Spread,
}

/// Which way a metric is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// The more the better.
    Higher,
    /// The less the better.
    Lower,
}

impl Comparison {
    /// Compares our rounds with each peer's; `None` when there is no round.
    pub fn new(metric: (&str, Better), case: String, ours: &[f64], peers: &[(&str, &[f64])]) -> Option<Self> {
        let peers = peers.iter().map(|(name, rounds)| {
            let result = PeerResult { spread: Spread::of(rounds)?, ratio: Spread::of_ratios(ours, rounds)? };
            Some(((*name).to_owned(), result))
        });
        Some(Self {
            metric: metric.0.to_owned(),
            case,
            better: metric.1,
            ours: Spread::of(ours)?,
            peers: peers.collect::<Option<_>>()?,
        })
    }

    /// `ahead`, `behind` or `tie`.
    pub fn verdict(&self, ratio: &Spread) -> &'static str {
        match (ratio.is_tie(), ratio.median > 1.0, self.better) {
            (true, ..) => "tie",
            (false, true, Better::Higher) | (false, false, Better::Lower) => "ahead",
            (false, ..) => "behind",
        }
    }
}

impl Report {
    /// A report of ours under no particular conditions.
    pub fn new(bench: &'static str, machine: Machine, rounds: usize, results: Vec<Comparison>) -> Self {
        Self { bench, conditions: None, machine, rounds, subject: "ours", results }
    }

    /// The table for people, the machine above it.
    pub fn table(&self) -> String {
        let Machine { cpu, cores, kernel, date, priority_raised } = &self.machine;
        let mut text = format!("{}, {date}\n{cpu}, {cores} CPUs, Linux {kernel}\n", self.bench);
        if let Some(conditions) = &self.conditions {
            text += &format!("{conditions}\n");
        }
        if !priority_raised {
            text +=
                "the scheduler's autogroup could not be raised: neighbours on this machine may have slowed the runs\n";
        }
        let mut table = Table::new();
        table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
        let ratio = format!("{} / peer", self.subject);
        table.set_header(["metric", "case", "switch", "median", "quartiles", ratio.as_str(), ""]);
        table.add_rows(self.results.iter().flat_map(|result| result.rows(self.subject)));
        let rounds = self.rounds;
        let _ = writeln!(text, "{table}");
        if self.results.iter().any(|result| result.case.contains('|')) {
            text += "case: CPU of the sender|CPU of the receiver; ";
        }
        let _ = write!(text, "{rounds} interleaved rounds; ");
        text + "ratios are formed round by round; tie: the quartiles of the ratio straddle 1"
    }
}

impl Comparison {
    fn rows(&self, subject: &str) -> Vec<Vec<Cell>> {
        let spread = |of: &Spread| [number(of.median), number(of.q1) + " - " + &number(of.q3)];
        let row = |fields: Vec<String>| fields.into_iter().enumerate().map(cell).collect();
        let [median, quartiles] = spread(&self.ours);
        let mut rows: Vec<Vec<Cell>> =
            vec![row(vec![self.metric.clone(), self.case.clone(), subject.to_owned(), median, quartiles])];
        for (name, peer) in &self.peers {
            let [median, quartiles] = spread(&peer.spread);
            let [ratio, around] = spread(&peer.ratio);
            let (ratio, verdict) = (format!("{ratio} ({around})"), self.verdict(&peer.ratio).to_owned());
            rows.push(row(vec![String::new(), String::new(), name.clone(), median, quartiles, ratio, verdict]));
        }
        rows
    }
}

/// Names to the left, numbers to the right.
fn cell((column, text): (usize, String)) -> Cell {
    let alignment = if (3..=5).contains(&column) { CellAlignment::Right } else { CellAlignment::Left };
    Cell::new(text).set_alignment(alignment)
}

/// Three significant digits, thousands set apart.
pub(crate) fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.9995 => 2,
        _ => 3,
    };
    grouped(&format!("{value:.decimals$}"))
}

/// A count with its thousands set apart.
pub(crate) fn count(value: u64) -> String {
    grouped(&value.to_string())
}

fn grouped(text: &str) -> String {
    let whole = text.find('.').unwrap_or(text.len());
    let digits = text.char_indices().map(|(at, digit)| {
        let starts_thousand = 0 < at && at < whole && (whole - at).is_multiple_of(3);
        if starts_thousand { format!(" {digit}") } else { digit.to_string() }
    });
    digits.collect()
}

/// A line below the heading and no other.
pub(crate) const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Report {
        let compare = |metric, better, ours: &[f64]| {
            let peers: [(&str, &[f64]); 2] = [("kernel-route", &[10.0, 10.0, 10.0]), ("tun-tap", &[4.0, 5.0, 6.0])];
            Comparison::new((metric, better), "0|1".to_owned(), ours, &peers).unwrap()
        };
        Report {
            bench: "vxlan",
            conditions: Some("MTU 1500".to_owned()),
            machine: Machine {
                cpu: "Example CPU".to_owned(),
                cores: 2,
                kernel: "6.18.0".to_owned(),
                date: "2026-01-02T03:04:05Z".to_owned(),
                priority_raised: true,
            },
            rounds: 3,
            subject: "ours",
            results: vec![
                compare("tcp1_gbps", Better::Higher, &[11.0, 12.0, 13.0]),
                compare("rtt_p50_us", Better::Lower, &[9.0, 10.0, 11.0]),
            ],
        }
    }

    #[test]
    fn the_json_has_the_agreed_shape() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["bench"], "vxlan");
        assert_eq!(json["subject"], "ours");
        assert_eq!(json["conditions"], "MTU 1500");
        assert_eq!(json["rounds"], 3);
        assert_eq!(json["machine"]["kernel"], "6.18.0");
        let expected = json!({
            "metric": "tcp1_gbps", "case": "0|1", "better": "higher",
            "ours": {"median": 12.0, "q1": 11.5, "q3": 12.5},
            "peers": {
                "kernel-route": {
                    "median": 10.0, "q1": 10.0, "q3": 10.0, "ratio": {"median": 1.2, "q1": 1.15, "q3": 1.25},
                },
                "tun-tap": {
                    "median": 5.0, "q1": 4.5, "q3": 5.5,
                    "ratio": {
                        "median": 2.4,
                        "q1": (12.0 / 5.0 + 13.0 / 6.0) / 2.0,
                        "q3": (11.0 / 4.0 + 12.0 / 5.0) / 2.0,
                    },
                },
            },
        });
        assert_eq!(json["results"][0], expected);
        assert_eq!(json["results"][1]["better"], "lower");
    }

    #[test]
    fn the_verdict_knows_which_way_is_better() {
        let report = report();
        let verdict = |result: &Comparison, peer: &str| result.verdict(&result.peers[peer].ratio);
        assert_eq!(verdict(&report.results[0], "kernel-route"), "ahead");
        assert_eq!(verdict(&report.results[1], "kernel-route"), "tie");
        assert_eq!(verdict(&report.results[1], "tun-tap"), "behind");
    }

    #[test]
    fn the_table_shows_every_peer_and_marks_ties() {
        let table = report().table();
        for text in
            ["Example CPU, 2 CPUs, Linux 6.18.0\nMTU 1500\n", "tcp1_gbps", "kernel-route", "1.20 (1.15 - 1.25)", "tie"]
        {
            assert!(table.contains(text), "{text:?} is missing in\n{table}");
        }
    }

    #[test]
    fn no_rounds_make_no_comparison() {
        assert!(Comparison::new(("tcp1_gbps", Better::Higher), "0|0".to_owned(), &[], &[]).is_none());
    }

    #[test]
    fn numbers_are_short_and_readable() {
        let cases = [(0.0, "0.000"), (0.1234, "0.123"), (9.876, "9.88"), (14.21, "14.2"), (163.4, "163")];
        for (value, text) in cases.into_iter().chain([(1_000.0, "1 000"), (461_234.0, "461 234"), (2e6, "2 000 000")]) {
            assert_eq!(number(value), text);
        }
        assert_eq!([0, 7, 999, 12_345_678].map(count), ["0", "7", "999", "12 345 678"]);
    }
}
