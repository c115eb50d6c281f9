//! Requests and replies as HTTP: the one place that knows methods, paths, queries and bodies.
//!
//! | request | method and target | body |
//! |---|---|---|
//! | attach | `POST /v1/endpoints` | [`Attach`](crate::Attach) |
//! | detach | `DELETE /v1/endpoints/NAME?origin=ORIGIN[&force=true]` | |
//! | add a route | `POST /v1/routes` | [`Route`](crate::Route) |
//! | delete a route | `DELETE /v1/routes?prefix=PREFIX&origin=ORIGIN[&force=true]` | |
//! | change neighbours | `PUT /v1/neighbors` | [`ChangeNeighbors`] |
//! | delete a neighbour | `DELETE /v1/neighbors?subnet=PREFIX&origin=ORIGIN[&force=true]` | |
//! | attach no pod for now | `PUT /v1/pause` | [`Pause`](crate::Pause) |
//! | attach pods again | `DELETE /v1/pause?origin=ORIGIN` | |
//! | look | `GET /v1/ports`, `routes`, `neighbors`, `stations`, `drops`, `status`, `workers`, `adjacencies`, `worlds`, `endpoints`, `returns`, `config` | |
//! | trace: begin, ask, end | `POST /v1/trace`, `GET /v1/trace?id=ID`, `DELETE /v1/trace?id=ID` | [`StartTrace`](crate::StartTrace) |
//! | end | `POST /v1/stop`, `POST /v1/purge` | |
//! | describe all this | `GET /v1/openapi.json` | |
//! | monitor | `GET /metrics`, `/healthz`, `/readyz`, answered in text | |
//!
//! [`PATHS`] is the list that counts, and `openapi.json` describes it for programs: who adds a request adds it to both,
//! to [`encode`] and to [`decode`], and a test says what was left out. The last two rows are no [`Request`]: the switch
//! answers them without a look at the rest of this file.
//!
//! A prefix stands in the query, where its slash needs no escape (RFC 3986, section 3.4); an escaped one is understood
//! too. An answer is the value's JSON with status 200; a refusal is `{"error": {"code", "message", "hint"}}` with the
//! status of its code.

use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{ChangeNeighbors, Code, DeleteNeighbor, DeleteRoute, Detach, Error, Refusal, Reply, Request, Resume};

/// A request as HTTP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// `GET`, `POST`, `PUT` or `DELETE`.
    pub method: &'static str,
    /// Path and query.
    pub target: String,
    /// JSON, or empty.
    pub body: Vec<u8>,
}

/// Largest body a switch reads, in bytes: many times the longest request, and little enough for every client at once.
pub const BODY_LEN_MAX: usize = 1 << 16;

/// Every method and path, `{...}` where a name stands. What is not here is no request.
pub const PATHS: &[(&str, &str)] = &[
    ("POST", ENDPOINTS),
    ("DELETE", "/v1/endpoints/{name}"),
    ("POST", ROUTES),
    ("DELETE", ROUTES),
    ("GET", PORTS),
    ("GET", ROUTES),
    ("PUT", NEIGHBORS),
    ("DELETE", NEIGHBORS),
    ("GET", NEIGHBORS),
    ("PUT", PAUSE),
    ("DELETE", PAUSE),
    ("GET", STATIONS),
    ("GET", DROPS),
    ("GET", STATUS),
    ("GET", WORKERS),
    ("GET", ADJACENCIES),
    ("GET", WORLDS),
    ("GET", ENDPOINTS),
    ("GET", RETURNS),
    ("GET", CONFIG),
    ("POST", TRACE),
    ("GET", TRACE),
    ("DELETE", TRACE),
    ("POST", STOP),
    ("POST", PURGE),
    ("GET", OPENAPI),
    ("GET", METRICS),
    ("GET", HEALTHZ),
    ("GET", READYZ),
];

/// The same for [`NEIGHBORS`]: as many neighbours as there can be, in one change.
pub const NEIGHBORS_LEN_MAX: usize = 5 << 20;
/// Where other nodes are told.
pub const NEIGHBORS: &str = "/v1/neighbors";
/// Where [`DESCRIPTION`] is to be had.
pub const OPENAPI: &str = "/v1/openapi.json";
/// Where everything counted is to be had, for monitoring.
pub const METRICS: &str = "/metrics";
/// Where monitoring learns whether the switch works.
pub const HEALTHZ: &str = "/healthz";
/// Where monitoring learns whether the switch wants traffic.
pub const READYZ: &str = "/readyz";

/// All requests and answers as an OpenAPI 3.1 document.
pub const DESCRIPTION: &str = include_str!("../openapi.json");

