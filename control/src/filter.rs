//! Which packets are meant: a subset of the filter language of pcap-filter(7), parsed once.
//!
//! ```text
//!  expression = term { ("and" | "&&" | "or" | "||") term }       from left to right: neither binds tighter
//!  term       = ("not" | "!") term | "(" expression ")" | primitive
//!  primitive  = "ip" | "ip6" | "arp" | "icmp" | "icmp6" | "tcp" | "udp" | "sctp"
//!             | ["src" | "dst"] ["host"] ADDRESS
//!             | ["src" | "dst"] "net" PREFIX
//!             | ["tcp" | "udp" | "sctp"] ["src" | "dst"] ("port" N | "portrange" A-B)
//!             | ("less" | "greater") N                            bytes of the frame, N itself included
//! ```
//!
//! The text of a [`Filter`] parses to the same filter. Limit: [`TERMS_MAX`] terms, which bounds the depth of an
//! expression and the time one takes. Not done: names of hosts and services, and a keyword carried over
//! (`port 80 or 443`).

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use packet::Prefix;

use crate::ParseError;
use crate::text::{serde_as_text, words};

/// A filter; only a parse makes one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter(Expression);

/// What a filter says.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the fields are what their types say")]
pub enum Expression {
    /// Of this protocol.
    Protocol(Protocol),
    /// Of this transport protocol, over IPv4 or IPv6.
    Transport(Transport),
    /// An address lies in the prefix; also the sender's or the target's of an ARP packet.
    Address { side: Option<Side>, prefix: Prefix },
    /// A port lies in the range; a fragment without ports has none.
    Port { transport: Option<Transport>, side: Option<Side>, range: RangeInclusive<u16> },
    /// At most so many bytes.
    Less(u32),
    /// At least so many bytes.
    Greater(u32),
    /// It does not hold.
    Not(Box<Expression>),
    /// Both hold.
    And(Box<[Expression; 2]>),
    /// One of the two holds, or both.
    Or(Box<[Expression; 2]>),
}

words! {
    /// What a frame carries, ports apart.
    Protocol, "protocol" {
        /// IPv4.
        Ip => "ip",
        /// IPv6.
        Ip6 => "ip6",
        /// ARP.
        Arp => "arp",
        /// ICMP over IPv4.
        Icmp => "icmp",
        /// ICMP over IPv6.
        Icmp6 => "icmp6",
    }
}

words! {
    /// A protocol with ports.
    Transport, "transport protocol" {
        /// TCP.
        Tcp => "tcp",
        /// UDP.
        Udp => "udp",
        /// SCTP.
        Sctp => "sctp",
    }
}

words! {
    /// Which of the two addresses or ports is meant; without it, either.
    Side, "direction" {
        /// Where the packet comes from.
        Src => "src",
        /// Where it goes.
        Dst => "dst",
    }
}

/// Most terms of a filter: primitives, negations and parentheses together.
pub const TERMS_MAX: usize = 64;

impl Filter {
    /// What it says.
    pub fn expression(&self) -> &Expression {
        &self.0
    }
}

impl FromStr for Filter {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut parser = Parser { words: words_of(text), next: 0, terms: 0, end: text.chars().count() + 1 };
        let expression = parser.expression()?;
        match parser.peek() {
            None => Ok(Filter(expression)),
            Some(_) => Err(parser.needs("'and', 'or' or its end")),
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

serde_as_text!(Filter);

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expression::Protocol(protocol) => protocol.fmt(f),
            Expression::Transport(transport) => transport.fmt(f),
            Expression::Address { side, prefix } => {
                qualifier(f, *side)?;
                if *prefix == Prefix::host(prefix.address()) {
                    write!(f, "host {}", prefix.address())
                } else {
                    write!(f, "net {prefix}")
                }
            }
            Expression::Port { transport, side, range } => {
                qualifier(f, *transport)?;
                qualifier(f, *side)?;
                match (range.start(), range.end()) {
                    (first, last) if first == last => write!(f, "port {first}"),
                    (first, last) => write!(f, "portrange {first}-{last}"),
                }
            }
            Expression::Less(bytes) => write!(f, "less {bytes}"),
            Expression::Greater(bytes) => write!(f, "greater {bytes}"),
            Expression::Not(term) => write!(f, "not {}", Term(term)),
            Expression::And(terms) => write!(f, "{} and {}", terms[0], Term(&terms[1])),
            Expression::Or(terms) => write!(f, "{} or {}", terms[0], Term(&terms[1])),
        }
    }
}

fn qualifier(f: &mut fmt::Formatter<'_>, word: Option<impl fmt::Display>) -> fmt::Result {
    word.map_or(Ok(()), |word| write!(f, "{word} "))
}

/// An expression where a term must stand.
struct Term<'a>(&'a Expression);

impl fmt::Display for Term<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Expression::And(_) | Expression::Or(_) => write!(f, "({})", self.0),
            term => term.fmt(f),
        }
    }
}

