//! Reads a selector, and writes one that reads back as the same.
//!
//! ```text
//!  or      = and { "||" and }
//!  and     = operand { "&&" operand }
//!  operand = "!" operand | "(" or ")" | "all()" | "global()" | "has(" label ")"
//!          | label ( "==" | "!=" | "contains" | "starts with" | "ends with" ) value
//!          | label ( "in" | "not in" ) "{" [ value { "," value } ] "}"
//!  value   = '"' any but '"' '"' | "'" any but "'" "'"
//! ```
//!
//! An empty text chooses everything. `!=` and `not in` hold for what lacks the label. `global()` chooses what is in no namespace.
//! Parentheses and negations may be nested [`DEPTH_MAX`] deep: whoever reads, compares or drops a selector goes as deep.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::Selector;
use crate::labels::NAMESPACE;

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the selector '{text}' is wrong at character {at}: {fault}")]
pub struct SelectorError {
    /// The text, its end left out where it is long.
    pub text: String,
    /// Where, counted from 1.
    pub at: usize,
    /// What was found, or is missing.
    pub fault: &'static str,
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let mut reader = Reader { text, at: 0 };
        reader.blanks();
        let read = if reader.rest().is_empty() { Ok(Selector::All) } else { reader.or(0) };
        let whole = read.and_then(|selector| match reader.rest() {
            "" => Ok(selector),
            _ => Err("an operator '&&' or '||' is missing here, or there is too much"),
        });
        whole.map_err(|fault| SelectorError {
            text: text.chars().take(SHOWN_MAX).collect(),
            at: text[..reader.at].chars().count() + 1,
            fault,
        })
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

type Read<T> = Result<T, &'static str>;

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Goes behind `word` and the blanks after it, if it stands here.
    fn takes(&mut self, word: &str) -> bool {
        let there = self.rest().starts_with(word);
        if there {
            self.at += word.len();
            self.blanks();
        }
        there
    }

    /// The same of a word that must not go on.
    fn takes_word(&mut self, word: &str) -> bool {
        let whole = self.rest().strip_prefix(word).is_some_and(|rest| !rest.starts_with(of_label));
        whole && self.takes(word)
    }

    fn or(&mut self, depth: usize) -> Read<Selector> {
        let mut any = vec![self.and(depth)?];
        while self.takes("||") {
            any.push(self.and(depth)?);
        }
        Ok(if any.len() == 1 { any.remove(0) } else { Selector::Or(any) })
    }

    fn and(&mut self, depth: usize) -> Read<Selector> {
        let mut all = vec![self.operand(depth)?];
        while self.takes("&&") {
            all.push(self.operand(depth)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Selector::And(all) })
    }

    fn operand(&mut self, depth: usize) -> Read<Selector> {
        if depth > DEPTH_MAX {
            return Err("it is nested too deep");
        }
        if self.takes("!") {
            return Ok(not(self.operand(depth + 1)?));
        }
        if self.takes("(") {
            let inner = self.or(depth + 1)?;
            return self.closed(inner);
        }
        for (name, selector) in [("all(", Selector::All), ("global(", not(Selector::Has(NAMESPACE.into())))] {
            if self.takes(name) {
                return self.closed(selector);
            }
        }
        if self.takes("has(") {
            let label = self.label()?;
            return self.closed(Selector::Has(label));
        }
        let label = self.label()?;
        self.comparison(label)
    }

    fn closed(&mut self, selector: Selector) -> Read<Selector> {
        if self.takes(")") { Ok(selector) } else { Err("')' is missing") }
    }

    fn comparison(&mut self, label: Arc<str>) -> Read<Selector> {
        if self.takes("==") {
            return Ok(Selector::Equals(label, self.value()?));
        }
        if self.takes("!=") {
            return Ok(not(Selector::Equals(label, self.value()?)));
        }
        if self.takes_word("contains") {
            return Ok(Selector::Contains(label, self.value()?));
        }
        if self.takes_word("starts") && self.takes_word("with") {
            return Ok(Selector::StartsWith(label, self.value()?));
        }
        if self.takes_word("ends") && self.takes_word("with") {
            return Ok(Selector::EndsWith(label, self.value()?));
        }
        let negated = self.takes_word("not");
        if !self.takes_word("in") {
            return Err("one of ==, !=, in, not in, contains, starts with, ends with is missing");
        }
        let chosen = Selector::In(label, self.values()?);
        Ok(if negated { not(chosen) } else { chosen })
    }

    fn label(&mut self) -> Read<Arc<str>> {
        let rest = self.rest();
        let length = rest.find(|character| !of_label(character)).unwrap_or(rest.len());
        if length == 0 {
            return Err("a label or one of has(), all(), global() is missing");
        }
        let label = rest[..length].into();
        self.at += length;
        self.blanks();
        Ok(label)
    }

    fn values(&mut self) -> Read<Vec<Arc<str>>> {
        if !self.takes("{") {
            return Err("'{' is missing");
        }
        let mut values = Vec::new();
        while !self.takes("}") {
            if !(values.is_empty() || self.takes(",")) {
                return Err("',' or '}' is missing");
            }
            values.push(self.value()?);
        }
        Ok(values)
    }

    fn value(&mut self) -> Read<Arc<str>> {
        let rest = self.rest();
        let quote =
            rest.chars().next().filter(|&quote| matches!(quote, '"' | '\'')).ok_or("a value in quotes is missing")?;
        let length = rest[1..].find(quote).ok_or("the value's closing quote is missing")?;
        let value = rest[1..=length].into();
        self.at += length + 2;
        self.blanks();
        Ok(value)
    }
}

/// What labels are made of.
fn of_label(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '/' | '-')
}

fn not(selector: Selector) -> Selector {
    Selector::Not(Box::new(selector))
}

/// In the grammar above, each operand of `&&` and `||` in parentheses if it is made of others.
impl fmt::Display for Selector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |value: &str| if value.contains('"') { format!("'{value}'") } else { format!("\"{value}\"") };
        let joined = |selectors: &[Selector], by: &str| {
            let operands: Vec<String> = selectors.iter().map(operand).collect();
            operands.join(by)
        };
        match self {
            Selector::All => out.write_str("all()"),
            Selector::Has(label) => write!(out, "has({label})"),
            Selector::Equals(label, value) => write!(out, "{label} == {}", quoted(value)),
            Selector::In(label, values) => {
                let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
                write!(out, "{label} in {{{}}}", values.join(", "))
            }
            Selector::Contains(label, value) => write!(out, "{label} contains {}", quoted(value)),
            Selector::StartsWith(label, value) => write!(out, "{label} starts with {}", quoted(value)),
            Selector::EndsWith(label, value) => write!(out, "{label} ends with {}", quoted(value)),
            Selector::Not(selector) => write!(out, "!{}", operand(selector)),
            Selector::And(selectors) if selectors.is_empty() => out.write_str("all()"),
            Selector::Or(selectors) if selectors.is_empty() => out.write_str("!all()"),
            Selector::And(selectors) => out.write_str(&joined(selectors, " && ")),
            Selector::Or(selectors) => out.write_str(&joined(selectors, " || ")),
        }
    }
}

fn operand(selector: &Selector) -> String {
    match selector {
        Selector::And(_) | Selector::Or(_) => format!("({selector})"),
        // `!a == "b"` negates the comparison, as people would read it.
        _ => selector.to_string(),
    }
}

/// Levels of parentheses and negations that are read.
pub const DEPTH_MAX: usize = 100;
const SHOWN_MAX: usize = 200;

#[cfg(test)]
mod tests;
