//! Parsing of filters, functions, statements and expressions.

use std::sync::Arc;

use super::ast::{Arm, Attr, EmptyKind, Expr, Filter, Function, Member, Op, Stmt, Target};
use super::set::Set;
use super::value::Value;
use crate::config::{ConfigError, Kind, Parser, Place, Symbol};

type Result<T> = std::result::Result<T, ConfigError>;

/// Names of types, as declarations use them; `set` may follow most of them.
const TYPES: &[&str] = &[
    "bool", "int", "ip", "prefix", "pair", "quad", "ec", "lc", "string", "bgpmask", "bgppath", "clist",
    "eclist", "lclist", "rd", "enum",
];

impl Parser {
    /// `{ … }` of a filter, with declarations.
    pub(crate) fn filter_body(&mut self, name: Option<Arc<str>>) -> Result<Filter> {
        let (body, slots) = self.scoped(|p| {
            p.declarations()?;
            p.block_of_statements()
        })?;
        Ok(Filter { name, body, slots })
    }

    /// `where expression`.
    pub(crate) fn where_filter(&mut self) -> Result<Filter> {
        let place = self.place();
        let (condition, slots) = self.scoped(Self::expression)?;
        let body = vec![Stmt::If(condition, vec![Stmt::Accept], vec![Stmt::Reject], place)];
        Ok(Filter { name: None, body, slots })
    }

    /// Statements in braces that set attributes of a static route.
    pub(crate) fn static_attributes(&mut self) -> Result<Vec<Stmt>> {
        self.scoped(Self::block_of_statements).map(|(body, _)| body)
    }

    /// Runs a parser with variables of its own; returns also how many there are.
    fn scoped<T>(&mut self, body: impl FnOnce(&mut Self) -> Result<T>) -> Result<(T, usize)> {
        let outer = std::mem::take(&mut self.slots);
        let before: Vec<String> = self.variables();
        let result = body(self);
        for name in self.variables() {
            if !before.contains(&name) {
                self.symbols.remove(&name);
            }
        }
        let slots = std::mem::replace(&mut self.slots, outer);
        Ok((result?, slots))
    }

    fn variables(&self) -> Vec<String> {
        let is_variable = |(_, s): &(&String, &Symbol)| matches!(s, Symbol::Variable(_));
        self.symbols.iter().filter(is_variable).map(|(name, _)| name.clone()).collect()
    }

    fn type_name(&mut self) -> bool {
        let known = TYPES.iter().any(|t| self.at_word(t))
            && matches!(self.peek_at(1), Kind::Word(_) | Kind::Quoted(_));
        if known {
            self.next();
            if self.at_word("set") && matches!(self.peek_at(1), Kind::Word(_) | Kind::Quoted(_)) {
                self.next();
            }
        }
        known
    }

    fn declare(&mut self) -> Result<usize> {
        let place = self.place();
        let name = self.name()?;
        let slot = self.slots;
        self.slots += 1;
        if matches!(self.symbols.get(&name), Some(Symbol::Function(_) | Symbol::Filter(_))) {
            return Err(ConfigError::new(&place, format!("Symbol {name} already defined")));
        }
        self.symbols.insert(name, Symbol::Variable(slot));
        Ok(slot)
    }

    /// `type name; type name;` before the opening brace.
    fn declarations(&mut self) -> Result<()> {
        while self.type_name() {
            self.declare()?;
            self.expect(";")?;
        }
        Ok(())
    }

    pub(crate) fn function(&mut self) -> Result<()> {
        let place = self.place();
        let name = self.name()?;
        let ((arity, body), slots) = self.scoped(|p| {
            p.expect("(")?;
            let mut arity = 0;
            while !p.punct(")") {
                if arity > 0 && !(p.punct(";") || p.punct(",")) {
                    return p.unexpected("`;` or `)`");
                }
                if !p.type_name() {
                    return p.unexpected("a type");
                }
                p.declare()?;
                arity += 1;
            }
            p.declarations()?;
            Ok((arity, p.block_of_statements()?))
        })?;
        let function = Function { name: Arc::from(name.as_str()), arity, slots, body };
        self.define(&place, name, Symbol::Function(Arc::new(function)))
    }

    // --- statements ---

    fn block_of_statements(&mut self) -> Result<Vec<Stmt>> {
        self.expect("{")?;
        self.enter()?;
        let mut out = Vec::new();
        while !self.punct("}") {
            self.statement_into(&mut out)?;
        }
        self.leave();
        Ok(out)
    }

