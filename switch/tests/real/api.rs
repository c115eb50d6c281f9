//! The interface as its description has it: every example is said to a real switch by curl(1), and every answer is what
//! the description promises, without a field more.

use std::cmp::Reverse;

use control::wire::{DESCRIPTION, OPENAPI};
use serde_json::{Map, Value, json};

use crate::stage::Stage;

/// An operation of the description with one of its examples.
#[derive(Clone)]
struct Example {
    method: String,
    path: String,
    /// Required ones and those that need not be, with their example values.
    query: Vec<(String, String, bool)>,
    body: Option<Value>,
    operation: Value,
}

#[test]
fn every_example_of_the_description_is_answered_as_described() {
    let description = description();
    let mut stage = Stage::new();
    stage.must("ip netns add web && ip netns add db && ip address add 192.0.2.1/32 dev lo");
    stage.start_switch(RUN);
    for example in examples(&description) {
        let refused = &example.operation["responses"]["default"];
        for wrong in example.wrong() {
            let answer = ask(&mut stage, &wrong);
            assert_eq!(answer.status, 400, "{}: {}", wrong.target(), answer.body);
            check(&description, refused, &answer, &wrong);
        }
        if example.operation["operationId"] == "pollTrace" {
            stage.must(TRAFFIC);
        }
        let answer = ask(&mut stage, &example);
        assert_eq!(answer.status, 200, "{} {}: {}", example.method, example.target(), answer.body);
        check(&description, &example.operation["responses"]["200"], &answer, &example);
        if example.operation["operationId"] == "pollTrace" {
            let seen = |word: &&str| answer.body.contains(&format!(r#""decision":"{word}""#));
            assert!(DECISIONS.iter().all(seen), "of {DECISIONS:?} there are {}", answer.body);
        }
        if example.ends_the_switch() {
            stage.must("wait");
            stage.start_switch(RUN);
        }
    }
}

#[test]
fn every_body_among_the_examples_is_legal() {
    let description = description();
    let mut bodies = 0;
    for example in examples(&description) {
        let Some(body) = &example.body else { continue };
        let schema = &example.operation["requestBody"]["content"]["application/json"]["schema"];
        validate(&description, schema, body, &example.path);
        bodies += 1;
    }
    assert!(bodies >= 4, "{bodies}");
}

struct Answer {
    status: u16,
    kind: String,
    body: String,
}

impl Example {
    fn target(&self) -> String {
        let pairs: Vec<String> = self.query.iter().map(|(key, value, _)| format!("{key}={value}")).collect();
        format!("{}?{}", self.path, pairs.join("&")).trim_end_matches('?').to_owned()
    }

    fn ends_the_switch(&self) -> bool {
        self.operation["x-ends-the-switch"] == true
    }

    /// What must be refused: a key nobody knows, a required one left out. None where no refusal is described.
    fn wrong(&self) -> Vec<Example> {
        if self.operation["responses"]["default"].is_null() {
            return Vec::new();
        }
        let mut with = self.clone();
        with.query.push(("nonsense".to_owned(), "1".to_owned(), false));
        let without = |left_out: &(String, String, bool)| Example {
            query: self.query.iter().filter(|pair| *pair != left_out).cloned().collect(),
            ..self.clone()
        };
        self.query.iter().filter(|(_, _, required)| *required).map(without).chain([with]).collect()
    }
}

/// Every example, in an order in which each can succeed: by path; on each what makes, what shows, what removes; last of
/// all what ends the switch.
fn examples(description: &Value) -> Vec<Example> {
    let mut found = Vec::new();
    for (path, methods) in object(&description["paths"]) {
        for (method, operation) in object(methods) {
            found.extend(examples_of(description, path, method, operation));
        }
    }
    // PUT, POST, GET, DELETE: it happens to be the alphabet's order, reversed.
    found.sort_by_key(|example| (example.ends_the_switch(), example.path.clone(), Reverse(example.method.clone())));
    found
}

fn examples_of(description: &Value, path: &str, method: &str, operation: &Value) -> Vec<Example> {
    let (mut target, mut query) = (path.to_owned(), Vec::new());
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let parameter = resolved(description, parameter);
        let (name, value) = (text(&parameter["name"]), &parameter["example"]);
        validate(description, &parameter["schema"], value, path);
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match text(&parameter["in"]) {
            "path" => target = target.replace(&format!("{{{name}}}"), &value),
            "query" => query.push((name.to_owned(), value, parameter["required"] == true)),
            other => panic!("{method} {path}: a parameter in {other}"),
        }
    }
    assert!(!target.contains('{'), "{method} {path} has a name without a parameter");
    let method = method.to_uppercase();
    let example = Example { method, path: target, query, body: None, operation: operation.clone() };
    if operation["requestBody"].is_null() {
        return vec![example];
    }
    let bodies = object(&operation["requestBody"]["content"]["application/json"]["examples"]);
    bodies.values().map(|body| Example { body: Some(body["value"].clone()), ..example.clone() }).collect()
}

fn ask(stage: &mut Stage, example: &Example) -> Answer {
    let body = example.body.as_ref().map(|body| format!("--json '{body}'")).unwrap_or_default();
    let said = stage.must(&format!(
        "curl -sS --max-time 20 --unix-socket /run/podswitch/control.sock -X {} {body} -w '\\n%{{http_code}} %{{content_type}}' \
         'http://switch{}'",
        example.method,
        example.target()
    ));
    let (body, end) = said.trim_end().rsplit_once('\n').unwrap();
    let (status, kind) = end.split_once(' ').unwrap();
    Answer { status: status.parse().unwrap(), kind: kind.to_owned(), body: body.to_owned() }
}

/// The answer is of a described kind and, where that is JSON, of the described shape.
#[track_caller]
fn check(description: &Value, response: &Value, answer: &Answer, example: &Example) {
    let content = &resolved(description, response)["content"];
    let described = object(content).iter().find(|(kind, _)| answer.kind.starts_with(kind.as_str()));
    let (kind, media) = described.unwrap_or_else(|| panic!("{}: {} is not described", example.path, answer.kind));
    if kind == "application/json" {
        let body = serde_json::from_str(&answer.body).unwrap();
        validate(description, &media["schema"], &body, &example.path);
    }
    assert!(!answer.body.is_empty(), "{}", example.path);
}

#[track_caller]
fn validate(description: &Value, schema: &Value, value: &Value, of: &str) {
    let mut whole = schema.clone();
    whole["components"] = description["components"].clone();
    strict(&mut whole);
    let validator = jsonschema::draft202012::new(&whole).unwrap();
    let wrong: Vec<String> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "{of}: {}\n{value:#}", wrong.join("\n"));
}

