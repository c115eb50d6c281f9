//! From text to [`Selector`], by recursive descent. The only recursion is by parentheses, which are counted.

use std::sync::Arc;

use super::Selector;
use crate::labels::{ACCOUNT, ACCOUNT_PREFIX, NAMESPACE, NAMESPACE_PREFIX, is_key};

/// How deep parentheses may be nested.
pub const NESTING_MAX: usize = 64;

/// Whose labels an expression speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those of endpoints and network sets themselves.
    Endpoints,
    /// Those of the namespaces they are in.
    Namespaces,
    /// Those of the service accounts they run under.
    Accounts,
}

/// Where a selector cannot be read, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {problem}, found {found}")]
pub struct SyntaxError {
    /// The character at which reading stopped, counted from 1.
    pub column: usize,
    /// What was expected there.
    pub problem: String,
    /// What stands there instead, cut to a few characters.
    pub found: String,
}

pub(super) fn parse(text: &str, scope: Scope) -> Result<Selector, SyntaxError> {
    let mut parser = Parser { text, at: 0, depth: 0, scope };
    parser.skip_spaces();
    if parser.rest().is_empty() {
        return Ok(parser.everything());
    }
    let selector = parser.or()?;
    match parser.rest().is_empty() {
        true => Ok(selector),
        false => Err(parser.error("expected && or || or the end")),
    }
}

struct Parser<'a> {
    text: &'a str,
    /// The next byte, never a space between parts.
    at: usize,
    depth: usize,
    scope: Scope,
}

impl<'a> Parser<'a> {
    fn or(&mut self) -> Result<Selector, SyntaxError> {
        let mut parts = vec![self.and()?];
        while self.eat("||") {
            parts.push(self.and()?);
        }
        Ok(Selector::or(parts))
    }

    fn and(&mut self) -> Result<Selector, SyntaxError> {
        let mut parts = vec![self.not()?];
        while self.eat("&&") {
            parts.push(self.not()?);
        }
        Ok(Selector::and(parts))
    }

    fn not(&mut self) -> Result<Selector, SyntaxError> {
        let mut is_negated = false;
        while self.eat("!") {
            is_negated = !is_negated;
        }
        let one = self.one()?;
        Ok(if is_negated { Selector::negation(one) } else { one })
    }

    fn one(&mut self) -> Result<Selector, SyntaxError> {
        if self.rest().starts_with('(') {
            return self.parenthesised();
        }
        let start = self.at;
        let word = self.word();
        if word.is_empty() {
            return Err(self.error("expected a label, has(..), all(), global(), ! or ("));
        }
        let is_call = self.rest().starts_with('(');
        self.skip_spaces();
        match word {
            "all" if is_call => self.empty_call().map(|()| self.everything()),
            "global" if is_call => self.empty_call().map(|()| Selector::negation(Selector::Has(NAMESPACE.into()))),
            "has" if is_call => self.has(),
            _ if is_call => {
                self.at = start;
                Err(self.error("only all(), global() and has(..) are called"))
            }
            key => {
                let key = self.key(key, start)?;
                self.comparison(key)
            }
        }
    }

    fn parenthesised(&mut self) -> Result<Selector, SyntaxError> {
        if self.depth == NESTING_MAX {
            return Err(self.error(&format!("parentheses are nested more than {NESTING_MAX} deep")));
        }
        self.eat("(");
        self.depth += 1;
        let inner = self.or()?;
        self.depth -= 1;
        self.expect(")")?;
        Ok(inner)
    }

    fn empty_call(&mut self) -> Result<(), SyntaxError> {
        self.expect("(")?;
        self.expect(")")
    }

    fn has(&mut self) -> Result<Selector, SyntaxError> {
        self.expect("(")?;
        let start = self.at;
        let word = self.word();
        let key = self.key(word, start)?;
        self.skip_spaces();
        self.expect(")")?;
        Ok(Selector::Has(key))
    }

