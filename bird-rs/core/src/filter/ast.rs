//! The program of a filter, names resolved.

use std::sync::Arc;

use super::set::Set;
use super::value::Value;
use crate::config::Place;

/// A filter.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// Its name, unless it stands in place.
    pub name: Option<Arc<str>>,
    /// What it does.
    pub body: Vec<Stmt>,
    /// Variables it needs.
    pub slots: usize,
}

/// A function.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// Its name.
    pub name: Arc<str>,
    /// Number of arguments; they are the first variables.
    pub arity: usize,
    /// Variables it needs, arguments included.
    pub slots: usize,
    /// What it does.
    pub body: Vec<Stmt>,
}

/// What of a route a program can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attr {
    Net,
    From,
    Gateway,
    Ifname,
    Ifindex,
    Source,
    Dest,
    Scope,
    Proto,
    Preference,
    IgpMetric,
    KrtMetric,
    KrtSource,
    BgpPath,
    BgpOrigin,
    BgpNextHop,
    BgpMed,
    BgpLocalPref,
    BgpAtomicAggr,
    BgpAggregator,
    BgpCommunity,
    BgpExtCommunity,
    BgpLargeCommunity,
    BgpOriginatorId,
    BgpClusterList,
}

impl Attr {
    /// The attribute of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "net" => Self::Net,
            "from" => Self::From,
            "gw" => Self::Gateway,
            "ifname" => Self::Ifname,
            "ifindex" => Self::Ifindex,
            "source" => Self::Source,
            "dest" => Self::Dest,
            "scope" => Self::Scope,
            "proto" => Self::Proto,
            "preference" => Self::Preference,
            "igp_metric" => Self::IgpMetric,
            "krt_metric" => Self::KrtMetric,
            "krt_source" => Self::KrtSource,
            "bgp_path" => Self::BgpPath,
            "bgp_origin" => Self::BgpOrigin,
            "bgp_next_hop" => Self::BgpNextHop,
            "bgp_med" => Self::BgpMed,
            "bgp_local_pref" => Self::BgpLocalPref,
            "bgp_atomic_aggr" => Self::BgpAtomicAggr,
            "bgp_aggregator" => Self::BgpAggregator,
            "bgp_community" => Self::BgpCommunity,
            "bgp_ext_community" => Self::BgpExtCommunity,
            "bgp_large_community" => Self::BgpLargeCommunity,
            "bgp_originator_id" => Self::BgpOriginatorId,
            "bgp_cluster_list" => Self::BgpClusterList,
            _ => return None,
        })
    }
}

/// Operators on two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Add,
    Sub,
    Mul,
    Div,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Match,
    NotMatch,
    And,
    Or,
}

/// What `x.name` gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member {
    Len,
    Ip,
    Type,
    First,
    Last,
    LastNonaggregated,
    Asn,
    Data,
    Data1,
    Data2,
    Empty,
    Mask,
    Prepend,
    Add,
    Delete,
    Filter,
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// A literal or constant.
    Const(Value),
    /// A variable.
    Variable(usize),
    /// An attribute of the route.
    Attr(Attr),
    /// Whether the value is defined.
    Defined(Box<Expr>),
    /// `!x`.
    Not(Box<Expr>),
    /// `x op y`.
    Binary(Op, Box<Expr>, Box<Expr>),
    /// `x.member` or `x.member(arguments)`.
    Member(Box<Expr>, Member, Vec<Expr>),
    /// `f(arguments)`.
    Call(Arc<Function>, Vec<Expr>),
    /// `(a, b)`.
    Pair(Box<Expr>, Box<Expr>),
    /// `(a, b, c)`.
    Triple(Box<Expr>, Box<Expr>, Box<Expr>),
    /// `+empty+`, `-empty-` and their siblings.
    Empty(EmptyKind),
}

/// What `+empty+` and its like make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmptyKind {
    Path,
    CList,
    EcList,
    LcList,
}

/// What can be assigned to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Variable(usize),
    Attr(Attr),
}

/// Labels of one arm of `case`, and what it does.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    /// Values that choose it.
    pub set: Set,
    /// What it does.
    pub body: Vec<Stmt>,
}

/// A statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Stmt {
    /// `x = e;` with its place for messages.
    Assign(Target, Expr, Place),
    /// `if c then … else …`.
    If(Expr, Vec<Stmt>, Vec<Stmt>, Place),
    /// `case e { … else: … }`.
    Case(Expr, Vec<Arm>, Vec<Stmt>, Place),
    /// An expression for its effect: a call.
    Call(Expr, Place),
    /// `unset(x);`.
    Unset(Attr),
    /// `return e;`.
    Return(Option<Expr>, Place),
    /// `accept;`.
    Accept,
    /// `reject;`.
    Reject,
    /// `print …;`
    Print(Vec<Expr>, Place),
}
