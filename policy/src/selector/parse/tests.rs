use proptest::prelude::*;

use super::*;
use crate::labels::Labels;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|&(key, value)| (key.into(), value.into())).collect()
}

fn chooses(selector: &str, pairs: &[(&str, &str)]) -> bool {
    selector.parse::<Selector>().unwrap_or_else(|error| panic!("{error}")).matches(&labels(pairs))
}

#[test]
fn each_operator_chooses_what_it_says() {
    let web = [("app", "web-1"), ("tier", "front")];
    for (selector, chosen) in [
        ("", true),
        ("  all()  ", true),
        ("!all()", false),
        ("has(app)", true),
        ("has( pod )", false),
        ("app == 'web-1'", true),
        ("app == \"web\"", false),
        ("app != \"web\"", true),
        ("pod != \"web\"", true),
        ("tier in {'front', \"back\"}", true),
        ("tier in {}", false),
        ("tier not in {\"front\"}", false),
        ("pod not in {\"front\"}", true),
        ("pod in {\"front\"}", false),
        ("app contains \"eb\"", true),
        ("app starts with \"web\"", true),
        ("app  ends   with '-1'", true),
        ("app ends with 'web'", false),
        ("pod contains ''", false),
        ("has(app) && tier == \"back\" || app contains \"1\"", true),
        ("has(app) && (tier == \"back\" || app contains \"2\")", false),
        ("!(tier == \"back\")&&!has(pod)", true),
        ("! ! has(app)", true),
        ("global()", true),
    ] {
        assert_eq!(chooses(selector, &web), chosen, "{selector}");
    }
    assert!(!chooses("global()", &[(NAMESPACE, "default")]));
    assert!(chooses("in in {\"a\"} && contains == \"b\"", &[("in", "a"), ("contains", "b")]));
    assert!(chooses("inner == 'a' && not.x/y-z == 'b'", &[("inner", "a"), ("not.x/y-z", "b")]));
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (selector, at, fault) in [
        ("app = 'a'", 5, "one of =="),
        ("app", 4, "one of =="),
        ("app == a", 8, "a value in quotes"),
        ("app == 'a", 8, "closing quote"),
        ("has(app", 8, "')' is missing"),
        ("(has(app)", 10, "')' is missing"),
        ("has(app) has(pod)", 10, "an operator"),
        ("has(app) &&", 12, "a label or one of"),
        ("app in 'a'", 8, "'{' is missing"),
        ("app in {'a' 'b'}", 13, "',' or '}'"),
        ("app in {'a',", 13, "a value in quotes"),
        ("app not 'a'", 9, "one of =="),
        ("app starts 'a'", 12, "one of =="),
        ("über == 'a'", 1, "a label or one of"),
        ("a == 'ü' b", 10, "an operator"),
    ] {
        let error = selector.parse::<Selector>().unwrap_err();
        assert!(error.at == at && error.fault.contains(fault), "{selector}: {error}");
    }
}

#[test]
fn depth_is_bounded_and_length_is_not() {
    let nested = |depth: usize| format!("{}has(a){}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(nested(DEPTH_MAX).parse(), Ok(Selector::Has("a".into())));
    assert!(nested(1000).parse::<Selector>().unwrap_err().fault.contains("too deep"));
    assert!("!".repeat(100_000).parse::<Selector>().unwrap_err().fault.contains("too deep"));
    let long = vec!["has(a)"; 100_000].join(" && ");
    assert!(long.parse::<Selector>().unwrap().matches(&labels(&[("a", "")])));
}

fn any_selector() -> impl Strategy<Value = Selector> {
    let label = || prop_oneof!["[a-c]", "in", "not", "has", "a/b"].prop_map(Arc::<str>::from);
    let value = || prop_oneof!["[a-c]{0,2}", "it's", "\"so\""].prop_map(Arc::<str>::from);
    let leaf = prop_oneof![
        Just(Selector::All),
        label().prop_map(Selector::Has),
        (label(), value()).prop_map(|(label, value)| Selector::Equals(label, value)),
        (label(), prop::collection::vec(value(), 0..3)).prop_map(|(label, values)| Selector::In(label, values)),
        (label(), value()).prop_map(|(label, value)| Selector::Contains(label, value)),
        (label(), value()).prop_map(|(label, value)| Selector::StartsWith(label, value)),
        (label(), value()).prop_map(|(label, value)| Selector::EndsWith(label, value)),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(not),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Selector::And),
            prop::collection::vec(inner, 2..4).prop_map(Selector::Or),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back_as_the_same(selector in any_selector()) {
        let text = selector.to_string();
        prop_assert_eq!(text.parse::<Selector>(), Ok(selector), "{}", text);
    }

    #[test]
    fn no_text_breaks_the_reader(text in "\\PC{0,40}", tokens in prop::collection::vec(prop::sample::select(TOKENS), 0..12)) {
        for text in [text, tokens.join(" "), tokens.concat()] {
            if let Ok(selector) = text.parse::<Selector>() {
                prop_assert_eq!(selector.to_string().parse::<Selector>(), Ok(selector));
            }
        }
    }
}

const TOKENS: &[&str] = &[
    "has(",
    "all()",
    "global()",
    "(",
    ")",
    "!",
    "&&",
    "||",
    "==",
    "!=",
    "in",
    "not",
    "{",
    "}",
    ",",
    "'a'",
    "\"b\"",
    "app",
    "contains",
    "starts with",
    "ends",
    "with",
    "ü",
    "'",
];
