//! Tokens of a selector, read one by one from the text.
//!
//! A word's meaning hangs on where it stands (`in in {"in"}` is a label, an operator and a value), so the parser asks
//! for what may come next: [`Lexer::operand`] or [`Lexer::operator`]. No parser crate is used: the grammar fits a page,
//! errors carry upstream's wording, and nesting must not grow the call stack. White space is blank and tab, as
//! upstream has it; a line break is an error.

use crate::parser::ParseError;

/// Longest label name, in bytes.
pub const MAX_LABEL_LEN: usize = 512;

/// What can begin an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand<'a> {
    Not,
    Open,
    All,
    Global,
    Has(&'a str),
    Label(&'a str),
}

/// What can follow a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Eq,
    Ne,
    In,
    NotIn,
    Contains,
    StartsWith,
    EndsWith,
}

/// What can follow an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joint {
    And,
    Or,
    Close,
    End,
}

/// A place in the text.
pub struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Skips white space; says what stands there.
    fn next_text(&mut self) -> &'a str {
        let rest = self.rest();
        let trimmed = rest.trim_start_matches([' ', '\t']);
        self.at += rest.len() - trimmed.len();
        trimmed
    }

    fn eat(&mut self, word: &str) -> bool {
        let found = self.next_text().starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    /// True at the end of the text.
    pub fn at_end(&mut self) -> bool {
        self.next_text().is_empty()
    }

    pub fn error(&self, reason: &'static str, hint: &'static str) -> ParseError {
        ParseError::new(self.text, self.at, reason, hint)
    }

    fn identifier(&mut self) -> Result<&'a str, ParseError> {
        let rest = self.next_text();
        let len = rest
            .bytes()
            .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'/' | b'-'))
            .count();
        if len == 0 {
            return Err(
                self.error("expected identifier", "a label name has letters, digits and _ . / - only")
            );
        }
        if len > MAX_LABEL_LEN {
            return Err(self.error("label too long", "a label name has at most 512 characters"));
        }
        self.at += len;
        Ok(rest.get(..len).unwrap_or_default())
    }

    /// The beginning of an operand.
    pub fn operand(&mut self) -> Result<Operand<'a>, ParseError> {
        let rest = self.next_text();
        match rest.as_bytes().first() {
            None => {
                return Err(self.error(
                    "unexpected end of the selector",
                    "an expression such as has(label) or label == \"value\" must follow",
                ));
            }
            Some(b'!') if !rest.starts_with("!=") => {
                self.at += 1;
                return Ok(Operand::Not);
            }
            Some(b'(') => {
                self.at += 1;
                return Ok(Operand::Open);
            }
            Some(b')' | b'}' | b'{' | b',' | b'"' | b'\'' | b'=' | b'!' | b'&' | b'|') => {
                return Err(self.error("unexpected token", "a label, has(…), all(), ! or ( is expected here"));
            }
            Some(_) => {}
        }
        if rest.starts_with("has(") {
            self.at += "has(".len();
            let label = self.identifier()?;
            self.close("no closing ')' after has(")?;
            return Ok(Operand::Has(label));
        }
        for (word, operand, reason) in [
            ("all(", Operand::All, "no closing ')' after all("),
            ("global(", Operand::Global, "no closing ')' after global("),
        ] {
            if rest.starts_with(word) {
                self.at += word.len();
                self.close(reason)?;
                return Ok(operand);
            }
        }
        self.identifier().map(Operand::Label)
    }

    fn close(&mut self, reason: &'static str) -> Result<(), ParseError> {
        if self.eat(")") { Ok(()) } else { Err(self.error(reason, "close the parenthesis")) }
    }

    /// The operator after a label.
    pub fn operator(&mut self) -> Result<Operator, ParseError> {
        const HINT: &str = "one of == != in, not in, contains, starts with, ends with";
        let rest = self.next_text();
        match rest.as_bytes().first() {
            None => return Err(self.error("unexpected end of string looking for op", HINT)),
            Some(b'=') if self.eat("==") => return Ok(Operator::Eq),
            Some(b'=') => return Err(self.error("expected ==", "one = is not an operator")),
            Some(b'!') if self.eat("!=") => return Ok(Operator::Ne),
            Some(b'(' | b')' | b'!' | b'&' | b'|' | b',' | b'{' | b'}' | b'"' | b'\'') => {
                return Err(self.error("expected == or != after a label", HINT));
            }
            Some(_) => {}
        }
        let start = self.at;
        for (first, second, operator) in [
            ("contains", "", Operator::Contains),
            ("starts", "with", Operator::StartsWith),
            ("ends", "with", Operator::EndsWith),
            ("not", "in", Operator::NotIn),
            ("in", "", Operator::In),
        ] {
            if self.eat(first) && (second.is_empty() || self.eat(second)) {
                return Ok(operator);
            }
            self.at = start;
        }
        Err(self.error("expected operator after label", HINT))
    }

    /// A literal between quotes.
    pub fn string(&mut self) -> Result<&'a str, ParseError> {
        let rest = self.next_text();
        let Some(quote @ ('"' | '\'')) = rest.chars().next() else {
            return Err(self.error("expected string", "write the value between quotes"));
        };
        let body = rest.get(1..).unwrap_or_default();
        let Some(len) = body.find(quote) else {
            return Err(
                self.error("unterminated string", "the closing quote is missing; there are no escapes")
            );
        };
        self.at += len + 2;
        Ok(body.get(..len).unwrap_or_default())
    }

    /// A set literal. A comma after the last value is allowed.
    pub fn set(&mut self) -> Result<Vec<&'a str>, ParseError> {
        if !self.eat("{") {
            return Err(self.error("expected set literal", "write the values as {\"a\", \"b\"}"));
        }
        let mut values = Vec::new();
        while self.next_text().starts_with(['"', '\'']) {
            values.push(self.string()?);
            if !self.eat(",") {
                break;
            }
        }
        if self.eat("}") {
            Ok(values)
        } else {
            Err(self.error("expected }", "values stand between quotes, separated by commas"))
        }
    }

    /// What follows an operand.
    pub fn joint(&mut self) -> Result<Joint, ParseError> {
        let rest = self.next_text();
        match rest.as_bytes().first() {
            None => Ok(Joint::End),
            Some(b'&') if self.eat("&&") => Ok(Joint::And),
            Some(b'&') => Err(self.error("expected &&", "one & is not an operator")),
            Some(b'|') if self.eat("||") => Ok(Joint::Or),
            Some(b'|') => Err(self.error("expected ||", "one | is not an operator")),
            Some(b')') => {
                self.at += 1;
                Ok(Joint::Close)
            }
            Some(_) => {
                Err(self.error("unexpected content at end of selector", "join expressions with && or ||"))
            }
        }
    }
}
