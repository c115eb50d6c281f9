//! A strict reader of OpenMetrics text (version 1.0): what it accepts, Prometheus does.

use std::collections::{BTreeMap, BTreeSet};

/// A whole exposition.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    /// By name.
    pub(crate) families: BTreeMap<String, Family>,
    samples: BTreeMap<(String, Labels), f64>,
}

/// What is said about a family of metrics.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) help: String,
    pub(crate) kind: String,
    unit: String,
}

type Labels = BTreeMap<String, String>;

impl Exposition {
    /// Reads `text`; panics at the first thing that is wrong.
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Exposition {
        let body = text.strip_suffix("# EOF\n").expect("the text ends with # EOF");
        let (mut all, mut current) = (Exposition::default(), String::new());
        for line in body.lines() {
            match line.strip_prefix("# ") {
                Some(comment) => all.comment(comment, &mut current),
                None => all.sample(line, &current),
            }
        }
        for (name, family) in &all.families {
            assert!(!family.kind.is_empty() && family.help.len() > 10, "{name}: {family:?}");
            assert!(family.unit.is_empty() || name.ends_with(&format!("_{}", family.unit)), "{name}: {family:?}");
        }
        all.check_histograms();
        all
    }

    /// The one sample of this name and these labels.
    #[track_caller]
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels: Labels = labels.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        let found = self.samples.get(&(name.to_owned(), labels.clone()));
        *found.unwrap_or_else(|| panic!("there is no {name} {labels:?}"))
    }

    /// All samples of this name.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = (&Labels, f64)> {
        self.samples.iter().filter(move |((sample, _), _)| sample == name).map(|((_, labels), &value)| (labels, value))
    }

    /// Their sum.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.all(name).map(|(_, value)| value).sum()
    }

    fn comment(&mut self, comment: &str, current: &mut String) {
        let mut words = comment.splitn(3, ' ');
        let [word, name, rest] = [(); 3].map(|()| words.next().expect("a comment has three parts").to_owned());
        assert_name(&name);
        if *current != name {
            assert!(!self.families.contains_key(&name), "{name} is told of in two places");
            *current = name.clone();
        }
        assert!(self.samples_of(&name).next().is_none(), "{name} is described after its samples");
        let family = self.families.entry(name).or_default();
        let place = match word.as_str() {
            "HELP" => &mut family.help,
            "TYPE" => &mut family.kind,
            "UNIT" => &mut family.unit,
            other => panic!("'{other}' begins no comment of this format"),
        };
        assert!(place.is_empty() && !rest.is_empty(), "{comment}");
        *place = rest;
    }

    fn sample(&mut self, line: &str, current: &str) {
        let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
        let (name, labels) = series
            .split_once('{')
            .map_or((series, ""), |(name, labels)| (name, labels.strip_suffix('}').expect("labels end with a brace")));
        assert_name(name);
        let suffix = name.strip_prefix(current).unwrap_or_else(|| panic!("{name} stands among {current}"));
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}: no number"));
        match (self.families[current].kind.as_str(), suffix) {
            ("counter", "_total") | ("histogram", "_bucket" | "_count" | "_sum") => {
                assert!(value.is_finite() && value >= 0.0, "{line}");
            }
            ("gauge", "") => {}
            ("info", "_info") => assert_eq!(value, 1.0, "{line}"),
            other => panic!("{line}: {other:?} do not go together"),
        }
        let labels = labels_of(labels);
        assert!(self.samples.insert((name.to_owned(), labels), value).is_none(), "{series} stands there twice");
    }

    fn samples_of<'a>(&'a self, family: &'a str) -> impl Iterator<Item = &'a str> {
        let suffixes = ["", "_total", "_bucket", "_count", "_sum", "_info"];
        let names: BTreeSet<String> = suffixes.iter().map(|suffix| format!("{family}{suffix}")).collect();
        self.samples.keys().map(|(name, _)| name.as_str()).filter(move |name| names.contains(*name))
    }

    /// Buckets grow with their bounds, and the last holds all.
    fn check_histograms(&self) {
        for (name, _) in self.families.iter().filter(|(_, family)| family.kind == "histogram") {
            let mut by_series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
            for (labels, count) in self.all(&format!("{name}_bucket")) {
                let mut labels = labels.clone();
                let bound = labels.remove("le").expect("a bucket has a bound");
                let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().expect("a bound is a number") };
                by_series.entry(labels).or_default().push((bound, count));
            }
            for (labels, mut buckets) in by_series {
                buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
                assert!(buckets.is_sorted_by_key(|&(_, count)| count), "{name}: {buckets:?}");
                let count = self.samples[&(format!("{name}_count"), labels.clone())];
                assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)), "{name}");
                assert!(self.samples.contains_key(&(format!("{name}_sum"), labels)), "{name}");
            }
        }
    }
}

/// `key="value",...` with `\\`, `\"` and `\n` in values.
fn labels_of(text: &str) -> Labels {
    let (mut labels, mut rest) = (Labels::new(), text);
    while !rest.is_empty() {
        let (key, after) = rest.split_once("=\"").expect("a label has a quoted value");
        assert_name(key);
        let (mut value, mut bytes) = (String::new(), after.char_indices());
        let end = loop {
            match bytes.next().expect("a value ends") {
                (at, '"') => break at,
                (_, '\\') => value.push(match bytes.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, escaped @ ('\\' | '"'))) => escaped,
                    other => panic!("{text}: {other:?} is no escape"),
                }),
                (_, plain) => value.push(plain),
            }
        };
        assert!(labels.insert(key.to_owned(), value).is_none(), "{text}: {key} stands there twice");
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or_else(|| {
            assert!(rest.is_empty(), "{text}");
            rest
        });
    }
    labels
}

#[track_caller]
fn assert_name(name: &str) {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    assert!(!name.is_empty() && name.chars().all(legal) && !name.starts_with(|c: char| c.is_ascii_digit()), "'{name}'");
}
