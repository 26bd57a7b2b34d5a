//! bird.cfg text to tokens, with `include` resolved.
//!
//! In: the text of the main file and of every file it includes ([`Source`]). Out: one flat list of tokens, each
//! with the file, line and column it came from. Written by hand rather than with parser combinators, since every
//! error must name its exact place across included files.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::ConfigError;

/// How deep `include` may nest; BIRD stops at 8 too.
const MAX_INCLUDE_DEPTH: usize = 8;

/// Finds the files an `include` stands for: names with texts, or a message.
pub type Load<'a> = dyn FnMut(&str) -> Result<Vec<(String, String)>, String> + 'a;

/// All text of one configuration: what a parser needs instead of a file system.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Source {
    /// Name of the main file, as errors print it.
    pub name: String,
    /// Its text.
    pub text: String,
    /// For every `include` argument as written: the files it stands for, by name, with their text.
    pub includes: BTreeMap<String, Vec<(String, String)>>,
}

impl Source {
    /// A configuration of one file.
    #[must_use]
    pub fn from_text(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), text: text.to_owned(), includes: BTreeMap::new() }
    }

    /// Reads a main file's text and, through `load`, every file it includes. `load` gets the argument of `include`
    /// as written and returns the matching files.
    ///
    /// # Errors
    /// When the text has an error the lexer sees, or `load` fails (its message becomes the error).
    pub fn gather(name: &str, text: String, load: &mut Load<'_>) -> Result<Self, ConfigError> {
        let mut source = Self { name: name.to_owned(), text, includes: BTreeMap::new() };
        let mut queue = vec![(source.name.clone(), source.text.clone())];
        while let Some((name, text)) = queue.pop() {
            let file: Arc<str> = Arc::from(name.as_str());
            let tokens = Lexer::new(&file, &text).all()?;
            for (argument, at) in include_arguments(&tokens) {
                if source.includes.contains_key(&argument) {
                    continue;
                }
                let files = load(&argument).map_err(|message| ConfigError::new(&at, message))?;
                queue.extend(files.iter().cloned());
                source.includes.insert(argument, files);
            }
        }
        Ok(source)
    }
}

/// A place in a file; equal to every other place, so that moving a line does not make a configuration differ.
#[derive(Debug, Clone)]
pub struct Place {
    /// File name.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

impl PartialEq for Place {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Place {}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A keyword or name.
    Word(String),
    /// A name in single quotes: never a keyword.
    Quoted(String),
    /// A string in double quotes.
    Text(String),
    /// A number, decimal or hexadecimal.
    Number(u64),
    /// An address.
    Address(IpAddr),
    /// Punctuation or an operator.
    Punct(&'static str),
    /// The end of the input.
    End,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(s) => write!(f, "`{s}`"),
            Self::Quoted(s) => write!(f, "name '{s}'"),
            Self::Text(s) => write!(f, "string \"{s}\""),
            Self::Number(n) => write!(f, "number {n}"),
            Self::Address(a) => write!(f, "address {a}"),
            Self::Punct(p) => write!(f, "`{p}`"),
            Self::End => f.write_str("end of file"),
        }
    }
}

/// A token and its place.
#[derive(Debug, Clone)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Where it stands.
    pub place: Place,
}

/// Tokens of a whole configuration, includes in place, ending with [`Kind::End`].
pub(crate) fn tokenize(source: &Source) -> Result<Vec<Token>, ConfigError> {
    let mut out = Vec::new();
    expand(source, &source.name, &source.text, 0, &mut out)?;
    let lines = source.text.lines().count();
    let place = Place {
        file: Arc::from(source.name.as_str()),
        line: u32::try_from(lines).unwrap_or(u32::MAX) + 1,
        column: 1,
    };
    out.push(Token { kind: Kind::End, place });
    Ok(out)
}

fn expand(
    source: &Source,
    name: &str,
    text: &str,
    depth: usize,
    out: &mut Vec<Token>,
) -> Result<(), ConfigError> {
    let file: Arc<str> = Arc::from(name);
    let tokens = Lexer::new(&file, text).all()?;
    let mut rest = tokens.as_slice();
    while let Some((token, after)) = rest.split_first() {
        if let Some((argument, after)) = include_at(rest) {
            if depth >= MAX_INCLUDE_DEPTH {
                return Err(ConfigError::new(&token.place, "include is nested too deeply".into()));
            }
            let files = source.includes.get(argument).ok_or_else(|| {
                ConfigError::new(&token.place, format!("unable to open included file {argument}"))
            })?;
            for (name, text) in files {
                expand(source, name, text, depth + 1, out)?;
            }
            rest = after;
            continue;
        }
        out.push(token.clone());
        rest = after;
    }
    Ok(())
}

/// The argument of an `include "x";` at the start of `tokens`, and what follows it.
fn include_at(tokens: &[Token]) -> Option<(&str, &[Token])> {
    match tokens {
        [word, text, end, rest @ ..] => match (&word.kind, &text.kind, &end.kind) {
            (Kind::Word(w), Kind::Text(argument), Kind::Punct(";")) if w == "include" => {
                Some((argument, rest))
            }
            _ => None,
        },
        _ => None,
    }
}