    fn branch(&mut self) -> Result<Vec<Stmt>> {
        if self.at_punct("{") {
            return self.block_of_statements();
        }
        self.enter()?;
        let mut out = Vec::new();
        self.statement_into(&mut out)?;
        self.leave();
        Ok(out)
    }

    fn statement_into(&mut self, out: &mut Vec<Stmt>) -> Result<()> {
        let place = self.place();
        if self.punct(";") {
            return Ok(());
        }
        if self.at_punct("{") {
            out.extend(self.block_of_statements()?);
            return Ok(());
        }
        if self.word("if") {
            out.push(self.if_statement(place)?);
            return Ok(());
        }
        if self.word("case") {
            out.push(self.case_statement(place)?);
            return Ok(());
        }
        if self.type_name() {
            let slot = self.declare()?;
            if self.punct("=") {
                let value = self.expression()?;
                out.push(Stmt::Assign(Target::Variable(slot), value, place));
            }
            return self.expect(";");
        }
        let statement = if self.word("accept") {
            Stmt::Accept
        } else if self.word("reject") {
            Stmt::Reject
        } else if self.word("return") {
            let value = if self.at_punct(";") { None } else { Some(self.expression()?) };
            Stmt::Return(value, place)
        } else if self.word("print") || self.word("printn") {
            let mut parts = Vec::new();
            while !self.at_punct(";") {
                parts.push(self.expression()?);
                if !self.punct(",") {
                    break;
                }
            }
            Stmt::Print(parts, place)
        } else if self.word("unset") {
            self.expect("(")?;
            let attr = self.attribute_name()?;
            self.expect(")")?;
            Stmt::Unset(attr)
        } else {
            self.assignment_or_call(place)?
        };
        out.push(statement);
        self.expect(";")
    }

    fn attribute_name(&mut self) -> Result<Attr> {
        let place = self.place();
        let name = self.name()?;
        Attr::from_name(&name).ok_or_else(|| {
            ConfigError::new(
                &place,
                format!("syntax error, unexpected `{name}`, expecting a route attribute"),
            )
        })
    }

    fn if_statement(&mut self, place: Place) -> Result<Stmt> {
        let condition = self.expression()?;
        if !self.word("then") {
            return self.unexpected("`then`");
        }
        let then = self.branch()?;
        let otherwise = if self.word("else") { self.branch()? } else { Vec::new() };
        Ok(Stmt::If(condition, then, otherwise, place))
    }

    fn case_statement(&mut self, place: Place) -> Result<Stmt> {
        let subject = self.expression()?;
        self.expect("{")?;
        self.enter()?;
        let mut arms = Vec::new();
        let mut otherwise = Vec::new();
        while !self.punct("}") {
            let default = self.words(&["else"]);
            let set = if default { Set::Empty } else { self.set_items(":")? };
            self.expect(":")?;
            let mut body = Vec::new();
            while !self.at_punct("}") && !self.at_label() {
                self.statement_into(&mut body)?;
            }
            if default {
                otherwise = body;
            } else {
                arms.push(Arm { set, body });
            }
        }
        self.leave();
        Ok(Stmt::Case(subject, arms, otherwise, place))
    }

    /// Whether what follows is the label of an arm rather than a statement.
    fn at_label(&self) -> bool {
        match self.peek() {
            Kind::Number(_) | Kind::Address(_) | Kind::Punct("(") => true,
            Kind::Word(w) if w == "else" => true,
            Kind::Word(_) | Kind::Quoted(_) => {
                matches!(self.peek_at(1), Kind::Punct(":" | "," | ".."))
            }
            _ => false,
        }
    }

    fn assignment_or_call(&mut self, place: Place) -> Result<Stmt> {
        let (Kind::Word(name) | Kind::Quoted(name)) = self.peek().clone() else {
            return self.unexpected("a statement");
        };
        let quoted = matches!(self.peek(), Kind::Quoted(_));
        let symbol = self.symbols.get(&name).cloned();
        let target = match symbol {
            Some(Symbol::Variable(slot)) => Some((Target::Variable(slot), Expr::Variable(slot))),
            Some(_) => None,
            None if quoted => None,
            None => Attr::from_name(&name).map(|attr| (Target::Attr(attr), Expr::Attr(attr))),
        };
        let Some((target, current)) = target else {
            let call = self.expression()?;
            if !matches!(call, Expr::Call(..)) {
                return Err(ConfigError::new(
                    &place,
                    format!("syntax error, unexpected `{name}`, expecting a statement"),
                ));
            }
            return Ok(Stmt::Call(call, place));
        };
        self.next();
        if self.punct("=") {
            return Ok(Stmt::Assign(target, self.expression()?, place));
        }
        if self.punct(".") {
            // `bgp_path.prepend(x);` changes the attribute in place.
            let value = self.member_of(current)?;
            return Ok(Stmt::Assign(target, value, place));
        }
        self.unexpected("`=` or `.`")
    }

