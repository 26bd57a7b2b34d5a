//! What is measured, and how.
//!
//! | figure | from | until |
//! |---|---|---|
//! | programmed | the process's start | readiness is 200 and the kernel's tables are whole: the last change before two seconds of quiet |
//! | CPU until programmed | | of the process and its children, at that moment |
//! | one more policy | sending the write to etcd, and etcd's answer | the kernel's tables changed for the last time |
//! | one more policy, its applies | Felix's own figure, `felix_int_dataplane_apply_time_seconds`: all applies of that change | |
//! | one more policy on every endpoint | the same, of one that selects `all()` | |
//! | ready after a restart | the start after a SIGKILL | readiness is 200 |
//! | policy to traffic | sending the write to etcd | sending of the first packet that is treated differently |
//! | one member | sending the write to etcd, and etcd's answer | the kernel's tables changed |
//! | one member, its applies | Felix's own figure, as above: the change to the kernel | |
//! | resident, peak | | `VmRSS` after the changes, `VmHWM` |
//!
//! What stands in the kernel is checked once it is quiet: rules of every endpoint, every policy. Each wait has a limit, and
//! each series of changes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::bench::{Beat, Times};
use libcalico_api::{Kind, Resource};
use libcalico_datastore::resources;

use super::felix::{Backend, Felix, Program, Usage, output};
use super::kernel::Generations;
use super::machine::Machine;
use super::shape::{self, NAMESPACE, Shape, address, interface};
use super::table::{Aim, Figure, Value};

/// Until programmed, or ready again.
const START_LIMIT: Duration = Duration::from_secs(200);
/// For one change.
const CHANGE_LIMIT: Duration = Duration::from_secs(20);
/// No change for so long: all is written.
const START_QUIET: Duration = Duration::from_secs(2);
const CHANGE_QUIET: Duration = Duration::from_millis(150);
/// A series of changes ends when it has taken so long, though it has fewer than were asked for.
const SERIES_LIMIT: Duration = Duration::from_secs(15);
/// Fewer tell nothing.
const FEWEST: usize = 2;
const MIB: u64 = 1 << 20;

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Scale(usize),
    Traffic,
    Members,
    Rules,
}

type Emit<'a> = &'a mut dyn FnMut(Figure);

impl Part {
    pub const ALL: [Self; 5] =
        [Self::Scale(100), Self::Scale(1000), Self::Traffic, Self::Members, Self::Rules];

    pub fn name(self) -> String {
        match self {
            Self::Scale(n) => format!("scale-{n}"),
            Self::Traffic => "traffic".to_owned(),
            Self::Members => "member".to_owned(),
            Self::Rules => "rules".to_owned(),
        }
    }

    /// True where it runs without being asked for: the small ones on one backend only.
    pub fn by_default(self, backend: Backend) -> bool {
        backend == Backend::Nftables || matches!(self, Self::Scale(1000) | Self::Traffic)
    }

    fn shape(self) -> Shape {
        match self {
            Self::Scale(n) => shape::scale(n),
            Self::Traffic => shape::scale(10),
            Self::Members => shape::members(),
            Self::Rules => shape::rules(),
        }
    }

    /// Measures one program. What fails is a figure too, and ends the part.
    pub fn measure(self, program: &Program, backend: Backend, rounds: usize, emit: Emit<'_>) {
        if let Err(e) = self.try_measure(program, backend, rounds, emit) {
            emit(Figure::new("(ended)", Value::Failed(format!("{e:#}")), Aim::None));
        }
    }

    fn try_measure(self, program: &Program, backend: Backend, rounds: usize, emit: Emit<'_>) -> Result<()> {
        let shape = self.shape();
        let machine = Machine::new(&shape).context("making the world")?;
        let generations = Generations::start(machine.ns())?;
        let mut felix = program.start(&machine, backend)?;
        let start = Start { part: self, generations: &generations, shape: &shape, backend };
        start.measure(&machine, &mut felix, emit).context("programming")?;
        match self {
            Self::Scale(n) => {
                // Before policies for every endpoint come, which let no such packets through.
                traffic(&machine, rounds, emit).context("traffic")?;
                more_policies((&machine, &felix), &generations, n, rounds, emit)
                    .context("one more policy")?;
                memory(self, &felix.usage()?, emit);
                felix.kill();
                let mut felix = program.start(&machine, backend)?;
                let ready = felix.wait_ready(START_LIMIT, |_, _| true).context("restart")?;
                emit(Figure::new("ready after a restart", Value::Time(ready), limit(self, 1000, 1.0)));
            }
            Self::Traffic => traffic(&machine, rounds * 2, emit).context("traffic")?,
            Self::Members => {
                one_member((&machine, &felix), &generations, rounds, emit).context("one member")?;
                memory(self, &felix.usage()?, emit);
            }
            Self::Rules => memory(self, &felix.usage()?, emit),
        }
        Ok(())
    }
}