fn include_arguments(tokens: &[Token]) -> Vec<(String, Place)> {
    (0..tokens.len())
        .filter_map(|i| {
            let rest = tokens.get(i..)?;
            Some((include_at(rest)?.0.to_owned(), rest.first()?.place.clone()))
        })
        .collect()
}

/// Longest first, so that `<=` is not read as `<`.
const PUNCTUATION: &[&str] = &[
    "[=", "=]", "&&", "||", "!=", "!~", "<=", ">=", "..", "::", "{", "}", "(", ")", "[", "]", ";", ",", ".",
    ":", "=", "<", ">", "~", "!", "+", "-", "*", "/", "%", "?",
];

struct Lexer<'a> {
    file: &'a Arc<str>,
    rest: &'a str,
    line: u32,
    column: u32,
}

impl<'a> Lexer<'a> {
    fn new(file: &'a Arc<str>, text: &'a str) -> Self {
        Self { file, rest: text, line: 1, column: 1 }
    }

    fn place(&self) -> Place {
        Place { file: self.file.clone(), line: self.line, column: self.column }
    }

    fn fail(&self, message: &str) -> ConfigError {
        ConfigError::new(&self.place(), message.to_owned())
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        for c in taken.chars() {
            if c == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.rest = rest;
        taken
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !keep(c)).unwrap_or(self.rest.len());
        self.take(end)
    }

    fn all(mut self) -> Result<Vec<Token>, ConfigError> {
        let mut out = Vec::new();
        loop {
            self.skip_blank()?;
            let place = self.place();
            match self.next()? {
                Some(kind) => out.push(Token { kind, place }),
                None => return Ok(out),
            }
        }
    }

    fn skip_blank(&mut self) -> Result<(), ConfigError> {
        loop {
            self.take_while(char::is_whitespace);
            if self.rest.starts_with('#') {
                self.take_while(|c| c != '\n');
            } else if self.rest.starts_with("/*") {
                let end = self.rest.find("*/").ok_or_else(|| self.fail("comment is not closed"))?;
                self.take(end + 2);
            } else {
                return Ok(());
            }
        }
    }

    fn next(&mut self) -> Result<Option<Kind>, ConfigError> {
        let Some(first) = self.rest.chars().next() else {
            return Ok(None);
        };
        if let Some(address) = self.address() {
            return Ok(Some(Kind::Address(address)));
        }
        if first.is_ascii_digit() {
            return self.number().map(|n| Some(Kind::Number(n)));
        }
        if first == '"' || first == '\'' {
            return self.quoted(first).map(Some);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let word = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
            return Ok(Some(Kind::Word(word.to_owned())));
        }
        for &p in PUNCTUATION {
            if self.rest.starts_with(p) {
                self.take(p.len());
                return Ok(Some(Kind::Punct(p)));
            }
        }
        Err(self.fail(&format!("unknown character {first:?}")))
    }

    fn number(&mut self) -> Result<u64, ConfigError> {
        let start = self.place();
        let word = self.take_while(|c| c.is_ascii_alphanumeric());
        let parsed = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => word.parse(),
        };
        parsed.map_err(|_| ConfigError::new(&start, format!("`{word}` is not a number")))
    }

    fn quoted(&mut self, quote: char) -> Result<Kind, ConfigError> {
        let body = self.rest.get(1..).unwrap_or("");
        let end = body.find([quote, '\n']).filter(|&i| body.get(i..).is_some_and(|r| r.starts_with(quote)));
        let end = end.ok_or_else(|| self.fail("unterminated string"))?;
        let text = self.take(end + 2);
        let inner = text.get(1..=end).unwrap_or("").to_owned();
        Ok(if quote == '"' { Kind::Text(inner) } else { Kind::Quoted(inner) })
    }

    /// An address at this place: the longest run of its characters that is one.
    fn address(&mut self) -> Option<IpAddr> {
        let is_part = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let run = self.rest.get(..end)?;
        if run.matches(':').count() >= 2 {
            // A label of `case` may follow without a blank: `fe80::1:` tries again without the colon.
            for candidate in [run, run.trim_end_matches('.'), run.strip_suffix(':').unwrap_or(run)] {
                if let Ok(address) = candidate.parse::<Ipv6Addr>() {
                    self.take(candidate.len());
                    return Some(IpAddr::V6(address));
                }
            }
        }
        let dotted = run.split(':').next().unwrap_or("");
        let dotted = dotted.find("..").map_or(dotted, |i| dotted.get(..i).unwrap_or(dotted));
        // A member may follow: `10.0.0.1.mask(8)`.
        let dotted = dotted.trim_end_matches('.');
        if let Ok(address) = dotted.parse::<Ipv4Addr>() {
            self.take(dotted.len());
            return Some(IpAddr::V4(address));
        }
        None
    }
}