/// What a client sends for `request`.
pub fn encode(request: &Request) -> Message {
    let bare = |method, path: &str| Message { method, target: path.to_owned(), body: Vec::new() };
    match request {
        Request::Attach(attach) => Message { body: json(attach), ..bare("POST", ENDPOINTS) },
        Request::Detach(Detach { name, origin, force }) => {
            bare("DELETE", &format!("{ENDPOINTS}/{name}?origin={origin}{}", forced(*force)))
        }
        Request::AddRoute(route) => Message { body: json(route), ..bare("POST", ROUTES) },
        Request::DeleteRoute(DeleteRoute { prefix, origin, force }) => {
            bare("DELETE", &format!("{ROUTES}?prefix={prefix}&origin={origin}{}", forced(*force)))
        }
        Request::Ports => bare("GET", PORTS),
        Request::Routes => bare("GET", ROUTES),
        Request::ChangeNeighbors(change) => Message { body: json(change), ..bare("PUT", NEIGHBORS) },
        Request::Neighbors => bare("GET", NEIGHBORS),
        Request::Pause(pause) => Message { body: json(pause), ..bare("PUT", PAUSE) },
        Request::Resume(Resume { origin }) => bare("DELETE", &format!("{PAUSE}?origin={origin}")),
        Request::Stations => bare("GET", STATIONS),
        Request::Drops => bare("GET", DROPS),
        Request::Status => bare("GET", STATUS),
        Request::Workers => bare("GET", WORKERS),
        Request::Adjacencies => bare("GET", ADJACENCIES),
        Request::Worlds => bare("GET", WORLDS),
        Request::Endpoints => bare("GET", ENDPOINTS),
        Request::Returns => bare("GET", RETURNS),
        Request::Config => bare("GET", CONFIG),
        Request::StartTrace(start) => Message { body: json(start), ..bare("POST", TRACE) },
        Request::PollTrace(id) => bare("GET", &format!("{TRACE}?id={id}")),
        Request::StopTrace(id) => bare("DELETE", &format!("{TRACE}?id={id}")),
        Request::Stop => bare("POST", STOP),
        Request::Purge => bare("POST", PURGE),
    }
}

/// The request that `method`, `target` (path and query) and `body` say; refuses what is not one.
pub fn decode(method: &str, target: &str, body: &[u8]) -> Result<Request, Refusal> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if !PATHS.iter().any(|known| is_at(known, method, path)) {
        return Err(unknown(method, path));
    }
    let mut query = Query::parse(query)?;
    let request = match (method, path) {
        ("POST", ENDPOINTS) => Request::Attach(from_json(body)?),
        ("POST", ROUTES) => Request::AddRoute(from_json(body)?),
        ("DELETE", ROUTES) => Request::DeleteRoute(DeleteRoute {
            prefix: query.need("prefix")?,
            origin: query.need("origin")?,
            force: query.take("force")?.unwrap_or(false),
        }),
        ("GET", PORTS) => Request::Ports,
        ("GET", ROUTES) => Request::Routes,
        ("PUT", NEIGHBORS) => Request::ChangeNeighbors(from_json(body)?),
        ("DELETE", NEIGHBORS) => Request::ChangeNeighbors(ChangeNeighbors {
            delete: vec![DeleteNeighbor {
                subnet: query.need("subnet")?,
                origin: query.need("origin")?,
                force: query.take("force")?.unwrap_or(false),
            }],
            add: Vec::new(),
        }),
        ("GET", NEIGHBORS) => Request::Neighbors,
        ("PUT", PAUSE) => Request::Pause(from_json(body)?),
        ("DELETE", PAUSE) => Request::Resume(Resume { origin: query.need("origin")? }),
        ("GET", STATIONS) => Request::Stations,
        ("GET", DROPS) => Request::Drops,
        ("GET", STATUS) => Request::Status,
        ("GET", WORKERS) => Request::Workers,
        ("GET", ADJACENCIES) => Request::Adjacencies,
        ("GET", WORLDS) => Request::Worlds,
        ("GET", ENDPOINTS) => Request::Endpoints,
        ("GET", RETURNS) => Request::Returns,
        ("GET", CONFIG) => Request::Config,
        ("POST", TRACE) => Request::StartTrace(from_json(body)?),
        ("GET", TRACE) => Request::PollTrace(query.need("id")?),
        ("DELETE", TRACE) => Request::StopTrace(query.need("id")?),
        ("POST", STOP) => Request::Stop,
        ("POST", PURGE) => Request::Purge,
        _ => match (method, path.strip_prefix(ENDPOINTS).and_then(|rest| rest.strip_prefix('/'))) {
            ("DELETE", Some(name)) => Request::Detach(Detach {
                name: parse("name", name)?,
                origin: query.need("origin")?,
                force: query.take("force")?.unwrap_or(false),
            }),
            _ => return Err(unknown(method, path)),
        },
    };
    query.end().map(|()| request)
}

