//! Every command and flag of upstream's calicoctl is known, by its long and short name and its default.

use calicoctl::cli::Cli;
use clap::{Command, CommandFactory as _};

fn find<'a>(root: &'a Command, path: &str) -> Option<&'a Command> {
    path.split(' ').skip(1).try_fold(root, |c, word| c.find_subcommand(word))
}

#[test]
fn every_flag_of_upstream_is_known() {
    let mut root = Cli::command();
    root.build();
    let mut missing = Vec::new();
    for line in include_str!("../data/flags.tsv").lines().skip(1) {
        let mut columns = line.split('\t');
        let mut next = || columns.next().unwrap_or_default();
        let (path, short, long, default) = (next(), next(), next(), next());
        let Some(command) = find(&root, path) else {
            missing.push(path.to_owned());
            continue;
        };
        let Some(name) = long.split(' ').next().and_then(|l| l.strip_prefix("--")) else { continue };
        let found = command.get_arguments().find(|a| a.get_long() == Some(name));
        let Some(flag) = found else {
            missing.push(format!("{path} --{name}"));
            continue;
        };
        if let Some(short) = short.strip_prefix('-').and_then(|s| s.chars().next())
            && flag.get_short() != Some(short)
        {
            missing.push(format!("{path} -{short}"));
        }
        // The registry is where whoever builds the images keeps them.
        let default = default.strip_prefix("<registry>/").unwrap_or(default);
        let ours = flag.get_default_values().first().map(|v| v.to_string_lossy().into_owned());
        if !default.is_empty() && ours.as_deref() != Some(default) {
            missing.push(format!("{path} --{name}: default {default:?}, here {ours:?}"));
        }
    }
    assert_eq!(missing, [""; 0]);
}