/// The words of a text, each with the place of its first character, counted from 1.
fn words_of(text: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let (mut rest, mut place) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '&' | '|' if rest[1..].starts_with(first) => 2,
            '(' | ')' | '!' | '&' | '|' => 1,
            _ => rest.find(|c: char| c.is_whitespace() || "()!&|".contains(c)).unwrap_or(rest.len()),
        };
        let length = if first.is_whitespace() { first.len_utf8() } else { length };
        let (word, behind) = rest.split_at(length);
        if !first.is_whitespace() {
            words.push((place, word));
        }
        place += word.chars().count();
        rest = behind;
    }
    words
}

/// A recursive descent; every function takes what it describes and leaves the rest.
struct Parser<'a> {
    words: Vec<(usize, &'a str)>,
    next: usize,
    terms: usize,
    /// The place behind the last character.
    end: usize,
}

impl<'a> Parser<'a> {
    fn expression(&mut self) -> Result<Expression, ParseError> {
        let mut left = self.term()?;
        loop {
            let join = match self.peek() {
                Some("and" | "&&") => Expression::And,
                Some("or" | "||") => Expression::Or,
                _ => return Ok(left),
            };
            self.next += 1;
            left = join(Box::new([left, self.term()?]));
        }
    }

    fn term(&mut self) -> Result<Expression, ParseError> {
        self.terms += 1;
        if self.terms > TERMS_MAX {
            return Err(self.needs(&format!("its end: more than {TERMS_MAX} terms are not taken")));
        }
        match self.peek() {
            Some("not" | "!") => {
                self.next += 1;
                Ok(Expression::Not(Box::new(self.term()?)))
            }
            Some("(") => {
                self.next += 1;
                let inner = self.expression()?;
                if !self.takes(")") {
                    return Err(self.needs("'and', 'or' or ')'"));
                }
                Ok(inner)
            }
            _ => self.primitive(),
        }
    }

    fn primitive(&mut self) -> Result<Expression, ParseError> {
        if let Some(protocol) = self.word() {
            return Ok(Expression::Protocol(protocol));
        }
        let (transport, side) = (self.word(), self.word());
        let here = self.peek();
        match (here, transport) {
            (Some("port"), _) => {
                self.next += 1;
                let port = self.value("a port number, 0 to 65535")?;
                Ok(Expression::Port { transport, side, range: port..=port })
            }
            (Some("portrange"), _) => {
                self.next += 1;
                Ok(Expression::Port { transport, side, range: self.range()? })
            }
            (_, Some(transport)) if side.is_none() => Ok(Expression::Transport(transport)),
            (_, Some(_)) => Err(self.needs("'port' or 'portrange'")),
            (Some("less" | "greater"), None) if side.is_none() => {
                self.next += 1;
                let bytes = self.value("a number of bytes")?;
                Ok(if here == Some("less") { Expression::Less(bytes) } else { Expression::Greater(bytes) })
            }
            (_, None) => Ok(Expression::Address { side, prefix: self.address(side)? }),
        }
    }

    fn address(&mut self, side: Option<Side>) -> Result<Prefix, ParseError> {
        if self.takes("net") {
            let text = self.peek().unwrap_or_default();
            let prefix = text.parse().map_err(|error| self.needs(&format!("a prefix: {error}")))?;
            self.next += 1;
            return Ok(prefix);
        }
        let needs = match (self.takes("host"), side) {
            (true, _) => "an IPv4 or IPv6 address",
            (false, Some(_)) => "an address, 'host', 'net', 'port' or 'portrange'",
            (false, None) => PRIMITIVES,
        };
        self.value::<IpAddr>(needs).map(Prefix::host)
    }

    fn range(&mut self) -> Result<RangeInclusive<u16>, ParseError> {
        let parsed = self.peek().and_then(|text| text.split_once('-'));
        let range = parsed.and_then(|(first, last)| Some(first.parse().ok()?..=last.parse().ok()?));
        let range = range.filter(|range| !range.is_empty());
        let range = range.ok_or_else(|| self.needs("two port numbers, such as 8000-8080, the lower one first"))?;
        self.next += 1;
        Ok(range)
    }

    /// The next word's value, which must be there.
    fn value<T: FromStr>(&mut self, needs: &str) -> Result<T, ParseError> {
        self.word().ok_or_else(|| self.needs(needs))
    }

    /// The next word's value, if it is one.
    fn word<T: FromStr>(&mut self) -> Option<T> {
        let value = self.peek()?.parse().ok()?;
        self.next += 1;
        Some(value)
    }

    fn takes(&mut self, word: &str) -> bool {
        let taken = self.peek() == Some(word);
        self.next += usize::from(taken);
        taken
    }

    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.next).map(|&(_, word)| word)
    }

    fn needs(&self, needs: &str) -> ParseError {
        let (at, found) = match self.words.get(self.next) {
            Some((at, word)) => (*at, format!("has '{word}'")),
            None => (self.end, "ends".to_owned()),
        };
        ParseError::Filter { found, at, needs: needs.to_owned() }
    }
}

const PRIMITIVES: &str = "an address, or one of ip, ip6, arp, icmp, icmp6, tcp, udp, sctp, src, dst, host, net, port, \
                          portrange, less, greater, not, (";

#[cfg(test)]
mod tests;
