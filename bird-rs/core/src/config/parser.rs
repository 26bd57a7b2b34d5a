//! The top level of bird.cfg, and the tools every part of the parser uses.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bird_wire::Family;
use ipnet::IpNet;

use super::error::ConfigError;
use super::lexer::{Kind, Place, Source, Token, tokenize};
use super::types::{Config, LogTarget, Policy, ProtocolConfig, TableConfig, TimeFormat, default_table};
use crate::filter::{Filter, Function, Value};

/// What a name stands for.
#[derive(Debug, Clone)]
pub(crate) enum Symbol {
    Constant(Value),
    Function(Arc<Function>),
    Filter(Arc<Filter>),
    Template(Box<ProtocolConfig>),
    Protocol,
    Table,
    /// A variable of the function being parsed, by its slot.
    Variable(usize),
}

pub(crate) struct Parser {
    tokens: Vec<Token>,
    at: usize,
    pub symbols: HashMap<String, Symbol>,
    pub config: Config,
    counters: HashMap<&'static str, u32>,
    /// Variables declared so far in the function being parsed.
    pub slots: usize,
    /// Nesting of blocks and expressions; bounded so that no input exhausts the stack.
    pub depth: usize,
}

type Result<T> = std::result::Result<T, ConfigError>;

/// Deepest nesting of blocks and expressions.
pub(crate) const MAX_DEPTH: usize = 200;

impl Parser {
    pub fn new(source: &Source) -> Result<Self> {
        let tables = Family::ALL.map(|family| TableConfig { name: default_table(family), family });
        let symbols = tables.iter().map(|t| (t.name.to_string(), Symbol::Table)).collect();
        Ok(Self {
            tokens: tokenize(source)?,
            at: 0,
            symbols,
            config: Config { tables: tables.to_vec(), graceful_restart_wait_secs: 240, ..Config::default() },
            counters: HashMap::new(),
            slots: 0,
            depth: 0,
        })
    }

    // --- tokens ---

    pub fn peek(&self) -> &Kind {
        self.peek_at(0)
    }

    pub fn peek_at(&self, ahead: usize) -> &Kind {
        self.tokens.get(self.at + ahead).map_or(&Kind::End, |t| &t.kind)
    }

    pub fn place(&self) -> Place {
        let token = self.tokens.get(self.at).or(self.tokens.last());
        token.map_or(Place { file: Arc::from(""), line: 1, column: 1 }, |t| t.place.clone())
    }

    pub fn next(&mut self) -> Kind {
        let kind = self.peek().clone();
        self.at += 1;
        kind
    }

