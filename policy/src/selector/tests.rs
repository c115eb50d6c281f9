use proptest::prelude::*;

use super::*;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|&(key, value)| (key.into(), value.into())).collect()
}

fn parse(text: &str) -> Selector {
    Selector::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn message(text: &str) -> String {
    Selector::parse(text).unwrap_err().to_string()
}

#[test]
fn each_operator_chooses_what_it_says() {
    let web = labels(&[("app", "web-front"), ("tier", "1"), ("projectcalico.org/namespace", "shop")]);
    let chosen = [
        "",
        " ",
        "all()",
        "all( )",
        "has(app)",
        "has( app )",
        "!has(nothing)",
        "app == 'web-front'",
        "app==\"web-front\"",
        "app != 'db'",
        "nothing != 'db'",
        "app in {'db', 'web-front'}",
        "app in{'web-front',}",
        "app not in {'db'}",
        "nothing not in {'db'}",
        "app notin {}",
        "app contains 'b-f'",
        "app starts with 'web'",
        "app startswith 'web'",
        "app ends with \"front\"",
        "app ends\twith 'front'",
        "!!has(app)",
        "!(has(a) || has(b))",
        "!global()",
        "has(a) && has(b) || has(app)",
        "has(app) || has(a) && has(b)",
        "has(app) &&\n (has(a) || tier == '1')",
    ];
    let not_chosen = [
        "!all()",
        "has(nothing)",
        "app == 'web'",
        "app != 'web-front'",
        "app in {}",
        "nothing contains ''",
        "!has(app)",
        "app not in {'web-front'}",
        "app starts with 'front'",
        "app ends with 'web'",
        "nothing starts with ''",
        "global()",
        "(has(app) || has(a)) && has(b)",
        "! has(app) || has(a)",
    ];
    for text in chosen {
        assert!(parse(text).matches(&web), "{text}");
    }
    for text in not_chosen {
        assert!(!parse(text).matches(&web), "{text}");
    }
    assert!(parse("global()").matches(&Labels::new()), "a global network set");
}

#[test]
fn labels_may_be_called_like_operators() {
    assert_eq!(parse("in in {'in', 'a'}").to_string(), r#"in in {"a", "in"}"#);
    assert_eq!(parse("has == 'all'").to_string(), r#"has == "all""#);
    assert_eq!(parse("not not in {'it\"s', \"o'clock\"}").to_string(), r#"not not in {'it"s', "o'clock"}"#);
}

#[test]
fn what_means_the_same_is_written_the_same() {
    for (text, written) in [
        ("((a == 'b'))", r#"a == "b""#),
        ("a in {'b'}", r#"a == "b""#),
        ("a in {'c','b','c'}", r#"a in {"b", "c"}"#),
        ("!(a == 'b')", r#"a != "b""#),
        ("!!a != 'b'", r#"a != "b""#),
        ("has(a) && (has(b) && has(c)) && all()", "has(a) && has(b) && has(c)"),
        ("(has(a) || has(b)) || has(c)", "has(a) || has(b) || has(c)"),
        ("has(a) && has(b) || has(c)", "(has(a) && has(b)) || has(c)"),
        ("!(has(a) && (has(b) || has(c)))", "!(has(a) && (has(b) || has(c)))"),
        ("has(a) || all()", "all()"),
        ("global()", "!has(projectcalico.org/namespace)"),
    ] {
        assert_eq!(parse(text).to_string(), written, "{text}");
    }
}

#[test]
fn namespaces_and_accounts_have_keys_of_their_own() {
    let of = |scope, text| Selector::parse_of(scope, text).unwrap().to_string();
    assert_eq!(of(Scope::Namespaces, "team == 'a' || !has(b)"), r#"pcns.team == "a" || !has(pcns.b)"#);
    assert_eq!(of(Scope::Namespaces, "all()"), "has(projectcalico.org/namespace)");
    assert_eq!(of(Scope::Namespaces, "global()"), "!has(projectcalico.org/namespace)");
    assert_eq!(of(Scope::Accounts, "role in {'x'}"), r#"pcsa.role == "x""#);
    assert_eq!(of(Scope::Accounts, ""), "has(projectcalico.org/serviceaccount)");
}

#[test]
fn errors_say_where_and_what() {
    for (text, expected) in [
        (
            "a = 'b'",
            "column 3: expected ==, !=, in, not in, contains, starts with or ends with after the label, found '= \\'b\\''",
        ),
        ("a == b", "column 6: expected a value in quotes, found 'b'"),
        ("a == 'b", "column 6: the quote has no end, found '\\'b'"),
        ("a in {'b' 'c'}", "column 11: expected '}', found '\\'c\\'}'"),
        ("(has(a)", "column 8: expected ')', found the end"),
        ("has(a))", "column 7: expected && or || or the end, found ')'"),
        ("has(a) & has(b)", "column 8: expected && or || or the end, found '& has(b)'"),
        ("has()", "column 5: expected a label of 1 to 512 letters, digits, '.', '_', '/' and '-', found ')'"),
        ("any(a)", "column 1: only all(), global() and has(..) are called, found 'any(a)'"),
        ("has(a) && ", "column 11: expected a label, has(..), all(), global(), ! or (, found the end"),
        ("é", "column 1: expected a label, has(..), all(), global(), ! or (, found 'é'"),
        (
            "a starts 'b'",
            "column 3: expected ==, !=, in, not in, contains, starts with or ends with after the label, found 'starts \\'b\\''",
        ),
    ] {
        assert_eq!(message(text), expected, "{text}");
    }
}

#[test]
fn nesting_is_bounded_with_a_clear_error() {
    let nested = |depth: usize| format!("{}has(a){}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(parse(&nested(NESTING_MAX)), parse("has(a)"));
    for depth in [NESTING_MAX + 1, 1_000, 1_000_000] {
        let text = message(&nested(depth));
        assert!(text.starts_with("column 65: parentheses are nested more than 64 deep"), "{text}");
    }
    assert_eq!(parse(&format!("{}has(a)", "!".repeat(1_000_001))).to_string(), "!has(a)");
    let alternating = (0..1_000).fold("has(a)".to_owned(), |text, at| {
        if at % 2 == 0 { format!("has(b) && ({text})") } else { format!("has(c) || ({text})") }
    });
    assert!(message(&alternating).contains("nested more than 64 deep"));
    let long = vec!["has(a)"; 100_000].join(" || ");
    assert_eq!(parse(&long).to_string(), long);
}

fn selector() -> impl Strategy<Value = Selector> {
    let key = || "[a-c/.-]{1,3}|in|not|has|all".prop_map(Arc::<str>::from);
    let value = || "[a-c\" ]{0,3}|[a-c' é]{0,3}".prop_map(Arc::<str>::from);
    let leaf = prop_oneof![
        Just(Selector::All),
        key().prop_map(Selector::Has),
        (key(), value()).prop_map(|(key, value)| Selector::Equals(key, value)),
        (key(), prop::collection::vec(value(), 0..4)).prop_map(|(key, values)| Selector::any_of(key, values)),
        (key(), value()).prop_map(|(key, value)| Selector::Contains(key, value)),
        (key(), value()).prop_map(|(key, value)| Selector::StartsWith(key, value)),
        (key(), value()).prop_map(|(key, value)| Selector::EndsWith(key, value)),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(Selector::negation),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Selector::and),
            prop::collection::vec(inner, 0..4).prop_map(Selector::or),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_parses_to_the_same(selector in selector()) {
        let text = selector.to_string();
        prop_assert_eq!(Selector::parse(&text), Ok(selector), "{}", text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
        let _ = Selector::parse(&text);
    }

    #[test]
    fn any_parts_of_the_grammar_are_read_or_refused(
        parts in prop::collection::vec(prop::sample::select(vec![
            "a", "has(", "all(", "global()", ")", "(", "!", "&&", "||", "==", "!=", "in", "not in", "{", "}", ",", "'b'", "\"",
            "contains", "starts with", "ends", " ",
        ]), 0..16),
    ) {
        if let Ok(selector) = Selector::parse(&parts.join(" ")) {
            prop_assert_eq!(Selector::parse(&selector.to_string()), Ok(selector));
        }
    }
}