/// Numbers of rounds from zero, until there are enough or it has taken too long. Round zero is not counted: connections
/// are made again after a long wait, and caches filled.
fn series(rounds: usize) -> impl Iterator<Item = usize> {
    let begun = Instant::now();
    (0..=rounds).take_while(move |round| *round <= FEWEST || begun.elapsed() < SERIES_LIMIT)
}

/// An aim of so many seconds, at one scale alone.
fn limit(part: Part, scale: usize, seconds: f64) -> Aim {
    if part == Part::Scale(scale) {
        Aim::AtMost(Value::Time(Duration::from_secs_f64(seconds)))
    } else {
        Aim::None
    }
}

fn memory(part: Part, usage: &Usage, emit: Emit<'_>) {
    let aim = match part {
        Part::Scale(1000) => Aim::AtMost(Value::Bytes(60 * MIB)),
        Part::Scale(100) => Aim::AtMost(Value::Bytes(30 * MIB)),
        _ => Aim::None,
    };
    emit(Figure::new("resident", Value::Bytes(usage.rss_bytes), aim));
    emit(Figure::new("peak", Value::Bytes(usage.peak_bytes), Aim::None));
}

struct Start<'a> {
    part: Part,
    generations: &'a Generations,
    shape: &'a Shape,
    backend: Backend,
}

impl Start<'_> {
    fn measure(&self, machine: &Machine, felix: &mut Felix, emit: Emit<'_>) -> Result<()> {
        let started = felix.started;
        let (mut cpu, mut seen) = (Duration::ZERO, None);
        let ready = felix.wait_ready(START_LIMIT, |ready, usage| {
            let last = self.generations.last_after(started);
            if !ready || last != seen {
                (cpu, seen) = (usage.cpu, last);
            }
            ready && last.is_some_and(|at| at.elapsed() > START_QUIET)
        })?;
        let last = self.generations.last_after(started).map_or(Duration::ZERO, |at| at - started);
        let rules = self.check(machine)?;
        emit(Figure::new("programmed", Value::Time(ready.max(last)), limit(self.part, 1000, 2.0)));
        emit(Figure::new("CPU until programmed", Value::Time(cpu), Aim::None));
        emit(Figure::new("rules in the kernel", Value::Count(rules), Aim::None));
        Ok(())
    }

    /// Every endpoint's and every policy's rules are there. Returns how many rules are.
    fn check(&self, machine: &Machine) -> Result<u64> {
        let (text, begins) = match self.backend {
            Backend::Nftables => (output(machine.ns(), &["nft", "-s", "list", "ruleset"])?, "\t\t"),
            Backend::Iptables => (output(machine.ns(), &["iptables-nft-save"])?, "-A "),
        };
        for i in 0..self.shape.endpoints {
            let name = interface(i);
            ensure!(text.contains(&format!("tw-{name}")), "no chain of {name} in the kernel");
        }
        let policies = self.shape.resources.iter().filter(|r| r.kind() == Kind::NetworkPolicy).count();
        let chains = text.lines().filter(|l| is_policy_chain(l)).count();
        ensure!(chains >= policies, "chains of {chains} policies in the kernel, not of {policies}");
        Ok(text.lines().filter(|l| l.starts_with(begins) && !l.contains("type filter hook")).count() as u64)
    }
}

/// A line that declares a chain for a policy's ingress.
fn is_policy_chain(line: &str) -> bool {
    let line = line.trim_start();
    let name = line.strip_prefix("chain ").or_else(|| line.strip_prefix(':')).unwrap_or_default();
    name.strip_prefix("filter-").unwrap_or(name).starts_with("cali-pi-")
}