    pub fn fail<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(ConfigError::new(&self.place(), message.into()))
    }

    pub fn unexpected<T>(&self, expected: &str) -> Result<T> {
        self.fail(format!("syntax error, unexpected {}, expecting {expected}", self.peek()))
    }

    pub fn enter(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { self.fail("nested too deeply") } else { Ok(()) }
    }

    pub fn leave(&mut self) {
        self.depth -= 1;
    }

    /// Whether this keyword stands here.
    pub fn at_word(&self, word: &str) -> bool {
        matches!(self.peek(), Kind::Word(w) if w == word)
    }

    /// Takes these keywords when all of them stand here.
    pub fn words(&mut self, words: &[&str]) -> bool {
        let all =
            words.iter().enumerate().all(|(i, word)| matches!(self.peek_at(i), Kind::Word(w) if w == word));
        if all {
            self.at += words.len();
        }
        all
    }

    pub fn word(&mut self, word: &str) -> bool {
        self.words(&[word])
    }

    pub fn at_punct(&self, punct: &str) -> bool {
        matches!(self.peek(), Kind::Punct(p) if *p == punct)
    }

    pub fn punct(&mut self, punct: &str) -> bool {
        let here = self.at_punct(punct);
        if here {
            self.at += 1;
        }
        here
    }

    pub fn expect(&mut self, punct: &str) -> Result<()> {
        if self.punct(punct) { Ok(()) } else { self.unexpected(&format!("`{punct}`")) }
    }

    // --- values ---

    /// A name, bare or in single quotes.
    pub fn name(&mut self) -> Result<String> {
        match self.peek().clone() {
            Kind::Word(name) | Kind::Quoted(name) => {
                self.at += 1;
                Ok(name)
            }
            _ => self.unexpected("a name"),
        }
    }

    pub fn text(&mut self) -> Result<String> {
        match self.peek().clone() {
            Kind::Text(text) => {
                self.at += 1;
                Ok(text)
            }
            Kind::Word(name) | Kind::Quoted(name) => match self.symbols.get(&name) {
                Some(Symbol::Constant(Value::Text(text))) => {
                    let text = text.to_string();
                    self.at += 1;
                    Ok(text)
                }
                _ => self.unexpected("a string"),
            },
            _ => self.unexpected("a string"),
        }
    }

    /// A constant expression: a literal, the name of a constant, or an expression in parentheses.
    pub fn constant(&mut self) -> Result<Value> {
        let place = self.place();
        let expr = self.primary()?;
        crate::filter::evaluate_constant(&expr).map_err(|message| ConfigError::new(&place, message))
    }

    pub fn number(&mut self) -> Result<u32> {
        let place = self.place();
        match self.peek() {
            Kind::Number(_) | Kind::Word(_) | Kind::Quoted(_) | Kind::Punct("(") => {}
            _ => return self.unexpected("a number"),
        }
        match self.constant()? {
            Value::Int(n) => Ok(n),
            _ => Err(ConfigError::new(&place, "a number is expected".into())),
        }
    }

    pub fn number_in(&mut self, low: u32, high: u32, what: &str) -> Result<u32> {
        let place = self.place();
        let n = self.number()?;
        if (low..=high).contains(&n) {
            Ok(n)
        } else {
            Err(ConfigError::new(&place, format!("{what} must be in range {low}-{high}")))
        }
    }

    pub fn port(&mut self) -> Result<u16> {
        Ok(u16::try_from(self.number_in(1, 65535, "Port number")?).unwrap_or(u16::MAX))
    }

    pub fn seconds16(&mut self, low: u32, what: &str) -> Result<u16> {
        Ok(u16::try_from(self.number_in(low, 65535, what)?).unwrap_or(u16::MAX))
    }

    pub fn address(&mut self) -> Result<IpAddr> {
        let place = self.place();
        match self.peek().clone() {
            Kind::Address(address) => {
                self.at += 1;
                Ok(address)
            }
            Kind::Word(_) | Kind::Quoted(_) => match self.constant()? {
                Value::Ip(address) => Ok(address),
                _ => Err(ConfigError::new(&place, "an IP address is expected".into())),
            },
            _ => self.unexpected("an IP address"),
        }
    }

    /// A router id: an IPv4 address or a number.
    pub fn router_id(&mut self) -> Result<Ipv4Addr> {
        match self.peek().clone() {
            Kind::Address(IpAddr::V4(address)) => {
                self.at += 1;
                Ok(address)
            }
            Kind::Number(_) => Ok(Ipv4Addr::from(self.number()?)),
            _ => self.unexpected("a router id"),
        }
    }

    pub fn prefix(&mut self) -> Result<IpNet> {
        let place = self.place();
        if let Kind::Word(_) | Kind::Quoted(_) = self.peek() {
            return match self.constant()? {
                Value::Net(net) => Ok(net),
                _ => Err(ConfigError::new(&place, "a prefix is expected".into())),
            };
        }
        let address = self.address()?;
        self.expect("/")?;
        let len = match self.next() {
            Kind::Number(n) => u8::try_from(n).ok(),
            _ => None,
        };
        let net = len.and_then(|len| IpNet::new(address, len).ok());
        match net {
            Some(net) if net.trunc() == net => Ok(net),
            Some(net) => Err(ConfigError::new(
                &place,
                format!("Invalid prefix {net}, maybe you wanted {}", net.trunc()),
            )),
            None => Err(ConfigError::new(&place, "Invalid prefix length".into())),
        }
    }

    /// `on`, `off` and their like; nothing means on.
    pub fn switch(&mut self) -> Result<bool> {
        for (word, value) in
            [("on", true), ("yes", true), ("true", true), ("off", false), ("no", false), ("false", false)]
        {
            if self.word(word) {
                return Ok(value);
            }
        }
        if self.at_punct(";") || self.at_punct("}") {
            return Ok(true);
        }
        match self.peek() {
            Kind::Number(1) => {
                self.at += 1;
                Ok(true)
            }
            Kind::Number(0) => {
                self.at += 1;
                Ok(false)
            }
            _ => self.unexpected("on or off"),
        }
    }

    pub fn interface_name(&mut self) -> Result<String> {
        match self.peek().clone() {
            Kind::Text(name) | Kind::Word(name) | Kind::Quoted(name) => {
                self.at += 1;
                Ok(name)
            }
            _ => self.unexpected("an interface name"),
        }
    }

    // --- top level ---

    pub fn config(mut self) -> Result<Config> {
        while *self.peek() != Kind::End {
            self.statement()?;
        }
        Ok(self.config)
    }

    fn statement(&mut self) -> Result<()> {
        if self.punct(";") {
            return Ok(());
        }
        if self.word("filter") {
            return self.named_filter();
        }
        if self.word("function") {
            return self.function();
        }
        if self.word("template") {
            return self.protocol(true);
        }
        if self.word("protocol") {
            return self.protocol(false);
        }
        if self.word("define") {
            let name = self.name()?;
            self.expect("=")?;
            let place = self.place();
            let expr = self.expression()?;
            let value = crate::filter::evaluate_constant(&expr).map_err(|m| ConfigError::new(&place, m))?;
            self.define(&place, name, Symbol::Constant(value))?;
        } else if self.words(&["router", "id"]) {
            if self.word("from") {
                return self.fail("router id from an interface is not supported; give the address");
            }
            self.config.router_id = Some(self.router_id()?);
        } else if self.words(&["graceful", "restart", "wait"]) {
            self.config.graceful_restart_wait_secs = self.number()?;
        } else if self.word("timeformat") {
            self.time_format()?;
        } else if self.word("log") {
            self.log()?;
        } else if self.word("debug") || self.word("mrtdump") {
            // Verbosity of what has no protocol: logged anyway.
            self.debug_flags()?;
        } else if self.word("watchdog") {
            let _ = self.word("warning") || self.word("timeout");
            self.number()?;
            let _ = self.word("s") || self.word("ms") || self.word("us");
        } else if self.at_word("ipv4") || self.at_word("ipv6") {
            self.table_statement()?;
        } else if self.words(&["hostname"]) || self.word("eval") {
            self.expression()?;
        } else if self.words(&["protocol"]) {
            return self.unexpected("a protocol type");
        } else {
            return self
                .unexpected("a top-level statement (protocol, template, filter, function, define, …)");
        }
        self.expect(";")
    }

    pub fn define(&mut self, place: &Place, name: String, symbol: Symbol) -> Result<()> {
        if let Some(old) = self.symbols.get(&name)
            && !matches!(old, Symbol::Variable(_))
        {
            return Err(ConfigError::new(place, format!("Symbol {name} already defined")));
        }
        self.symbols.insert(name, symbol);
        Ok(())
    }

    /// A name for a protocol without one: its kind and a number.
    pub fn numbered(&mut self, kind: &'static str) -> String {
        loop {
            let n = self.counters.entry(kind).or_insert(0);
            *n += 1;
            let name = format!("{kind}{n}");
            if !self.symbols.contains_key(&name) {
                return name;
            }
        }
    }

    fn named_filter(&mut self) -> Result<()> {
        let place = self.place();
        let name = self.name()?;
        let filter = Arc::new(self.filter_body(Some(Arc::from(name.as_str())))?);
        self.config.filters.push(filter.clone());
        self.define(&place, name, Symbol::Filter(filter))
    }

    fn table_statement(&mut self) -> Result<()> {
        let family = if self.at_word("ipv4") { Family::Ipv4 } else { Family::Ipv6 };
        self.next();
        if !self.word("table") {
            return self.unexpected("`table`");
        }
        let place = self.place();
        let name = self.name()?;
        if self.config.tables.iter().any(|t| *t.name == *name) {
            return Ok(());
        }
        self.define(&place, name.clone(), Symbol::Table)?;
        self.config.tables.push(TableConfig { name: Arc::from(name), family });
        Ok(())
    }

    /// The table of a name, which must carry the family.
    pub fn table(&mut self, family: Family) -> Result<Arc<str>> {
        let place = self.place();
        let name = self.name()?;
        match self.config.tables.iter().find(|t| *t.name == *name) {
            Some(table) if table.family == family => Ok(table.name.clone()),
            Some(_) => Err(ConfigError::new(&place, format!("Table {name} is not of type {family}"))),
            None => Err(ConfigError::new(&place, format!("Table {name} is not defined"))),
        }
    }

    fn log(&mut self) -> Result<()> {
        let target = if self.word("syslog") {
            if self.word("name") {
                self.text()?;
            }
            LogTarget::Syslog
        } else if self.word("stderr") {
            LogTarget::Stderr
        } else {
            let file = self.text()?;
            if let Kind::Number(_) = self.peek() {
                self.number()?;
                self.text()?;
            }
            LogTarget::File(file)
        };
        // Classes are those of the daemon's own log filter.
        if !self.word("all") {
            self.flags()?;
        }
        self.config.log.push(target);
        Ok(())
    }

    /// `all`, `off` or `{ a, b }`; true unless off.
    pub fn debug_flags(&mut self) -> Result<bool> {
        if self.word("all") {
            return Ok(true);
        }
        if self.word("off") {
            return Ok(false);
        }
        if let Kind::Number(_) = self.peek() {
            return Ok(self.number()? > 0);
        }
        if self.word("protocols") || self.word("tables") || self.word("channels") || self.word("commands") {
            return if self.at_punct(";") { Ok(true) } else { self.debug_flags() };
        }
        self.flags()?;
        Ok(true)
    }

    fn flags(&mut self) -> Result<()> {
        self.expect("{")?;
        loop {
            self.name()?;
            if !self.punct(",") {
                return self.expect("}");
            }
        }
    }

    fn time_format(&mut self) -> Result<()> {
        let which = self.name()?;
        let format = if self.word("iso") {
            let long = if self.word("long") {
                true
            } else if self.word("short") {
                false
            } else {
                return self.unexpected("`short` or `long`");
            };
            let fraction = if self.word("ms") {
                ".%3f"
            } else if self.word("us") {
                ".%6f"
            } else {
                ""
            };
            if long { TimeFormat::iso_long(fraction) } else { TimeFormat::iso_short(fraction) }
        } else {
            let pattern = self.text()?;
            let limit = if let Kind::Number(_) = self.peek() {
                Some((u64::from(self.number()?), self.text()?))
            } else {
                None
            };
            TimeFormat { pattern, limit }
        };
        match which.as_str() {
            "base" => self.config.time.base = format,
            "protocol" => self.config.time.protocol = format,
            "route" => self.config.time.route = format,
            "log" => {}
            _ => {
                return self.fail(format!("timeformat of `{which}`: expecting base, protocol, route or log"));
            }
        }
        Ok(())
    }

    /// What follows `import` or `export`.
    pub fn policy(&mut self) -> Result<Policy> {
        if self.word("all") {
            return Ok(Policy::All);
        }
        if self.word("none") {
            return Ok(Policy::None);
        }
        if self.word("where") {
            return Ok(Policy::Filter(Arc::new(self.where_filter()?)));
        }
        if self.word("filter") {
            if let Kind::Word(_) | Kind::Quoted(_) = self.peek() {
                let place = self.place();
                let name = self.name()?;
                if let Some(Symbol::Filter(filter)) = self.symbols.get(&name) {
                    return Ok(Policy::Filter(filter.clone()));
                }
                // A filter without braces may start with a declaration or statement, but confd never writes one.
                return Err(ConfigError::new(&place, format!("No such filter {name}")));
            }
            return Ok(Policy::Filter(Arc::new(self.filter_body(None)?)));
        }
        self.unexpected("all, none, where or filter")
    }
}
