//! Log lines in upstream's form: `2026-11-21 07:25:46.123 [INFO][4242] felix/calc.rs 99: Message field=value`.
//!
//! In comes a component's name and a severity by upstream's names; out goes a handle that changes the severity later
//! (Felix's `LogSeverityScreen` may come from the datastore). Left out: log files and their rotation, which the
//! supervisor or the container runtime does.

use std::fmt;
use std::str::FromStr;

use chrono::Utc;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

/// How much is logged. Parsed from upstream's words in any case: `Trace`, `Debug`, `Info`, `Warning` (`Warn`),
/// `Error`, `Fatal` (`Critical`, `Panic`), `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Severity {
    Trace,
    Debug,
    #[default]
    Info,
    Warning,
    Error,
    /// Only what ends the process. Such lines are errors here too: the process reports them on its way out.
    Fatal,
    None,
}

/// A word that is no severity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("log severity {0:?} is not one of Trace, Debug, Info, Warning, Error, Fatal, None")]
pub struct SeverityError(pub String);

impl FromStr for Severity {
    type Err = SeverityError;

    fn from_str(s: &str) -> Result<Self, SeverityError> {
        Ok(match s.to_ascii_lowercase().as_str() {
            "trace" => Self::Trace,
            "debug" => Self::Debug,
            "info" => Self::Info,
            "warn" | "warning" => Self::Warning,
            "error" => Self::Error,
            "fatal" | "critical" | "panic" => Self::Fatal,
            "none" | "" => Self::None,
            _ => return Err(SeverityError(s.to_owned())),
        })
    }
}

impl From<Severity> for LevelFilter {
    fn from(s: Severity) -> Self {
        match s {
            Severity::Trace => Self::TRACE,
            Severity::Debug => Self::DEBUG,
            Severity::Info => Self::INFO,
            Severity::Warning => Self::WARN,
            Severity::Error | Severity::Fatal => Self::ERROR,
            Severity::None => Self::OFF,
        }
    }
}

/// Changes the severity of a running process.
#[derive(Clone, Debug)]
pub struct LogHandle {
    level: reload::Handle<LevelFilter, Registry>,
}

impl LogHandle {
    /// From now on nothing less severe is logged.
    pub fn set_severity(&self, severity: Severity) {
        if let Err(e) = self.level.reload(severity) {
            tracing::warn!(error = %e, "could not change the log severity");
        }
    }
}

/// Starts logging to standard error. A second call in one process keeps the first one's output (tests do that).
pub fn init_logging(component: &'static str, severity: Severity) -> LogHandle {
    init_logging_to(component, severity, BoxMakeWriter::new(std::io::stderr))
}

/// Starts logging to a writer, for example a file: `BoxMakeWriter::new(Mutex::new(file))`.
pub fn init_logging_to(component: &'static str, severity: Severity, writer: BoxMakeWriter) -> LogHandle {
    let (filter, level) = reload::Layer::new(LevelFilter::from(severity));
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(writer)
        .event_format(Line { component, pid: std::process::id() });
    // An error says that a subscriber is already set; the first one stays.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init();
    LogHandle { level }
}

/// Upstream's line.
struct Line {
    component: &'static str,
    pid: u32,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let meta = event.metadata();
        let level = match *meta.level() {
            Level::TRACE => "TRACE",
            Level::DEBUG => "DEBUG",
            Level::INFO => "INFO",
            Level::WARN => "WARNING",
            Level::ERROR => "ERROR",
        };
        let file = meta.file().unwrap_or_else(|| meta.target());
        let file = file.rsplit('/').next().unwrap_or(file);
        write!(
            writer,
            "{} [{level}][{}] {}/{file} {}: ",
            Utc::now().format("%Y-%m-%d %H:%M:%S%.3f"),
            self.pid,
            self.component,
            meta.line().unwrap_or_default()
        )?;
        ctx.field_format().format_fields(writer.by_ref(), event)?;
        for span in ctx.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>().filter(|f| !f.is_empty()) {
                write!(writer, " {fields}")?;
            }
        }
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_has_upstreams_form_and_the_severity_can_change() {
        let buffer = Buffer::default();
        let sink = buffer.clone();
        let handle = init_logging_to("test", Severity::Info, BoxMakeWriter::new(move || sink.clone()));
        tracing::debug!("too little to be said");
        tracing::info_span!("work", peer = "a").in_scope(|| tracing::info!(count = 3, "Done"));
        handle.set_severity(Severity::Debug);
        tracing::debug!("said now");
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        // Logging is the whole process's: tests beside this one say something too.
        let lines: Vec<&str> = text.lines().filter(|l| l.contains(" test/logging.rs ")).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains("[INFO]["), "{text}");
        assert!(lines[0].ends_with("Done count=3 peer=\"a\""), "{text}");
        assert!(lines[1].contains("[DEBUG]["), "{text}");
    }

    #[test]
    fn severities_are_read_by_upstreams_names() {
        assert_eq!("WARNING".parse(), Ok(Severity::Warning));
        assert_eq!("critical".parse(), Ok(Severity::Fatal));
        assert!("loud".parse::<Severity>().is_err());
    }
}
