//! birdc: a client of the control socket. Prints replies as BIRD's own client does.
//!
//! With words on the command line it sends them as one command and exits 0, or 1 when the reply is an error. Without,
//! it reads commands from standard input, with a prompt when that is a terminal.

use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Parser;

/// Client of bird-rs and BIRD.
#[derive(Debug, Parser)]
#[command(name = "birdc", version, about)]
struct Args {
    /// Control socket.
    #[arg(short = 's', value_name = "SOCKET", default_value = "/run/bird/bird.ctl")]
    socket: PathBuf,
    /// Allow only commands that change nothing.
    #[arg(short = 'r')]
    restrict: bool,
    /// Print the numeric codes of replies.
    #[arg(short = 'v')]
    verbose: bool,
    /// The command; without one, commands are read from standard input.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

struct Client {
    read: BufReader<UnixStream>,
    write: UnixStream,
    verbose: bool,
}

impl Client {
    /// Prints a reply up to its last line; returns the code of that.
    fn reply(&mut self) -> Result<u16> {
        let mut out = std::io::stdout().lock();
        loop {
            let mut line = String::new();
            if self.read.read_line(&mut line)? == 0 {
                bail!("connection closed by the daemon");
            }
            let (code, last, text) = split(line.trim_end_matches('\n'));
            if self.verbose {
                write!(out, "{line}")?;
            } else if !(last && text.is_empty()) {
                writeln!(out, "{text}")?;
            }
            if last {
                return Ok(code);
            }
        }
    }

    fn command(&mut self, command: &str) -> Result<u16> {
        writeln!(self.write, "{command}")?;
        self.reply()
    }
}

/// Code, whether the line is the last of its reply, and its text.
fn split(line: &str) -> (u16, bool, &str) {
    if let Some(text) = line.strip_prefix(' ') {
        return (0, false, text);
    }
    let Some((code, rest)) = line.split_at_checked(4) else { return (0, false, line) };
    let Ok(code) = code.parse() else { return (0, false, line) };
    (code, !rest.starts_with('-'), rest.get(1..).unwrap_or(""))
}

fn main() -> Result<()> {
    let args = Args::parse();
    let stream = UnixStream::connect(&args.socket)
        .with_context(|| format!("Unable to connect to server control socket ({})", args.socket.display()))?;
    let write = stream.try_clone()?;
    let mut client = Client { read: BufReader::new(stream), write, verbose: args.verbose };
    client.reply()?;
    if args.restrict {
        client.command("restrict")?;
    }
    if !args.command.is_empty() {
        let code = client.command(&args.command.join(" "))?;
        std::process::exit(i32::from(code >= 8000));
    }
    let interactive = std::io::stdin().is_terminal();
    loop {
        if interactive {
            print!("bird> ");
            std::io::stdout().flush()?;
        }
        let mut line = String::new();
        if std::io::stdin().read_line(&mut line)? == 0 {
            return Ok(());
        }
        match line.trim() {
            "" => {}
            "quit" | "exit" => return Ok(()),
            "help" | "?" => println!("{HELP}"),
            command => {
                client.command(command)?;
            }
        }
    }
}

const HELP: &str = "\
show status                               Show router status
show protocols [all] [<protocol>]         Show routing protocols
show route [all] [for <addr>] [table <t>] [protocol <p>] [export <p>] [primary] [count] [where <expr>]
show interfaces [summary]                 Show network interfaces
show memory | static | symbols            Show memory usage, static routes, names
configure [check] [soft] [\"<file>\"]       Reload configuration
enable | disable | restart <protocol>     Start, stop, restart protocol
reload [in | out] <protocol>              Take in or send all routes again
graceful restart                          Shut down for graceful restart
down                                      Shut the daemon down
quit                                      Quit the client";
