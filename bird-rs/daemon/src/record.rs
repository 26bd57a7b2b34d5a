//! Recording of input events, and their replay.
//!
//! A recording is one JSON object a line: first the configuration and options, then every event with its time. The
//! engine is a function of these, so a replay makes the same actions.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use bird_core::config::{Source, parse};
use bird_core::{Engine, Event, Options, Time};

/// Writes events as they happen. An error of the file stops the recording, never the daemon.
pub(crate) struct Recorder {
    out: Option<BufWriter<File>>,
}

impl Recorder {
    /// Starts a recording with what the engine begins from; without a path it records nothing.
    pub fn start(path: Option<&Path>, source: &Source, options: &Options, now: Time) -> Result<Self> {
        let Some(path) = path else { return Ok(Self { out: None }) };
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut out = BufWriter::new(file);
        let header = serde_json::json!({
            "source": source,
            "recover": options.recover,
            "utc_offset_secs": options.utc_offset_secs,
            "hostname": options.hostname,
            "now": now,
        });
        writeln!(out, "{header}")?;
        Ok(Self { out: Some(out) })
    }

    pub fn write(&mut self, now: Time, event: &Event) {
        let Some(out) = &mut self.out else { return };
        let result = serde_json::to_writer(&mut *out, &(now, event))
            .map_err(io::Error::from)
            .and_then(|()| out.write_all(b"\n"))
            .and_then(|()| out.flush());
        if let Err(error) = result {
            tracing::error!(%error, "recording stopped");
            self.out = None;
        }
    }
}

/// Feeds a recording to a fresh engine and prints the actions of each event.
///
/// # Errors
/// When the file cannot be read or is no recording.
pub fn replay(path: &Path, out: &mut dyn Write) -> Result<()> {
    let mut lines = BufReader::new(File::open(path)?).lines();
    let Some(header) = lines.next() else { bail!("the recording is empty") };
    let header: serde_json::Value = serde_json::from_str(&header?).context("the first line is no header")?;
    let field = |name: &str| header.get(name).cloned().unwrap_or_default();
    let source: Source = serde_json::from_value(field("source")).context("no configuration in the header")?;
    let options = Options {
        recover: field("recover").as_bool().unwrap_or(false),
        utc_offset_secs: i32::try_from(field("utc_offset_secs").as_i64().unwrap_or(0)).unwrap_or(0),
        hostname: field("hostname").as_str().unwrap_or("").to_owned(),
    };
    let now: Time = serde_json::from_value(field("now")).context("no time in the header")?;
    let config = parse(&source).context("the recorded configuration is not valid")?;
    let mut engine = Engine::new(config, options, now);
    for (number, line) in lines.enumerate() {
        let (now, event): (Time, Event) =
            serde_json::from_str(&line?).with_context(|| format!("line {} is no event", number + 2))?;
        let written = writeln!(out, "{} {event:?}", now.0).and_then(|()| {
            engine.step(now, event).iter().try_for_each(|action| writeln!(out, "    {action:?}"))
        });
        match written {
            // Whoever reads has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            result => result?,
        }
    }
    Ok(())
}
