//! Parsing of sets, prefix patterns, communities with wildcards, and AS-path masks.

use std::sync::Arc;

use bird_wire::LargeCommunity;

use super::ast::Expr;
use super::set::{MaskItem, PrefixPattern, Set};
use super::value::Value;
use crate::config::{ConfigError, Kind, Parser};

type Result<T> = std::result::Result<T, ConfigError>;

impl Parser {
    /// Items up to a closing token, which is left in place.
    pub(super) fn set_items(&mut self, close: &str) -> Result<Set> {
        let mut set = Set::Empty;
        while !self.at_punct(close) {
            if set != Set::Empty {
                self.expect(",")?;
            }
            let place = self.place();
            let item = self.set_item()?;
            set = join(set, item)
                .ok_or_else(|| ConfigError::new(&place, "Sets must have elements of one type".into()))?;
        }
        Ok(set)
    }

    fn set_item(&mut self) -> Result<Set> {
        if let (Kind::Address(_), Kind::Punct("/")) = (self.peek(), self.peek_at(1)) {
            let base = self.prefix()?;
            return self.prefix_pattern(base).map(|p| Set::Prefix(vec![p]));
        }
        if self.at_punct("(")
            && let Some(set) = self.community_pattern()?
        {
            return Ok(set);
        }
        let place = self.place();
        let low = self.constant()?;
        if let Value::Net(base) = low {
            return self.prefix_pattern(base).map(|p| Set::Prefix(vec![p]));
        }
        if let Value::Set(set) = &low {
            return Ok((**set).clone());
        }
        let high = if self.punct("..") { self.constant()? } else { low.clone() };
        let set = match (low, high) {
            (Value::Int(a), Value::Int(b)) => Set::Int(vec![(a, b)]),
            (Value::Ip(a), Value::Ip(b)) => Set::Ip(vec![(a, b)]),
            (Value::Pair(a), Value::Pair(b)) if a == b => {
                Set::Pair(vec![((a >> 16, a >> 16), (a & 0xffff, a & 0xffff))])
            }
            (Value::Lc(LargeCommunity(a, b, c)), Value::Lc(_)) => Set::Lc(vec![[(a, a), (b, b), (c, c)]]),
            (Value::Enum(k, a), Value::Enum(l, b)) if k == l => Set::Enum(k, vec![(a, b)]),
            _ => return Err(ConfigError::new(&place, "this cannot be an element of a set".into())),
        };
        Ok(set)
    }

    fn prefix_pattern(&mut self, base: ipnet::IpNet) -> Result<PrefixPattern> {
        let (len, max) = (base.prefix_len(), base.max_prefix_len());
        let (mut low, mut high) = (len, len);
        if self.punct("+") {
            high = max;
        } else if self.punct("-") {
            low = 0;
        } else if self.punct("{") {
            low = u8::try_from(self.number_in(0, u32::from(max), "Prefix length")?).unwrap_or(max);
            self.expect(",")?;
            high =
                u8::try_from(self.number_in(u32::from(low), u32::from(max), "Prefix length")?).unwrap_or(max);
            self.expect("}")?;
        }
        Ok(PrefixPattern { base, low, high })
    }

    /// `(a, b)` or `(a, b, c)` where each part is a number, a range or `*`; `None` for a mere parenthesis.
    fn community_pattern(&mut self) -> Result<Option<Set>> {
        if !matches!(self.peek_at(2), Kind::Punct("," | "..")) {
            return Ok(None);
        }
        self.expect("(")?;
        let mut parts = vec![self.community_part()?];
        while self.punct(",") {
            parts.push(self.community_part()?);
        }
        self.expect(")")?;
        match *parts.as_slice() {
            [a, b] => Ok(Some(Set::Pair(vec![(a, b)]))),
            [a, b, c] => Ok(Some(Set::Lc(vec![[a, b, c]]))),
            _ => self.fail("a community has two or three parts"),
        }
    }

    fn community_part(&mut self) -> Result<(u32, u32)> {
        if self.punct("*") {
            return Ok((0, u32::MAX));
        }
        let low = self.number()?;
        let high = if self.punct("..") { self.number()? } else { low };
        Ok((low, high))
    }

    pub(super) fn path_mask(&mut self) -> Result<Expr> {
        self.expect("[=")?;
        let mut items = Vec::new();
        while !self.punct("=]") {
            if self.punct("*") {
                items.push(MaskItem::Any);
            } else if self.punct("?") {
                items.push(MaskItem::One);
            } else if self.punct("+") {
                match items.pop() {
                    Some(item) => items.push(MaskItem::Repeat(Box::new(item))),
                    None => return self.fail("`+` needs something before it"),
                }
            } else if self.punct("[") {
                let set = self.set_items("]")?;
                self.expect("]")?;
                match set {
                    Set::Int(ranges) => items.push(MaskItem::Set(ranges)),
                    _ => return self.fail("AS numbers are expected"),
                }
            } else {
                let low = self.number()?;
                let high = if self.punct("..") { self.number()? } else { low };
                items.push(MaskItem::As(low, high));
            }
        }
        Ok(Expr::Const(Value::Mask(Arc::from(items))))
    }
}

/// The union of two sets of one type.
fn join(a: Set, b: Set) -> Option<Set> {
    Some(match (a, b) {
        (Set::Empty, b) => b,
        (a, Set::Empty) => a,
        (Set::Int(mut a), Set::Int(b)) => {
            a.extend(b);
            Set::Int(a)
        }
        (Set::Pair(mut a), Set::Pair(b)) => {
            a.extend(b);
            Set::Pair(a)
        }
        (Set::Lc(mut a), Set::Lc(b)) => {
            a.extend(b);
            Set::Lc(a)
        }
        (Set::Ip(mut a), Set::Ip(b)) => {
            a.extend(b);
            Set::Ip(a)
        }
        (Set::Prefix(mut a), Set::Prefix(b)) => {
            a.extend(b);
            Set::Prefix(a)
        }
        (Set::Enum(k, mut a), Set::Enum(l, b)) if k == l => {
            a.extend(b);
            Set::Enum(k, a)
        }
        _ => return None,
    })
}
