//! Policies as they are written, and what they are read as.
//!
//! `golden/NAME.yaml` is read as `golden/NAME.rules`; `refusals/NAME.yaml` is refused with `refusals/NAME.error`. `BLESS=1` writes
//! both. Any bytes, and what is written there with parts of it changed, are read or refused; what was once found lies in
//! `fuzz/regressions/policy`.

#![allow(clippy::unwrap_used, reason = "a test says by panic what is missing")]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use policy::labels::Labels;
use policy::read::{Object, TEXT_MAX, read};
use policy::rule::{Match, Order, Ports, Rule, Side};
use policy::selector::Selector;
use proptest::prelude::*;
use proptest::sample::{Index, select};

#[test]
fn golden_documents_become_these_rules() {
    compare("golden", "rules", |text| {
        read(text).map(|objects| objects.iter().map(shown).collect()).unwrap_or_else(|error| error.to_string())
    });
}

#[test]
fn refusals_name_document_object_and_path() {
    compare("refusals", "error", |text| match read(text) {
        Ok(objects) => format!("was read: {objects:?}\n"),
        Err(error) => format!("{error}\n"),
    });
}

#[test]
fn what_is_too_long_too_deep_or_grows_by_aliases_is_refused() {
    let message = |text: &str| read(text).unwrap_err().to_string();
    let long = message(&" ".repeat(TEXT_MAX + 1));
    assert!(long.contains("are more than"), "{long}");
    for (open, close) in [("[", "]"), ("{a: ", "}")] {
        let deep = message(&format!("a: {}0{}", open.repeat(1_000), close.repeat(1_000)));
        assert!(deep.starts_with("neither YAML nor JSON"), "{deep}");
    }
    let steps: String = (0..1_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    let deep = message(&steps);
    assert!(deep.starts_with("neither YAML nor JSON"), "{deep}");
    let bomb: String = (1..30).fold("a0: &a0 [1, 2]\n".to_owned(), |text, at| {
        let before = format!("*a{}", at - 1);
        text + &format!("a{at}: &a{at} [{}]\n", vec![before; 9].join(", "))
    });
    let grown = message(&bomb);
    assert!(grown.starts_with("neither YAML nor JSON"), "{grown}");
}

#[test]
fn a_policy_of_a_mebibyte_is_read() {
    let blocks: String =
        (0..30_000).map(|at| format!("    - ipBlock: {{cidr: 10.{}.{}.0/24}}\n", at / 250, at % 250)).collect();
    let text = format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: big}}\nspec:\n  podSelector: {{}}\n  ingress:\n  - from:\n{blocks}"
    );
    assert!(text.len() > 1 << 20, "{}", text.len());
    let [Object::Policy(policy)] = &read(&text).unwrap()[..] else { panic!("one policy") };
    assert_eq!(policy.ingress.as_ref().unwrap().len(), 30_000);
}