    // --- expressions ---

    /// An expression: `||` binds least, then `&&`, comparisons, sums, products, `!`.
    pub(crate) fn expression(&mut self) -> Result<Expr> {
        self.enter()?;
        let mut left = self.conjunction()?;
        while self.punct("||") {
            let right = self.conjunction()?;
            left = Expr::Binary(Op::Or, Box::new(left), Box::new(right));
        }
        self.leave();
        Ok(left)
    }

    fn conjunction(&mut self) -> Result<Expr> {
        let mut left = self.comparison()?;
        while self.punct("&&") {
            let right = self.comparison()?;
            left = Expr::Binary(Op::And, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn comparison(&mut self) -> Result<Expr> {
        const OPS: &[(&str, Op)] = &[
            ("=", Op::Eq),
            ("!=", Op::Ne),
            ("<=", Op::Le),
            (">=", Op::Ge),
            ("<", Op::Lt),
            (">", Op::Gt),
            ("~", Op::Match),
            ("!~", Op::NotMatch),
        ];
        let mut left = self.sum()?;
        while let Some((_, op)) = OPS.iter().find(|(p, _)| self.at_punct(p)) {
            self.next();
            let right = self.sum()?;
            left = Expr::Binary(*op, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn sum(&mut self) -> Result<Expr> {
        let mut left = self.product()?;
        loop {
            let op = if self.at_punct("+") {
                Op::Add
            } else if self.at_punct("-") {
                Op::Sub
            } else {
                return Ok(left);
            };
            self.next();
            left = Expr::Binary(op, Box::new(left), Box::new(self.product()?));
        }
    }

    fn product(&mut self) -> Result<Expr> {
        let mut left = self.unary()?;
        loop {
            let op = if self.at_punct("*") {
                Op::Mul
            } else if self.at_punct("/") {
                Op::Div
            } else {
                return Ok(left);
            };
            self.next();
            left = Expr::Binary(op, Box::new(left), Box::new(self.unary()?));
        }
    }

    fn unary(&mut self) -> Result<Expr> {
        if self.punct("!") {
            self.enter()?;
            let inner = self.unary()?;
            self.leave();
            return Ok(Expr::Not(Box::new(inner)));
        }
        self.primary()
    }

    pub(crate) fn primary(&mut self) -> Result<Expr> {
        let mut expr = self.atom()?;
        while self.punct(".") {
            expr = self.member_of(expr)?;
        }
        Ok(expr)
    }

    fn atom(&mut self) -> Result<Expr> {
        match self.peek().clone() {
            Kind::Number(n) => {
                let Ok(n) = u32::try_from(n) else {
                    return self.fail(format!("number {n} is too large"));
                };
                self.next();
                Ok(Expr::Const(Value::Int(n)))
            }
            Kind::Text(text) => {
                self.next();
                Ok(Expr::Const(Value::Text(Arc::from(text))))
            }
            Kind::Address(address) => {
                if let Kind::Punct("/") = self.peek_at(1) {
                    return Ok(Expr::Const(Value::Net(self.prefix()?)));
                }
                self.next();
                Ok(Expr::Const(Value::Ip(address)))
            }
            Kind::Punct("(") => self.parenthesized(),
            Kind::Punct("[") => {
                self.next();
                let set = self.set_items("]")?;
                self.expect("]")?;
                Ok(Expr::Const(Value::Set(Arc::new(set))))
            }
            Kind::Punct("[=") => self.path_mask(),
            Kind::Punct("+" | "-") => self.empty(),
            Kind::Word(_) | Kind::Quoted(_) => self.named(),
            _ => self.unexpected("an expression"),
        }
    }

    fn parenthesized(&mut self) -> Result<Expr> {
        self.expect("(")?;
        let first = self.expression()?;
        if self.punct(")") {
            return Ok(first);
        }
        self.expect(",")?;
        let second = self.expression()?;
        if self.punct(")") {
            return Ok(fold(Expr::Pair(Box::new(first), Box::new(second))));
        }
        self.expect(",")?;
        let third = self.expression()?;
        self.expect(")")?;
        Ok(fold(Expr::Triple(Box::new(first), Box::new(second), Box::new(third))))
    }

    /// `+empty+` and its siblings.
    fn empty(&mut self) -> Result<Expr> {
        const FORMS: &[(&str, EmptyKind)] = &[("+", EmptyKind::Path), ("-", EmptyKind::CList)];
        for &(sign, kind) in FORMS {
            if self.punct(sign) {
                // `--empty--` is lexed sign by sign: two for extended, three for large communities.
                let more = usize::from(self.punct("-")) + usize::from(self.punct("-"));
                self.next();
                for _ in 0..=more {
                    self.expect(sign)?;
                }
                return Ok(Expr::Empty(match more {
                    0 => kind,
                    1 => EmptyKind::EcList,
                    _ => EmptyKind::LcList,
                }));
            }
        }
        self.unexpected("an expression")
    }

    fn named(&mut self) -> Result<Expr> {
        let place = self.place();
        let quoted = matches!(self.peek(), Kind::Quoted(_));
        let name = self.name()?;
        if !quoted {
            match name.as_str() {
                "true" | "on" | "yes" => return Ok(Expr::Const(Value::Bool(true))),
                "false" | "off" | "no" => return Ok(Expr::Const(Value::Bool(false))),
                "defined" => {
                    self.expect("(")?;
                    let inner = self.expression()?;
                    self.expect(")")?;
                    return Ok(Expr::Defined(Box::new(inner)));
                }
                "prepend" | "add" | "delete" | "filter" if self.at_punct("(") => return self.old_form(&name),
                _ => {}
            }
        }
        match self.symbols.get(&name).cloned() {
            Some(Symbol::Constant(value)) => return Ok(Expr::Const(value)),
            Some(Symbol::Variable(slot)) => return Ok(Expr::Variable(slot)),
            Some(Symbol::Function(function)) => return self.call(&place, function),
            _ => {}
        }
        if !quoted {
            if let Some(attr) = Attr::from_name(&name) {
                return Ok(Expr::Attr(attr));
            }
            if let Some(value) = Value::enumeration(&name) {
                return Ok(Expr::Const(value));
            }
        }
        Err(ConfigError::new(
            &place,
            format!("syntax error, undefined name `{name}`, expecting an expression"),
        ))
    }

    /// `prepend(path, as)` and the like.
    fn old_form(&mut self, name: &str) -> Result<Expr> {
        let member = match name {
            "prepend" => Member::Prepend,
            "add" => Member::Add,
            "delete" => Member::Delete,
            _ => Member::Filter,
        };
        self.expect("(")?;
        let subject = self.expression()?;
        self.expect(",")?;
        let argument = self.expression()?;
        self.expect(")")?;
        Ok(Expr::Member(Box::new(subject), member, vec![argument]))
    }

    fn call(&mut self, place: &Place, function: Arc<Function>) -> Result<Expr> {
        let arguments = self.arguments()?;
        if arguments.len() != function.arity {
            let message = format!(
                "Function {} takes {} arguments, {} given",
                function.name,
                function.arity,
                arguments.len()
            );
            return Err(ConfigError::new(place, message));
        }
        Ok(Expr::Call(function, arguments))
    }

    fn arguments(&mut self) -> Result<Vec<Expr>> {
        self.expect("(")?;
        let mut out = Vec::new();
        while !self.punct(")") {
            if !out.is_empty() {
                self.expect(",")?;
            }
            out.push(self.expression()?);
        }
        Ok(out)
    }

    fn member_of(&mut self, subject: Expr) -> Result<Expr> {
        let place = self.place();
        let name = self.name()?;
        let (member, arity) = match name.as_str() {
            "len" => (Member::Len, 0),
            "ip" => (Member::Ip, 0),
            "type" => (Member::Type, 0),
            "first" => (Member::First, 0),
            "last" => (Member::Last, 0),
            "last_nonaggregated" => (Member::LastNonaggregated, 0),
            "asn" => (Member::Asn, 0),
            "data" => (Member::Data, 0),
            "data1" => (Member::Data1, 0),
            "data2" => (Member::Data2, 0),
            "empty" => (Member::Empty, 0),
            "mask" => (Member::Mask, 1),
            "prepend" => (Member::Prepend, 1),
            "add" => (Member::Add, 1),
            "delete" => (Member::Delete, 1),
            "filter" => (Member::Filter, 1),
            _ => return Err(ConfigError::new(&place, format!("syntax error, unknown member `{name}`"))),
        };
        let arguments = if arity == 1 { self.arguments()? } else { Vec::new() };
        if arguments.len() != arity {
            return Err(ConfigError::new(&place, format!("`{name}` takes {arity} argument")));
        }
        Ok(Expr::Member(Box::new(subject), member, arguments))
    }
}

/// A community of constants is a constant itself.
fn fold(expr: Expr) -> Expr {
    match super::evaluate_constant(&expr) {
        Ok(value) => Expr::Const(value),
        Err(_) => expr,
    }
}