fn times(what: [&'static str; 2], list: Vec<Duration>, aims: [Aim; 2], emit: Emit<'_>) {
    let times = Times::new(list);
    for ((what, percent), aim) in what.into_iter().zip([50, 99]).zip(aims) {
        emit(Figure::new(what, Value::Time(times.percentile(percent)), aim));
    }
}

fn more_policies(
    (machine, felix): (&Machine, &Felix),
    changes: &Generations,
    n: usize,
    rounds: usize,
    emit: Emit<'_>,
) -> Result<()> {
    let policy = |round| shape::policy(&format!("more{round}"), 2 * n + round, shape::PODS + round % n);
    let one = more((machine, felix), changes, rounds, policy)?;
    let aim = || limit(Part::Scale(n), 1000, 0.005);
    times(["one more policy, median", "one more policy, p99"], one.whole, [Aim::None, Aim::None], emit);
    times(
        ["one more policy, from etcd's answer, median", "one more policy, from etcd's answer, p99"],
        one.answered,
        [aim(), Aim::None],
        emit,
    );
    times(
        ["one more policy, its applies, median", "one more policy, its applies, p99"],
        one.applies,
        [aim(), Aim::None],
        emit,
    );
    let policy = |round| shape::policy_for_all(&format!("all{round}"), round, round % n);
    let all = more((machine, felix), changes, rounds, policy)?;
    times(
        ["one more policy on every endpoint, median", "one more policy on every endpoint, p99"],
        all.whole,
        [Aim::None, Aim::None],
        emit,
    );
    times(
        [
            "one more policy on every endpoint, its applies, median",
            "one more policy on every endpoint, its applies, p99",
        ],
        all.applies,
        [Aim::None, Aim::None],
        emit,
    );
    Ok(())
}

/// What policies took that came one by one.
#[derive(Default)]
struct More {
    whole: Vec<Duration>,
    answered: Vec<Duration>,
    applies: Vec<Duration>,
}

fn more(
    (machine, felix): (&Machine, &Felix),
    changes: &Generations,
    rounds: usize,
    policy: impl Fn(usize) -> Resource,
) -> Result<More> {
    let mut out = More::default();
    for round in series(rounds) {
        let before = felix.applies()?;
        let (start, answered) = write(machine, policy(round))?;
        let took = changes.settle(start, CHANGE_QUIET, CHANGE_LIMIT)?;
        if round > 0 {
            out.whole.push(took);
            out.answered.push(took.saturating_sub(answered - start));
            out.applies.push(felix.applies()?.saturating_sub(before));
        }
    }
    Ok(out)
}

/// Writes a new object; returns when that began and when etcd had answered.
fn write(machine: &Machine, resource: Resource) -> Result<(Instant, Instant)> {
    machine.with_store(async |store| {
        let start = Instant::now();
        resources::create(store, resource).await?;
        Ok((start, Instant::now()))
    })
}

fn traffic(machine: &Machine, rounds: usize, emit: Emit<'_>) -> Result<()> {
    let [client, server] = machine.pods();
    let beat = Beat::start(client, server, address(1).into())?;
    beat.wait_change(Instant::now(), true)?;
    let mut list = Vec::new();
    for round in series(rounds) {
        let start = write(machine, shape::deny_server())?.0;
        let denied = beat.wait_change(start, false)?;
        // Some packets more, so that the next change starts from quiet.
        std::thread::sleep(CHANGE_QUIET / 3);
        let start = machine.with_store(async |store| {
            let start = Instant::now();
            resources::delete(store, Kind::NetworkPolicy, NAMESPACE, "deny-server", None).await?;
            Ok(start)
        })?;
        let allowed = beat.wait_change(start, true)?;
        std::thread::sleep(CHANGE_QUIET / 3);
        if round > 0 {
            list.extend([denied, allowed]);
        }
    }
    let aims = [Aim::PartOfPeer(0.2), Aim::AtMost(Value::Time(Duration::from_millis(20)))];
    times(
        ["policy written to traffic changed, median", "policy written to traffic changed, p99"],
        list,
        aims,
        emit,
    );
    Ok(())
}

fn one_member(
    (machine, felix): (&Machine, &Felix),
    changes: &Generations,
    rounds: usize,
    emit: Emit<'_>,
) -> Result<()> {
    let (mut whole, mut after, mut applies) = (Vec::new(), Vec::new(), Vec::new());
    for round in series(rounds) {
        // Out of its set, then in again.
        for member in [false, true] {
            let resource = shape::remote(round, member);
            let key = resources::key_of(&resource);
            let before = felix.applies()?;
            let (start, answered) = machine.with_store(async |store| {
                let start = Instant::now();
                store.apply(&key, resource.into()).await?;
                Ok((start, Instant::now()))
            })?;
            let took = changes.settle(start, CHANGE_QUIET, CHANGE_LIMIT)?;
            if round > 0 {
                whole.push(took);
                after.push((start + took).saturating_duration_since(answered));
                applies.push(felix.applies()?.saturating_sub(before));
            }
        }
    }
    let none = || [Aim::None, Aim::None];
    times(["one member, from the write, median", "one member, from the write, p99"], whole, none(), emit);
    times(
        ["one member, from etcd's answer, median", "one member, from etcd's answer, p99"],
        after,
        none(),
        emit,
    );
    let aims = [Aim::AtMost(Value::Time(Duration::from_millis(1))), Aim::None];
    times(["one member, its applies, median", "one member, its applies, p99"], applies, aims, emit);
    Ok(())
}
