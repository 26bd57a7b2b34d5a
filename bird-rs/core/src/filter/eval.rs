//! Running a program on a route.

use std::net::IpAddr;
use std::sync::Arc;

use bird_wire::{LargeCommunity, NextHop, Origin};
use ipnet::IpNet;

use super::ast::{Attr, EmptyKind, Expr, Filter, Function, Op, Stmt, Target};
use super::value::{EnumKind, Value};
use crate::config::Place;
use crate::rib::{Attrs, Dest, Route};

/// What a filter decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The route passes, as the draft has it now.
    Accept,
    /// The route does not pass.
    Reject,
    /// The program went wrong: the route does not pass. Place and reason.
    Error(String),
}

/// A verdict, and the lines that `print` made.
#[derive(Debug)]
pub struct Outcome {
    /// The decision.
    pub verdict: Verdict,
    /// Printed lines.
    pub printed: Vec<String>,
}

/// A route while a program works on it. Attributes are copied on the first change.
#[derive(Debug)]
pub struct Draft {
    /// The prefix; programs cannot change it.
    pub prefix: IpNet,
    /// The route.
    pub route: Route,
    /// Name of the protocol that the route came from.
    pub proto: Arc<str>,
    changed: Option<Box<Attrs>>,
}

impl Draft {
    /// A draft of a route.
    #[must_use]
    pub fn new(prefix: IpNet, route: Route) -> Self {
        let proto = route.origin.name.clone();
        Self { prefix, route, proto, changed: None }
    }

    /// The attributes as they are now.
    #[must_use]
    pub fn attrs(&self) -> &Attrs {
        self.changed.as_deref().unwrap_or(&self.route.attrs)
    }

    /// The attributes for writing.
    pub fn attrs_mut(&mut self) -> &mut Attrs {
        self.changed.get_or_insert_with(|| Box::new((*self.route.attrs).clone()))
    }

    /// The changed attributes, when there are any.
    pub fn take_changed(&mut self) -> Option<Attrs> {
        self.changed.take().map(|attrs| *attrs)
    }
}

/// Runs a filter. A program that ends without a verdict rejects.
pub fn run(filter: &Filter, draft: &mut Draft) -> Outcome {
    let mut machine = Machine { draft: Some(draft), printed: Vec::new() };
    let mut frame = vec![Value::Void; filter.slots];
    let verdict = match machine.block(&filter.body, &mut frame) {
        Ok(Flow::Accept) => Verdict::Accept,
        Ok(_) => Verdict::Reject,
        Err(message) => Verdict::Error(message),
    };
    Outcome { verdict, printed: machine.printed }
}

/// Runs the statements of a static route on it.
///
/// # Errors
/// What went wrong, with its place.
pub fn apply_statements(body: &[Stmt], draft: &mut Draft) -> Result<()> {
    let mut machine = Machine { draft: Some(draft), printed: Vec::new() };
    machine.block(body, &mut Vec::new()).map(|_| ())
}

/// The value of an expression that names no route.
///
/// # Errors
/// When it does, or when it goes wrong.
pub fn evaluate_constant(expr: &Expr) -> Result<Value> {
    let mut machine = Machine { draft: None, printed: Vec::new() };
    machine.expr(expr, &mut Vec::new())
}

enum Flow {
    Next,
    Accept,
    Reject,
    Return(Value),
}

struct Machine<'a> {
    draft: Option<&'a mut Draft>,
    printed: Vec<String>,
}

type Result<T> = std::result::Result<T, String>;

