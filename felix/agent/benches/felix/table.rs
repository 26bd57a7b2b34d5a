//! Figures as a table: ours, the peer's, ours as a part of the peer's, and what is aimed at.

use std::fmt;
use std::time::Duration;

use super::felix::Program;

/// What was measured.
#[derive(Clone, Debug)]
pub enum Value {
    Time(Duration),
    Bytes(u64),
    Count(u64),
    /// Why there is none.
    Failed(String),
}

impl Value {
    fn number(&self) -> Option<f64> {
        match self {
            Self::Time(t) => Some(t.as_secs_f64()),
            Self::Bytes(n) | Self::Count(n) => Some(*n as f64),
            Self::Failed(_) => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Time(t) if *t >= Duration::from_secs(1) => format!("{:.2} s", t.as_secs_f64()),
            Self::Time(t) => format!("{:.2} ms", t.as_secs_f64() * 1e3),
            Self::Bytes(n) => format!("{:.1} MiB", *n as f64 / f64::from(1 << 20)),
            Self::Count(n) => n.to_string(),
            Self::Failed(_) => "failed".to_owned(),
        };
        f.pad(&text)
    }
}

/// What is aimed at.
#[derive(Clone, Debug)]
pub enum Aim {
    None,
    AtMost(Value),
    /// At most this part of the peer's.
    PartOfPeer(f64),
}

impl Aim {
    fn text(&self, ours: Option<&Value>, part: Option<f64>) -> String {
        let (text, met) = match self {
            Self::None => return String::new(),
            Self::AtMost(limit) => {
                let met = ours.and_then(Value::number).zip(limit.number()).map(|(o, l)| o <= l);
                (format!("{limit}"), met)
            }
            Self::PartOfPeer(limit) => (format!("{limit:.2} of it"), part.map(|p| p <= *limit)),
        };
        let met = met.map_or("", |m| if m { "  met" } else { "  missed" });
        format!("{text}{met}")
    }
}

/// One figure of one program.
#[derive(Clone, Debug)]
pub struct Figure {
    pub what: &'static str,
    pub value: Value,
    pub aim: Aim,
}

impl Figure {
    pub fn new(what: &'static str, value: Value, aim: Aim) -> Self {
        Self { what, value, aim }
    }
}

#[derive(Debug)]
struct Row {
    part: String,
    what: &'static str,
    ours: Option<Value>,
    peers: Option<Value>,
    aim: Aim,
}

/// All figures, in the order in which they were measured first.
#[derive(Debug, Default)]
pub struct Table(Vec<Row>);

impl Table {
    /// Takes a figure, and prints it: a run that is cut short has shown what it had.
    pub fn add(&mut self, part: &str, program: &Program, figure: Figure) {
        eprintln!("  {:<46} {:>12}", figure.what, figure.value);
        if let Value::Failed(why) = &figure.value {
            eprintln!("  {why}");
        }
        let at = self.0.iter().position(|r| r.part == part && r.what == figure.what).unwrap_or_else(|| {
            let Figure { what, aim, .. } = figure.clone();
            self.0.push(Row { part: part.to_owned(), what, ours: None, peers: None, aim });
            self.0.len() - 1
        });
        if let Some(row) = self.0.get_mut(at) {
            *(if program.is_ours() { &mut row.ours } else { &mut row.peers }) = Some(figure.value);
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<68} {:>11} {:>11} {:>7}  aim", "figure", "ours", "upstream", "ratio")?;
        for row in &self.0 {
            let text = |v: &Option<Value>| v.as_ref().map_or("-".to_owned(), Value::to_string);
            let number = |v: &Option<Value>| v.as_ref().and_then(Value::number);
            let part =
                number(&row.ours).zip(number(&row.peers)).filter(|(_, p)| *p > 0.0).map(|(o, p)| o / p);
            writeln!(
                f,
                "{:<68} {:>11} {:>11} {:>7}  {}",
                format!("{:<20} {}", row.part, row.what),
                text(&row.ours),
                text(&row.peers),
                part.map_or("-".to_owned(), |p| format!("{p:.3}")),
                row.aim.text(row.ours.as_ref(), part)
            )?;
        }
        write!(f, "ratio: ours as a part of upstream's")
    }
}

/// Says so where other work is going on. True where it did.
pub fn warn_of_load() -> bool {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let busy = load > 0.5 * cores as f64;
    if busy {
        println!(
            "WARNING: load average {load} on {cores} processors: other work is going on, figures mean little"
        );
    }
    busy
}