    fn comparison(&mut self, key: Arc<str>) -> Result<Selector, SyntaxError> {
        if self.eat("==") {
            return Ok(Selector::Equals(key, self.value()?));
        }
        if self.eat("!=") {
            return Ok(Selector::negation(Selector::Equals(key, self.value()?)));
        }
        let start = self.at;
        let first = self.word();
        self.skip_spaces();
        let words = match first {
            "not" | "starts" | "ends" => (first, self.word()),
            _ => (first, ""),
        };
        self.skip_spaces();
        match words {
            ("in", _) => Ok(Selector::any_of(key, self.set()?)),
            ("not", "in") | ("notin", _) => Ok(Selector::negation(Selector::any_of(key, self.set()?))),
            ("contains", _) => Ok(Selector::Contains(key, self.value()?)),
            ("starts", "with") | ("startswith", _) => Ok(Selector::StartsWith(key, self.value()?)),
            ("ends", "with") | ("endswith", _) => Ok(Selector::EndsWith(key, self.value()?)),
            _ => {
                self.at = start;
                Err(self.error("expected ==, !=, in, not in, contains, starts with or ends with after the label"))
            }
        }
    }

    fn set(&mut self) -> Result<Vec<Arc<str>>, SyntaxError> {
        self.expect("{")?;
        let mut values = Vec::new();
        while self.rest().starts_with(['"', '\'']) {
            values.push(self.value()?);
            if !self.eat(",") {
                break;
            }
        }
        self.expect("}")?;
        Ok(values)
    }

    fn value(&mut self) -> Result<Arc<str>, SyntaxError> {
        let rest = self.rest();
        let quote = rest.chars().next().filter(|quote| matches!(quote, '"' | '\''));
        let quote = quote.ok_or_else(|| self.error("expected a value in quotes"))?;
        let length = rest[1..].find(quote).ok_or_else(|| self.error("the quote has no end"))?;
        self.at += length + 2;
        self.skip_spaces();
        Ok(rest[1..=length].into())
    }

    /// A label's key under the name it has at an endpoint.
    fn key(&mut self, word: &str, start: usize) -> Result<Arc<str>, SyntaxError> {
        if !is_key(word) {
            self.at = start;
            return Err(self.error("expected a label of 1 to 512 letters, digits, '.', '_', '/' and '-'"));
        }
        Ok(match self.scope {
            Scope::Endpoints => word.into(),
            Scope::Namespaces => format!("{NAMESPACE_PREFIX}{word}").into(),
            Scope::Accounts => format!("{ACCOUNT_PREFIX}{word}").into(),
        })
    }

    fn everything(&self) -> Selector {
        match self.scope {
            Scope::Endpoints => Selector::All,
            Scope::Namespaces => Selector::Has(NAMESPACE.into()),
            Scope::Accounts => Selector::Has(ACCOUNT.into()),
        }
    }

    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let is_part = |one: char| one.is_ascii_alphanumeric() || "_./-".contains(one);
        let length = rest.find(|one| !is_part(one)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn eat(&mut self, part: &str) -> bool {
        let is_next = self.rest().starts_with(part);
        if is_next {
            self.at += part.len();
            self.skip_spaces();
        }
        is_next
    }

    fn expect(&mut self, part: &str) -> Result<(), SyntaxError> {
        if self.eat(part) { Ok(()) } else { Err(self.error(&format!("expected '{part}'"))) }
    }

    fn skip_spaces(&mut self) {
        self.at = self.text.len() - self.rest().trim_ascii_start().len();
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn error(&self, problem: &str) -> SyntaxError {
        let column = self.text[..self.at].chars().count() + 1;
        let mut found: String = self.rest().chars().take(FOUND_MAX).collect();
        if found.len() < self.rest().len() {
            found.push_str("..");
        }
        let found = if found.is_empty() { "the end".to_owned() } else { format!("'{}'", found.escape_debug()) };
        SyntaxError { column, problem: problem.to_owned(), found }
    }
}

/// So much of what was found is shown.
const FOUND_MAX: usize = 24;