impl Machine<'_> {
    fn block(&mut self, body: &[Stmt], frame: &mut Vec<Value>) -> Result<Flow> {
        for stmt in body {
            match self.stmt(stmt, frame)? {
                Flow::Next => {}
                flow => return Ok(flow),
            }
        }
        Ok(Flow::Next)
    }

    fn stmt(&mut self, stmt: &Stmt, frame: &mut Vec<Value>) -> Result<Flow> {
        match stmt {
            Stmt::Accept => return Ok(Flow::Accept),
            Stmt::Reject => return Ok(Flow::Reject),
            Stmt::If(condition, then, otherwise, place) => {
                let value = self.expr(condition, frame).map_err(|e| located(e, place))?;
                return match truth(&value) {
                    Some(true) => self.block(then, frame),
                    Some(false) => self.block(otherwise, frame),
                    None => Err(located("If requires boolean expression".into(), place)),
                };
            }
            Stmt::Case(subject, arms, otherwise, place) => {
                let value = self.expr(subject, frame).map_err(|e| located(e, place))?;
                let arm = arms.iter().find(|arm| arm.set.contains(&value) == Some(true));
                return self.block(arm.map_or(otherwise, |arm| &arm.body), frame);
            }
            Stmt::Assign(target, value, place) => {
                let value = self.expr(value, frame).map_err(|e| located(e, place))?;
                match target {
                    Target::Variable(slot) => set_slot(frame, *slot, value),
                    Target::Attr(attr) => self.assign(*attr, value).map_err(|e| located(e, place))?,
                }
            }
            Stmt::Unset(attr) => self.unset(*attr)?,
            Stmt::Return(value, place) => {
                let value = match value {
                    Some(value) => self.expr(value, frame).map_err(|e| located(e, place))?,
                    None => Value::Void,
                };
                return Ok(Flow::Return(value));
            }
            Stmt::Call(Expr::Call(function, arguments), place) => {
                // A verdict within a function ends the whole filter.
                return match self.call(function, arguments, frame).map_err(|e| located(e, place))? {
                    Flow::Return(_) => Ok(Flow::Next),
                    flow => Ok(flow),
                };
            }
            Stmt::Call(expr, place) => {
                self.expr(expr, frame).map_err(|e| located(e, place))?;
            }
            Stmt::Print(parts, place) => {
                let mut line = String::new();
                for part in parts {
                    let value = self.expr(part, frame).map_err(|e| located(e, place))?;
                    line.push_str(&value.to_string());
                }
                self.printed.push(line);
            }
        }
        Ok(Flow::Next)
    }

    fn call(&mut self, function: &Function, arguments: &[Expr], frame: &mut Vec<Value>) -> Result<Flow> {
        let mut inner = vec![Value::Void; function.slots];
        for (slot, argument) in arguments.iter().enumerate() {
            let value = self.expr(argument, frame)?;
            set_slot(&mut inner, slot, value);
        }
        self.block(&function.body, &mut inner)
    }

    fn expr(&mut self, expr: &Expr, frame: &mut Vec<Value>) -> Result<Value> {
        match expr {
            Expr::Const(value) => Ok(value.clone()),
            Expr::Variable(slot) => Ok(frame.get(*slot).cloned().unwrap_or(Value::Void)),
            Expr::Attr(attr) => self.read(*attr),
            Expr::Defined(inner) => {
                // An absent path or list reads as an empty one, yet is not defined.
                let absent = match (&**inner, self.draft.as_deref()) {
                    (Expr::Attr(attr), Some(draft)) => is_absent(*attr, draft.attrs()),
                    _ => false,
                };
                Ok(Value::Bool(!absent && self.expr(inner, frame)? != Value::Void))
            }
            Expr::Not(inner) => {
                let value = self.expr(inner, frame)?;
                truth(&value).map(|b| Value::Bool(!b)).ok_or_else(|| "Negation requires boolean".into())
            }
            Expr::Binary(op, left, right) => self.binary(*op, left, right, frame),
            Expr::Member(subject, member, arguments) => {
                let subject = self.expr(subject, frame)?;
                let argument = match arguments.first() {
                    Some(argument) => self.expr(argument, frame)?,
                    None => Value::Void,
                };
                super::eval_member::member(subject, *member, &argument)
            }
            Expr::Call(function, arguments) => match self.call(function, arguments, frame)? {
                Flow::Return(value) => Ok(value),
                Flow::Next => Ok(Value::Void),
                // BIRD would end the filter here; only a call as a statement can do that.
                Flow::Accept | Flow::Reject => {
                    Err(format!("function {} gives a verdict within an expression", function.name))
                }
            },
            Expr::Pair(a, b) => match (self.expr(a, frame)?, self.expr(b, frame)?) {
                (Value::Int(a), Value::Int(b)) if a <= 0xffff && b <= 0xffff => Ok(Value::Pair(a << 16 | b)),
                _ => Err("a pair takes two numbers up to 65535".into()),
            },
            Expr::Triple(a, b, c) => {
                match (self.expr(a, frame)?, self.expr(b, frame)?, self.expr(c, frame)?) {
                    (Value::Int(a), Value::Int(b), Value::Int(c)) => Ok(Value::Lc(LargeCommunity(a, b, c))),
                    _ => Err("a large community takes three numbers".into()),
                }
            }
            Expr::Empty(kind) => Ok(match kind {
                EmptyKind::Path => Value::Path(Arc::default()),
                EmptyKind::CList => Value::CList(Arc::from([])),
                EmptyKind::EcList => Value::EcList(Arc::from([])),
                EmptyKind::LcList => Value::LcList(Arc::from([])),
            }),
        }
    }

    fn binary(&mut self, op: Op, left: &Expr, right: &Expr, frame: &mut Vec<Value>) -> Result<Value> {
        let a = self.expr(left, frame)?;
        // `&&` and `||` look at the right side only when the left does not settle it.
        if matches!(op, Op::And | Op::Or) {
            let a = truth(&a).ok_or("Boolean expression requires booleans")?;
            if a == (op == Op::Or) {
                return Ok(Value::Bool(a));
            }
            let b = self.expr(right, frame)?;
            return truth(&b).map(Value::Bool).ok_or_else(|| "Boolean expression requires booleans".into());
        }
        let b = self.expr(right, frame)?;
        let types = || format!("incompatible types {} and {}", a.type_name(), b.type_name());
        let arithmetic = |f: fn(u32, u32) -> Option<u32>| match (&a, &b) {
            (Value::Int(x), Value::Int(y)) => {
                f(*x, *y).map(Value::Int).ok_or_else(|| "Can't divide by zero".to_owned())
            }
            _ => Err(types()),
        };
        let order = |wanted: fn(std::cmp::Ordering) -> bool| {
            a.order(&b).map(|o| Value::Bool(wanted(o))).ok_or_else(types)
        };
        match op {
            // Numbers wrap around, as in BIRD.
            Op::Add => arithmetic(|x, y| Some(x.wrapping_add(y))),
            Op::Sub => arithmetic(|x, y| Some(x.wrapping_sub(y))),
            Op::Mul => arithmetic(|x, y| Some(x.wrapping_mul(y))),
            Op::Div => arithmetic(u32::checked_div),
            Op::Eq => a.same(&b).map(Value::Bool).ok_or_else(types),
            Op::Ne => a.same(&b).map(|same| Value::Bool(!same)).ok_or_else(types),
            Op::Lt => order(std::cmp::Ordering::is_lt),
            Op::Le => order(std::cmp::Ordering::is_le),
            Op::Gt => order(std::cmp::Ordering::is_gt),
            Op::Ge => order(std::cmp::Ordering::is_ge),
            Op::Match => a.matches(&b).map(Value::Bool).ok_or_else(types),
            Op::NotMatch => a.matches(&b).map(|m| Value::Bool(!m)).ok_or_else(types),
            Op::And | Op::Or => Err(types()),
        }
    }

    // --- attributes ---

    fn read(&mut self, attr: Attr) -> Result<Value> {
        let draft = self.draft.as_deref().ok_or("no route to look at in a constant")?;
        let hop = draft.route.dest.first_hop();
        let bgp = &draft.attrs().bgp;
        let int = |n: Option<u32>| n.map_or(Value::Void, Value::Int);
        Ok(match attr {
            Attr::Net => Value::Net(draft.prefix),
            Attr::From => draft.route.origin.from.map_or(Value::Void, Value::Ip),
            Attr::Gateway => hop.and_then(|h| h.gateway).map_or(Value::Void, Value::Ip),
            Attr::Ifname => hop.map_or(Value::Text(Arc::from("")), |h| Value::Text(h.iface.name.clone())),
            Attr::Ifindex => Value::Int(hop.map_or(0, |h| h.iface.index)),
            Attr::Source => Value::Enum(EnumKind::Source, draft.route.origin.source.code()),
            Attr::Dest => Value::Enum(EnumKind::Dest, draft.route.dest.code()),
            Attr::Scope => Value::Enum(EnumKind::Scope, 4),
            Attr::Proto => Value::Text(draft.proto.clone()),
            Attr::Preference => Value::Int(draft.route.preference),
            Attr::IgpMetric => Value::Int(draft.route.igp_metric),
            Attr::KrtMetric => int(draft.attrs().krt_metric),
            Attr::KrtSource => int(draft.attrs().krt_source),
            // BIRD gives an empty path and empty lists for routes without them, which is never "not defined".
            Attr::BgpPath => Value::Path(Arc::new(bgp.as_path.clone().unwrap_or_default())),
            Attr::BgpOrigin => bgp.origin.map_or(Value::Void, |o| Value::Enum(EnumKind::Origin, o.code())),
            Attr::BgpNextHop => bgp.next_hop.map_or(Value::Void, |n| Value::Ip(n.global)),
            Attr::BgpMed => int(bgp.med),
            Attr::BgpLocalPref => int(bgp.local_pref),
            Attr::BgpAtomicAggr => {
                if bgp.atomic_aggregate {
                    Value::Bool(true)
                } else {
                    Value::Void
                }
            }
            Attr::BgpAggregator => bgp.aggregator.map_or(Value::Void, |a| Value::Int(a.asn)),
            Attr::BgpCommunity => Value::CList(Arc::from(bgp.communities.as_slice())),
            Attr::BgpExtCommunity => Value::EcList(Arc::from(bgp.ext_communities.as_slice())),
            Attr::BgpLargeCommunity => Value::LcList(Arc::from(bgp.large_communities.as_slice())),
            Attr::BgpOriginatorId => bgp.originator_id.map_or(Value::Void, Value::Quad),
            Attr::BgpClusterList => Value::CList(Arc::from(bgp.cluster_list.as_slice())),
        })
    }

    fn assign(&mut self, attr: Attr, value: Value) -> Result<()> {
        let draft = self.draft.as_deref_mut().ok_or("no route to change in a constant")?;
        match (attr, value) {
            (Attr::Preference, Value::Int(n)) => draft.route.preference = n.min(65535),
            (Attr::IgpMetric, Value::Int(n)) => draft.route.igp_metric = n,
            (Attr::Dest, Value::Enum(EnumKind::Dest, code)) => {
                draft.route.dest = match code {
                    2 => Dest::Blackhole,
                    3 => Dest::Unreachable,
                    4 => Dest::Prohibit,
                    _ => {
                        return Err(
                            "Destination can be changed only to blackhole, unreachable or prohibit".into()
                        );
                    }
                };
                draft.route.via = None;
            }
            (Attr::KrtMetric, Value::Int(n)) => draft.attrs_mut().krt_metric = Some(n),
            (Attr::BgpMed, Value::Int(n)) => draft.attrs_mut().bgp.med = Some(n),
            (Attr::BgpLocalPref, Value::Int(n)) => draft.attrs_mut().bgp.local_pref = Some(n),
            (Attr::BgpOrigin, Value::Enum(EnumKind::Origin, code)) => {
                draft.attrs_mut().bgp.origin = Origin::from_code(code);
            }
            (Attr::BgpNextHop, Value::Ip(address)) => {
                draft.attrs_mut().bgp.next_hop = Some(NextHop::from(address));
            }
            (Attr::BgpPath, Value::Path(path)) => draft.attrs_mut().bgp.as_path = Some((*path).clone()),
            (Attr::BgpCommunity, Value::CList(list)) => draft.attrs_mut().bgp.communities = list.to_vec(),
            (Attr::BgpExtCommunity, Value::EcList(list)) => {
                draft.attrs_mut().bgp.ext_communities = list.to_vec();
            }
            (Attr::BgpLargeCommunity, Value::LcList(list)) => {
                draft.attrs_mut().bgp.large_communities = list.to_vec();
            }
            (Attr::BgpOriginatorId, Value::Quad(id) | Value::Ip(IpAddr::V4(id))) => {
                draft.attrs_mut().bgp.originator_id = Some(id);
            }
            (Attr::BgpClusterList, Value::CList(list)) => draft.attrs_mut().bgp.cluster_list = list.to_vec(),
            (attr, value) => return Err(format!("{attr:?} cannot be set to a {}", value.type_name())),
        }
        Ok(())
    }

    fn unset(&mut self, attr: Attr) -> Result<()> {
        let draft = self.draft.as_deref_mut().ok_or("no route to change in a constant")?;
        let attrs = draft.attrs_mut();
        match attr {
            Attr::KrtMetric => attrs.krt_metric = None,
            Attr::BgpMed => attrs.bgp.med = None,
            Attr::BgpLocalPref => attrs.bgp.local_pref = None,
            Attr::BgpOrigin => attrs.bgp.origin = None,
            Attr::BgpPath => attrs.bgp.as_path = None,
            Attr::BgpNextHop => attrs.bgp.next_hop = None,
            Attr::BgpAtomicAggr => attrs.bgp.atomic_aggregate = false,
            Attr::BgpAggregator => attrs.bgp.aggregator = None,
            Attr::BgpCommunity => attrs.bgp.communities.clear(),
            Attr::BgpExtCommunity => attrs.bgp.ext_communities.clear(),
            Attr::BgpLargeCommunity => attrs.bgp.large_communities.clear(),
            Attr::BgpOriginatorId => attrs.bgp.originator_id = None,
            Attr::BgpClusterList => attrs.bgp.cluster_list.clear(),
            other => return Err(format!("{other:?} cannot be unset")),
        }
        Ok(())
    }
}

fn is_absent(attr: Attr, attrs: &Attrs) -> bool {
    match attr {
        Attr::BgpPath => attrs.bgp.as_path.is_none(),
        Attr::BgpCommunity => attrs.bgp.communities.is_empty(),
        Attr::BgpExtCommunity => attrs.bgp.ext_communities.is_empty(),
        Attr::BgpLargeCommunity => attrs.bgp.large_communities.is_empty(),
        Attr::BgpClusterList => attrs.bgp.cluster_list.is_empty(),
        _ => false,
    }
}

fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(b) => Some(*b),
        _ => None,
    }
}

fn set_slot(frame: &mut Vec<Value>, slot: usize, value: Value) {
    if frame.len() <= slot {
        frame.resize(slot + 1, Value::Void);
    }
    if let Some(place) = frame.get_mut(slot) {
        *place = value;
    }
}

fn located(message: String, place: &Place) -> String {
    // The innermost place is the one that helps.
    if message.contains(", line ") {
        message
    } else {
        format!("{}, line {}: {message}", place.file, place.line)
    }
}