/// What a switch sends back: HTTP status and JSON body.
pub fn encode_reply(reply: &Result<Reply, Refusal>) -> (u16, Vec<u8>) {
    match reply {
        Ok(reply) => (200, json(reply)),
        Err(refusal) => (refusal.code.status(), json(&Envelope { error: refusal })),
    }
}

/// What a client makes of the answer: the value, or the refusal as an error.
pub fn answer<T: DeserializeOwned>(status: u16, body: &[u8]) -> Result<T, Error> {
    let unreadable = |source| Error::Answer { status, source };
    if status == 200 {
        return serde_json::from_slice(body).map_err(unreadable);
    }
    let envelope: Envelope<Refusal> = serde_json::from_slice(body).map_err(unreadable)?;
    Err(Error::Refused(envelope.error))
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    error: T,
}

/// The query's keys and values not yet asked for.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Result<Self, Refusal> {
        let pair = |part: &str| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            Ok((unescape(key)?, unescape(value)?))
        };
        text.split('&').filter(|part| !part.is_empty()).map(pair).collect::<Result<_, _>>().map(Query)
    }

    fn take<T: FromStr<Err: ToString>>(&mut self, key: &str) -> Result<Option<T>, Refusal> {
        let Some(at) = self.0.iter().position(|(known, _)| known == key) else { return Ok(None) };
        let (_, value) = self.0.swap_remove(at);
        parse(key, &value).map(Some)
    }

    fn need<T: FromStr<Err: ToString>>(&mut self, key: &str) -> Result<T, Refusal> {
        self.take(key)?.ok_or_else(|| invalid(format!("the query lacks '{key}'")))
    }

    fn end(self) -> Result<(), Refusal> {
        match self.0.first() {
            None => Ok(()),
            Some((key, _)) => Err(invalid(format!("the query's '{key}' is unknown here or stands there twice"))),
        }
    }
}

/// Undoes percent escapes (RFC 3986, section 2.1).
fn unescape(text: &str) -> Result<String, Refusal> {
    let wrong = || invalid(format!("'{text}' is not properly percent-encoded"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2).ok_or_else(wrong)?;
        let digit = |at: usize| char::from(digits[at]).to_digit(16).ok_or_else(wrong);
        bytes.push((digit(0)? * 16 + digit(1)?) as u8);
        rest = behind;
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

fn parse<T: FromStr<Err: ToString>>(what: &str, text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|error: T::Err| invalid(format!("{what}: {}", error.to_string())))
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("every word has a JSON form: its maps have text keys")
}

fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| invalid(format!("the body is not what is expected here: {error}")))
}

fn forced(force: bool) -> &'static str {
    if force { "&force=true" } else { "" }
}

fn invalid(message: String) -> Refusal {
    Refusal::new(Code::Invalid, message)
}

fn unknown(method: &str, path: &str) -> Refusal {
    let known: Vec<String> = PATHS.iter().map(|(method, path)| format!("{method} {path}")).collect();
    Refusal::new(Code::NotFound, format!("there is no {method} {path}")).hint(format!("there are {}", known.join(", ")))
}

/// A name is the last of its path; which names are legal is a question for later.
fn is_at((known_method, known_path): &(&str, &str), method: &str, path: &str) -> bool {
    let same = known_path.split_once('{').map_or(path == *known_path, |(stem, _)| path.starts_with(stem));
    *known_method == method && same
}