/// Readers pass over fields they do not know, so the description allows them in answers; here they are forgotten ones.
fn strict(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(strict),
        Value::Object(fields) => {
            fields.values_mut().for_each(strict);
            if fields.get("type") == Some(&json!("object")) && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".to_owned(), Value::Bool(false));
            }
        }
        _ => {}
    }
}

fn description() -> Value {
    let description: Value = serde_json::from_str(DESCRIPTION).unwrap();
    assert!(text(&description["openapi"]).starts_with("3.1.") && !description["paths"][OPENAPI].is_null());
    description
}

/// What a `$ref` stands for, or the value itself.
fn resolved<'a>(description: &'a Value, value: &'a Value) -> &'a Value {
    match &value["$ref"] {
        Value::String(reference) => description.pointer(reference.trim_start_matches('#')).unwrap(),
        _ => value,
    }
}

#[track_caller]
fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("an object should be here: {value}"))
}

#[track_caller]
fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

const RUN: &str = "--pod-range 10.244.0.0/24 --pod-range fd00:10:244::/64 --underlay-address 192.0.2.1";
/// What a trace is to show: a ping that is routed, one of the gateway, and one that nobody answers.
const TRAFFIC: &str = "ip netns exec db sh -c 'ping -c 1 -w 10 10.244.0.1 && ping -c 1 -w 10 169.254.1.1 && ! ping -c 1 -W 0.1 224.0.0.9'";
/// Every decision of a stage that the description has.
const DECISIONS: [&str; 7] = ["parsed", "allowed", "routed", "rewritten", "sent", "punted", "dropped"];