fn compare(folder: &str, with: &str, made: impl Fn(&str) -> String) {
    let cases = files(folder, "yaml");
    assert!(cases.len() > 5, "only {} were found in {folder}", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let (said, expected) = (made(&fs::read_to_string(&case).unwrap()), case.with_extension(with));
        if std::env::var_os("BLESS").is_some() {
            fs::write(&expected, &said).unwrap();
        } else if fs::read_to_string(&expected).ok().as_ref() != Some(&said) {
            wrong.push(format!("{}:\n{said}", expected.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|found| found == extension));
    files.sort();
    files
}

fn shown(object: &Object) -> String {
    let mut out = String::new();
    match object {
        Object::Tier(tier) => {
            writeln!(out, "tier {}, order {}, otherwise {:?}", tier.name, order(tier.order), tier.otherwise).unwrap();
        }
        Object::Policy(policy) => {
            writeln!(out, "policy {}, tier {}, order {}", policy.name, policy.tier, order(policy.order)).unwrap();
            writeln!(out, "  for {}", policy.applies_to).unwrap();
            rules(&mut out, "ingress", policy.ingress.as_deref());
            rules(&mut out, "egress", policy.egress.as_deref());
        }
        Object::Profile(profile) => {
            writeln!(out, "profile {}", profile.name).unwrap();
            rules(&mut out, "ingress", Some(&profile.ingress));
            rules(&mut out, "egress", Some(&profile.egress));
        }
        Object::NetworkSet(set) => writeln!(out, "set {}: {:?}{}", set.name, set.nets, labels(&set.labels)).unwrap(),
        Object::Namespace(namespace) => {
            writeln!(out, "namespace {}{}", namespace.name, labels(&namespace.inherited)).unwrap();
        }
        Object::Pod(pod) => {
            writeln!(out, "pod {} {:?}{}", pod.name, pod.addresses, labels(&pod.labels)).unwrap();
            for (name, protocol, port) in &pod.ports {
                writeln!(out, "  port {name}: {port} of protocol {}", protocol.0).unwrap();
            }
        }
    }
    out
}

fn order(order: Order) -> String {
    order.0.map_or("last".to_owned(), |order| order.to_string())
}

fn labels(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("\n  {key}={value}")).collect()
}

fn rules(out: &mut String, direction: &str, rules: Option<&[Rule]>) {
    let Some(rules) = rules else { return };
    writeln!(out, "  {direction}{}", if rules.is_empty() { ": nothing" } else { "" }).unwrap();
    for Rule { action, matches } in rules {
        writeln!(out, "    {action:?}{}", match_shown(matches)).unwrap();
    }
}

fn match_shown(matches: &Match) -> String {
    let mut out = String::new();
    let Match { family, protocol, not_protocol, icmp, not_icmp, source, destination } = matches;
    family.iter().for_each(|family| write!(out, ", {family:?}").unwrap());
    protocol.iter().for_each(|protocol| write!(out, ", protocol {}", protocol.0).unwrap());
    not_protocol.iter().for_each(|protocol| write!(out, ", not protocol {}", protocol.0).unwrap());
    icmp.iter().for_each(|icmp| write!(out, ", type {} code {:?}", icmp.kind, icmp.code).unwrap());
    not_icmp.iter().for_each(|icmp| write!(out, ", not type {} code {:?}", icmp.kind, icmp.code).unwrap());
    side(&mut out, "from", source);
    side(&mut out, "to", destination);
    out
}

fn side(out: &mut String, word: &str, side: &Side) {
    let mut part = |what: &str, is_there: bool, shown: String| {
        if is_there {
            write!(out, "\n      {word}{what} {shown}").unwrap();
        }
    };
    let ports = |ports: &[Ports]| {
        let shown = ports.iter().map(|ports| match ports {
            Ports::Range(first, last) => format!("{first}-{last}"),
            Ports::Named(name) => name.to_string(),
        });
        shown.collect::<Vec<_>>().join(", ")
    };
    let selector = |selector: &Option<Selector>| selector.as_ref().map(Selector::to_string).unwrap_or_default();
    part("", !side.nets.is_empty(), format!("{:?}", side.nets));
    part(" not", !side.not_nets.is_empty(), format!("{:?}", side.not_nets));
    part("", side.selector.is_some(), selector(&side.selector));
    part(" not", side.not_selector.is_some(), selector(&side.not_selector));
    part(" ports", !side.ports.is_empty(), ports(&side.ports));
    part(" not ports", !side.not_ports.is_empty(), ports(&side.not_ports));
}

/// What must hold of any bytes: they are read or refused, and every selector that was read can be written and read again.
fn drive(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(selector) = Selector::parse(text) {
        assert_eq!(Selector::parse(&selector.to_string()), Ok(selector));
    }
    for object in read(text).into_iter().flatten() {
        let Object::Policy(policy) = object else { continue };
        let rules = policy.ingress.into_iter().chain(policy.egress).flatten();
        let sides = rules.flat_map(|rule| [rule.matches.source, rule.matches.destination]);
        for side in sides {
            let ports = side.ports.iter().chain(&side.not_ports);
            assert!(ports.into_iter().all(|ports| !matches!(ports, Ports::Range(first, last) if first > last)));
            for selector in [side.selector, side.not_selector].into_iter().flatten() {
                assert_eq!(Selector::parse(&selector.to_string()), Ok(selector));
            }
        }
    }
}

#[test]
fn inputs_once_found_stay_harmless() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/regressions/policy");
    let inputs: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!inputs.is_empty());
    inputs.iter().for_each(|input| drive(&fs::read(input).unwrap()));
}

fn golden() -> Vec<String> {
    files("golden", "yaml").iter().map(|file| fs::read_to_string(file).unwrap()).collect()
}

/// Cuts, copies and overwrites: what is left is often still YAML, with something else in some place.
fn damage(text: &str, changes: &[(Index, Index, String)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (from, to, put)| {
        let marks: Vec<usize> =
            text.char_indices().filter(|(_, one)| "\"[]{}:,.\n=/- ".contains(*one)).map(|(at, _)| at).collect();
        if marks.is_empty() {
            return text;
        }
        let (from, to) = (*from.get(&marks), *to.get(&marks));
        format!("{}{put}{}", &text[..from.min(to)], &text[from.max(to)..])
    })
}

fn put() -> impl Strategy<Value = String> {
    let known = [
        "",
        "0",
        "-1",
        "1e999",
        "null",
        "~",
        "[]",
        "{}",
        "''",
        "&a",
        "*a",
        "<<: ",
        "\n---\n",
        ".nan",
        "!!binary x",
        "65536",
        "::/0",
        "0.0.0.0/33",
        "has(",
        "!",
        ": |\n",
    ];
    prop_oneof![select(known.to_vec()).prop_map(str::to_owned), ".{0,8}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        drive(&bytes);
    }

    #[test]
    fn any_text(text in "\\PC{0,80}") {
        drive(text.as_bytes());
    }

    #[test]
    fn damaged_documents(
        text in select(golden()),
        changes in prop::collection::vec((any::<Index>(), any::<Index>(), put()), 0..4),
    ) {
        drive(damage(&text, &changes).as_bytes());
    }
}
