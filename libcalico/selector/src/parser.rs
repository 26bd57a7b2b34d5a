//! From text to tree, without recursion: open groups stand on a list of their own, so that no input can
//! exhaust the call stack. `&&` binds tighter than `||`; an odd number of `!` negates, an even number vanishes.

use crate::ast::Node;
use crate::lexer::{Joint, Lexer, Operand, Operator};

/// Deepest tree that is taken. A selector of 1,024 characters, the API's limit, cannot be deeper than 350.
pub const MAX_DEPTH: usize = 400;

/// Text that is not a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid selector at offset {offset}: {reason} before {near:?} ({hint})")]
pub struct ParseError {
    /// Where it went wrong, in bytes from the beginning.
    pub offset: usize,
    /// What is wrong there.
    pub reason: &'static str,
    /// What would be right.
    pub hint: &'static str,
    /// The text from there on, cut.
    pub near: String,
}

impl ParseError {
    pub(crate) fn new(text: &str, offset: usize, reason: &'static str, hint: &'static str) -> Self {
        let near = text.get(offset..).unwrap_or_default().chars().take(24).collect();
        Self { offset, reason, hint, near }
    }
}

/// A tree and how deep it is.
struct Sized {
    node: Node,
    depth: usize,
}

/// A group whose closing parenthesis has not been seen, or the whole selector.
#[derive(Default)]
struct Group {
    /// The group as a whole is negated.
    negated: bool,
    /// Finished alternatives.
    alternatives: Vec<Sized>,
    /// Operands of the alternative being read.
    operands: Vec<Sized>,
}

impl Group {
    fn end_alternative(&mut self) {
        let operands = std::mem::take(&mut self.operands);
        self.alternatives.extend(join(operands, Node::And));
    }

    fn finish(mut self) -> Option<Sized> {
        self.end_alternative();
        join(self.alternatives, Node::Or).map(|s| negate(s, self.negated))
    }
}

fn join(mut parts: Vec<Sized>, make: fn(Vec<Node>) -> Node) -> Option<Sized> {
    if parts.len() < 2 {
        return parts.pop();
    }
    let depth = 1 + parts.iter().map(|p| p.depth).max().unwrap_or_default();
    Some(Sized { node: make(parts.into_iter().map(|p| p.node).collect()), depth })
}

fn negate(s: Sized, negated: bool) -> Sized {
    if negated { Sized { node: Node::Not(Box::new(s.node)), depth: s.depth + 1 } } else { s }
}

/// Reads a whole selector.
pub fn parse(text: &str) -> Result<Node, ParseError> {
    let mut lexer = Lexer::new(text);
    if lexer.at_end() {
        return Ok(Node::All);
    }
    let mut open: Vec<Group> = Vec::new();
    let mut group = Group::default();
    loop {
        let mut negated = false;
        let mut operand = lexer.operand()?;
        while operand == Operand::Not {
            negated = !negated;
            operand = lexer.operand()?;
        }
        if operand == Operand::Open {
            open.push(std::mem::replace(&mut group, Group { negated, ..Group::default() }));
            continue;
        }
        let node = comparison(&mut lexer, operand)?;
        group.operands.push(negate(Sized { node, depth: 1 }, negated));
        loop {
            match lexer.joint()? {
                Joint::And => break,
                Joint::Or => {
                    group.end_alternative();
                    break;
                }
                Joint::Close => {
                    let Some(outer) = open.pop() else {
                        return Err(lexer.error("unexpected )", "no parenthesis is open here"));
                    };
                    let closed = std::mem::replace(&mut group, outer).finish();
                    if closed.as_ref().is_some_and(|c| c.depth > MAX_DEPTH) {
                        return Err(lexer.error("nested too deeply", "at most 400 levels"));
                    }
                    group.operands.extend(closed);
                }
                Joint::End if open.is_empty() => {
                    return Ok(group.finish().map_or(Node::All, |s| s.node));
                }
                Joint::End => return Err(lexer.error("expected )", "a parenthesis is still open")),
            }
        }
    }
}

fn comparison(lexer: &mut Lexer<'_>, operand: Operand<'_>) -> Result<Node, ParseError> {
    let label = match operand {
        Operand::All => return Ok(Node::All),
        Operand::Global => return Ok(Node::Global),
        Operand::Has(label) => return Ok(Node::Has(label.into())),
        Operand::Label(label) => label,
        Operand::Not | Operand::Open => {
            return Err(lexer.error("unexpected token", "a label, has(…) or all() is expected here"));
        }
    };
    let key = label.into();
    Ok(match lexer.operator()? {
        Operator::Eq => Node::Eq(key, lexer.string()?.into()),
        Operator::Ne => Node::Ne(key, lexer.string()?.into()),
        Operator::Contains => Node::Contains(key, lexer.string()?.into()),
        Operator::StartsWith => Node::StartsWith(key, lexer.string()?.into()),
        Operator::EndsWith => Node::EndsWith(key, lexer.string()?.into()),
        Operator::In => Node::in_set(label, lexer.set()?),
        Operator::NotIn => Node::not_in_set(label, lexer.set()?),
    })
}