const ENDPOINTS: &str = "/v1/endpoints";
const ROUTES: &str = "/v1/routes";
const PORTS: &str = "/v1/ports";
const PAUSE: &str = "/v1/pause";
const STATIONS: &str = "/v1/stations";
const DROPS: &str = "/v1/drops";
const STATUS: &str = "/v1/status";
const WORKERS: &str = "/v1/workers";
const ADJACENCIES: &str = "/v1/adjacencies";
const WORLDS: &str = "/v1/worlds";
const RETURNS: &str = "/v1/returns";
const CONFIG: &str = "/v1/config";
const TRACE: &str = "/v1/trace";
const STOP: &str = "/v1/stop";
const PURGE: &str = "/v1/purge";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Assign, Attach, Backend, Bandwidth, Done, InterfaceName, NEIGHBORS_MAX, Neighbor, Origin, Pause, RateLimit,
        Route, RouteTarget, StartTrace,
    };

    fn requests() -> Vec<Request> {
        let name: crate::Name = "web-0.x".parse().unwrap();
        let limit = RateLimit { rate: "10M".parse().unwrap(), burst: Some(80_000) };
        let attach = Attach {
            name: name.clone(),
            netns: "blue".parse().unwrap(),
            interface: InterfaceName::default(),
            addresses: vec!["10.244.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            assign: Some(Assign {
                pools: vec![vec!["10.244.0.0/28".parse().unwrap(), "10.244.0.40-10.244.0.60".parse().unwrap()]],
                keep_for: Some("default.web-0".parse().unwrap()),
            }),
            network: Some("pods".parse().unwrap()),
            bandwidth: Bandwidth { ingress: Some(limit), egress: Some(RateLimit { burst: None, ..limit }) },
            mtu: Some("1400".parse().unwrap()),
            mac: Some(packet::Mac([2, 0, 0, 0, 0, 1])),
            origin: Origin::Cni,
        };
        let target = RouteTarget::Endpoint(name.clone());
        let [v4, v6] = ["10.0.0.0/8", "fd00:1::/64"].map(|text| text.parse().unwrap());
        let mac = Some(packet::Mac([2, 0x76, 0, 0, 0, 2]));
        let via = "192.168.9.2".parse().unwrap();
        let vxlan = Neighbor { subnet: v4, via, backend: Backend::Vxlan, mac, origin: Origin::Agent };
        vec![
            Request::Attach(Attach {
                mtu: None,
                mac: None,
                assign: None,
                network: None,
                bandwidth: Bandwidth::default(),
                ..attach.clone()
            }),
            Request::Attach(attach),
            Request::Detach(Detach { name: name.clone(), origin: Origin::Cli, force: false }),
            Request::Detach(Detach { name, origin: Origin::HostImport, force: true }),
            Request::AddRoute(Route { prefix: v6, target, origin: Origin::Agent }),
            Request::DeleteRoute(DeleteRoute { prefix: v4, origin: Origin::Cli, force: true }),
            Request::DeleteRoute(DeleteRoute { prefix: v6, origin: Origin::Agent, force: false }),
            Request::Ports,
            Request::Routes,
            Request::ChangeNeighbors(ChangeNeighbors {
                delete: vec![
                    DeleteNeighbor { subnet: v4, origin: Origin::Cli, force: true },
                    DeleteNeighbor { subnet: v6, origin: Origin::Agent, force: false },
                ],
                add: vec![vxlan.clone(), Neighbor { backend: Backend::HostGw, mac: None, ..vxlan }],
            }),
            Request::ChangeNeighbors(ChangeNeighbors::default()),
            Request::Neighbors,
            Request::Pause(Pause { why: "no lease".parse().unwrap(), origin: Origin::Agent }),
            Request::Resume(Resume { origin: Origin::Cli }),
            Request::Stations,
            Request::Drops,
            Request::Status,
            Request::Workers,
            Request::Adjacencies,
            Request::Worlds,
            Request::Endpoints,
            Request::Returns,
            Request::Config,
            Request::StartTrace(StartTrace::default()),
            Request::StartTrace(StartTrace {
                port: Some("web-0".to_owned()),
                filter: Some("tcp and dst 10.1.2.3".parse().unwrap()),
                dropped: true,
                count: Some(3),
                seconds: Some(60),
            }),
            Request::PollTrace(7),
            Request::StopTrace(u64::MAX),
            Request::Stop,
            Request::Purge,
        ]
    }

    #[test]
    fn every_request_survives_http_and_back() {
        for request in requests() {
            let Message { method, target, body } = encode(&request);
            assert_eq!(decode(method, &target, &body), Ok(request));
        }
    }

    #[test]
    fn one_neighbour_is_deleted_without_a_body_too() {
        let by_query = decode("DELETE", "/v1/neighbors?subnet=10.5.0.0/16&origin=agent&force=true", b"").unwrap();
        let body = br#"{"delete":[{"subnet":"10.5.0.0/16","origin":"agent","force":true}]}"#;
        assert_eq!(decode("PUT", "/v1/neighbors", body), Ok(by_query));
    }

    #[test]
    fn all_neighbours_there_can_be_fit_into_one_change() {
        let longest = Neighbor {
            subnet: "2001:db8:ffff:ffff:ffff:ffff:ffff:ff00/120".parse().unwrap(),
            via: "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(),
            backend: Backend::Vxlan,
            mac: Some(packet::Mac([0xfe; 6])),
            origin: Origin::HostImport,
        };
        let change = ChangeNeighbors { delete: Vec::new(), add: vec![longest; NEIGHBORS_MAX] };
        let length = encode(&Request::ChangeNeighbors(change)).body.len();
        assert!(length <= NEIGHBORS_LEN_MAX, "{length}");
    }

    #[test]
    fn an_escaped_prefix_is_understood() {
        let escaped = decode("DELETE", "/v1/routes?prefix=10.0.0.0%2F8&origin=cli", b"").unwrap();
        let plain = decode("DELETE", "/v1/routes?origin=cli&prefix=10.0.0.0/8", b"").unwrap();
        assert_eq!(escaped, plain);
    }

    #[test]
    fn what_is_no_request_is_refused_by_name() {
        for (method, target, body, code, named) in [
            ("GET", "/v2/ports", "", Code::NotFound, "/v2/ports"),
            ("PUT", "/v1/ports", "", Code::NotFound, "PUT"),
            ("GET", "/v1/ports?all=1", "", Code::Invalid, "'all'"),
            ("DELETE", "/v1/endpoints/", "", Code::Invalid, "name"),
            ("DELETE", "/v1/endpoints/a/b?origin=cli", "", Code::Invalid, "a/b"),
            ("DELETE", "/v1/endpoints/a", "", Code::Invalid, "'origin'"),
            ("DELETE", "/v1/endpoints/a?origin=me", "", Code::Invalid, "'me'"),
            ("DELETE", "/v1/endpoints/a?origin=cli&origin=cni", "", Code::Invalid, "twice"),
            ("DELETE", "/v1/routes?prefix=10.0.0.1/8&origin=cli", "", Code::Invalid, "10.0.0.0/8"),
            ("DELETE", "/v1/routes?prefix=%2", "", Code::Invalid, "%2"),
            ("DELETE", "/v1/routes?prefix=%ff", "", Code::Invalid, "%ff"),
            ("DELETE", "/v1/neighbors?origin=cli", "", Code::Invalid, "'subnet'"),
            ("PUT", "/v1/pause", r#"{"why":"","origin":"agent"}"#, Code::Invalid, "one line"),
            ("PUT", "/v1/neighbors", r#"{"neighbors":[]}"#, Code::Invalid, "`neighbors`"),
            ("POST", "/v1/routes", "{", Code::Invalid, "body"),
            ("POST", "/v1/trace", r#"{"filter":"tcp prt 1"}"#, Code::Invalid, "has 'prt' at character 5"),
            ("GET", "/v1/trace", "", Code::Invalid, "'id'"),
            ("POST", "/v1/routes", r#"{"prefix":"::/0","target":"host","origin":"cli","x":1}"#, Code::Invalid, "`x`"),
        ] {
            let refusal = decode(method, target, body.as_bytes()).unwrap_err();
            assert_eq!(refusal.code, code, "{target}");
            assert!(refusal.message.contains(named), "{target}: {refusal}");
        }
    }

    #[test]
    fn the_description_has_every_path_and_no_other() {
        let description: serde_json::Value = serde_json::from_str(DESCRIPTION).unwrap();
        assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
        let mut described = Vec::new();
        for (path, methods) in description["paths"].as_object().unwrap() {
            described.extend(methods.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())));
        }
        let mut known: Vec<_> = PATHS.iter().map(|&(method, path)| (method.to_owned(), path.to_owned())).collect();
        described.sort();
        known.sort();
        assert_eq!(described, known, "left: openapi.json; right: wire::PATHS");
        for request in requests() {
            let Message { method, target, .. } = encode(&request);
            let path = target.split('?').next().unwrap();
            assert!(PATHS.iter().any(|known| is_at(known, method, path)), "{method} {path} is not in PATHS");
        }
    }

    #[test]
    fn a_refusal_arrives_with_its_status_and_hint() {
        for &code in Code::ALL {
            let refusal = Refusal::new(code, "no").hint("ask again");
            let (status, body) = encode_reply(&Err(refusal.clone()));
            assert_eq!(status, code.status());
            match answer::<Done>(status, &body) {
                Err(Error::Refused(heard)) => assert_eq!(heard, refusal),
                other => panic!("{other:?}"),
            }
        }
        let (status, body) = encode_reply(&Ok(Reply::Done(Done {})));
        assert_eq!((status, body.as_slice()), (200, &b"{}"[..]));
        assert!(matches!(answer::<Done>(502, b"<html>"), Err(Error::Answer { status: 502, .. })));
    }
}
