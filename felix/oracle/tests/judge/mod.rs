//! What the tests share: a world from a seed, and `calicoctl policy explain` asked about a packet.

use calicoctl::policy::decide::{self, Answer, Detail};
use calicoctl::policy::party::{self, Named, Party};
use calicoctl::policy::world::{EndKey, World as Stored};
use felix_oracle::resources::{pod_name, stored, yaml};
use felix_oracle::strategy::world;
use felix_oracle::world::{End, NAMESPACES, NODE, Packet, Traffic, World};
use proptest::strategy::{Strategy as _, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// A number of the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// The seeds of the worlds to judge. With `ORACLE_SEED` it and those that follow, `ORACLE_WORLDS` in all; else the same
/// ones every time, and a quarter that nobody has seen yet.
pub fn seeds(worlds: u64) -> impl Iterator<Item = u64> {
    let worlds = setting("ORACLE_WORLDS", worlds);
    let (known, first) = match setting("ORACLE_SEED", 0) {
        0 => (worlds - worlds / 4, rand::random::<u32>().into()),
        seed => (0, seed),
    };
    (1..=known).chain(first..first + worlds - known)
}

/// The world of a seed, with simpler ones behind it.
pub fn world_of(seed: u64) -> impl ValueTree<Value = World> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    world().new_tree(&mut TestRunner::new_with_rng(Config::default(), rng)).expect("a world")
}

/// Looks for a simpler world that is judged wrongly too, in at most so many steps, and fails with it.
pub fn fail_with_the_simplest(
    seed: u64,
    mut failed: impl ValueTree<Value = World>,
    mut reason: String,
    steps: u64,
    mut judge: impl FnMut(&World) -> Result<(), String>,
) -> ! {
    let mut simplest = failed.current();
    let mut going = failed.simplify();
    for _ in 0..steps {
        if !going {
            break;
        }
        let candidate = failed.current();
        going = match judge(&candidate) {
            Err(why) => {
                (simplest, reason) = (candidate, why);
                failed.simplify()
            }
            Ok(()) => failed.complicate(),
        };
    }
    panic!("the world of ORACLE_SEED={seed} ORACLE_WORLDS=1, made simpler:\n{}\n{reason}", yaml(&simplest))
}

/// `calicoctl policy explain` for a world.
pub struct Explain {
    stored: Stored,
}

impl Explain {
    pub fn new(world: &World) -> Self {
        let stored = Stored::new(stored(world));
        assert!(stored.unusable.is_empty(), "{:?}", stored.unusable);
        Self { stored }
    }

    /// The answer for a packet's addresses; none where explain does not know what the end is: a node without an
    /// endpoint is any machine to it.
    pub fn ask(&mut self, world: &World, packet: &Packet, detail: Detail) -> Option<Answer> {
        if world.host.is_none() && packet.from == End::Node && matches!(packet.to, End::Pod(_)) {
            return None;
        }
        // Of several host endpoints it does not say which one forwarded packets meet outside.
        let ends = (packet.from, packet.to);
        if world.beside.is_some() && matches!(ends, (End::Pod(_), End::Outside) | (End::Outside, End::Pod(_)))
        {
            return None;
        }
        let traffic = match packet.traffic {
            Traffic::Tcp(port) => party::Traffic { protocol: 6, port: Some(port) },
            Traffic::Udp(port) => party::Traffic { protocol: 17, port: Some(port) },
            Traffic::UdpLite(port) => party::Traffic { protocol: 136, port: Some(port) },
            Traffic::Sctp(port) => party::Traffic { protocol: 132, port: Some(port) },
            Traffic::Ping => party::Traffic { protocol: 1, port: None },
        };
        let (from, to) = (self.party(world, packet.from, packet.v4), self.party(world, packet.to, packet.v4));
        let answers = decide::ask(&mut self.stored, &from, &to, traffic, detail).expect("an answer");
        answers.into_iter().find(|a| a.from_address.is_ipv4() == packet.v4)
    }

    fn party(&mut self, world: &World, end: End, v4: bool) -> Party {
        let addresses = vec![end.address(v4)];
        let named = match end {
            End::Pod(n) => {
                Named::Pod { namespace: NAMESPACES[world.pods[n].namespace].to_owned(), name: pod_name(n) }
            }
            End::Node | End::Outside => {
                let own = world.hosts().into_iter().next().filter(|_| end == End::Node);
                let key =
                    |(name, _): (&str, &_)| EndKey::Host { node: NODE.to_owned(), name: name.to_owned() };
                return Party { name: format!("{end:?}"), endpoint: own.map(key), addresses };
            }
        };
        let found = party::find(&mut self.stored, named).expect("an end");
        Party { addresses, ..found }
    }
}

/// Every packet that is tried in a world.
pub fn packets(mut source_port: impl FnMut() -> u16) -> Vec<Packet> {
    let mut all = Vec::new();
    for from in End::all() {
        for to in End::all().filter(|to| *to != from) {
            for v4 in [true, false] {
                for traffic in Traffic::all() {
                    all.push(Packet { from, to, v4, traffic, source_port: source_port() });
                }
            }
        }
    }
    all
}
