//! Changes a recording a little, so that most of what comes out is a recording still: lines come twice, elsewhere or not
//! at all; a value within a line becomes another one of the file, one that is odd, or goes.
//!
//! In: a text and a number, out: a text; the same for the same number. For the fuzz target and for the plain test that
//! makes the same demands without libFuzzer.

use serde_json::{Value, json};

/// Numbers without end from one.
struct Dice(u64);

impl Dice {
    /// Below `n`; nothing is below none.
    fn roll(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % n.max(1)
    }
}

/// The text with one change.
pub fn mutate(text: &str, number: u32) -> String {
    let mut dice = Dice(u64::from(number));
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.is_empty() {
        return "{\"hostname\":\"local\"}\n{\"status\":\"in-sync\"}\n".to_owned();
    }
    let (mut at, other) = (dice.roll(lines.len()), dice.roll(lines.len()));
    // Rules are what most depends on.
    let with_rules: Vec<usize> = (0..lines.len()).filter(|n| lines[*n].contains("_rules\"")).collect();
    if dice.roll(2) == 0 && !with_rules.is_empty() {
        at = with_rules[dice.roll(with_rules.len())];
    }
    match dice.roll(9) {
        0 => lines.swap(at, other),
        1 => drop(lines.remove(at)),
        2 => lines.insert(other, lines[at].clone()),
        3 => lines.insert(at, "{\"flush\":true}".to_owned()),
        // Deleted, here or at its end.
        4 => {
            let line: Value = serde_json::from_str(&lines[at]).unwrap_or_default();
            if let Some(key) = line.get("key") {
                let place = if dice.roll(2) == 0 { lines.len() } else { other };
                lines.insert(place, json!({ "key": key }).to_string());
            }
        }
        _ => {
            let donor: Value = serde_json::from_str(&lines[other]).unwrap_or_default();
            if let Ok(mut line) = serde_json::from_str::<Value>(&lines[at]) {
                change(&mut line, &donor, &mut dice);
                lines[at] = line.to_string();
            }
        }
    }
    lines.join("\n") + "\n"
}

/// Which values are meant: lists and objects, or all.
#[derive(Clone, Copy)]
struct Kind {
    plain: bool,
}

impl Kind {
    fn has(self, value: &Value) -> bool {
        self.plain || value.is_array() || value.is_object()
    }
}

/// How many values there are, with those within.
fn size(value: &Value, kind: Kind) -> usize {
    usize::from(kind.has(value))
        + match value {
            Value::Array(list) => list.iter().map(|v| size(v, kind)).sum(),
            Value::Object(map) => map.values().map(|v| size(v, kind)).sum(),
            _ => 0,
        }
}

/// Does something to the value of that place, counted from the outside in.
fn at_place(value: &mut Value, kind: Kind, place: &mut usize, act: &mut dyn FnMut(&mut Value)) {
    if kind.has(value) {
        if *place == 0 {
            act(value);
        }
        *place = place.wrapping_sub(1);
    }
    match value {
        Value::Array(list) => list.iter_mut().for_each(|v| at_place(v, kind, place, act)),
        Value::Object(map) => map.values_mut().for_each(|v| at_place(v, kind, place, act)),
        _ => {}
    }
}

fn change(line: &mut Value, donor: &Value, dice: &mut Dice) {
    let kind = Kind { plain: dice.roll(2) == 0 };
    let mut place = dice.roll(size(line, kind));
    let odd = odd_value(dice);
    let mut taken = Value::Null;
    let mut from = donor.clone();
    let all = Kind { plain: true };
    at_place(&mut from, all, &mut dice.roll(size(donor, all)), &mut |v| taken = v.clone());
    let (what, which) = (dice.roll(4), dice.roll(1 << 16));
    at_place(line, kind, &mut place, &mut |value| match (what, &mut *value) {
        (0, Value::Object(map)) if !map.is_empty() => {
            let name = map.keys().nth(which % map.len()).cloned().unwrap_or_default();
            map.remove(&name);
        }
        (0, Value::Array(list)) if !list.is_empty() => drop(list.remove(which % list.len())),
        (1, Value::Object(map)) => {
            map.insert(FIELDS[which % FIELDS.len()].to_owned(), odd.clone());
        }
        (1, Value::Array(list)) => list.push(if which % 2 == 0 { odd.clone() } else { taken.clone() }),
        (2, _) => *value = odd.clone(),
        _ => *value = taken.clone(),
    });
}

/// Fields that change what a rule or a policy means.
const FIELDS: [&str; 24] = [
    "action",
    "ip_version",
    "protocol",
    "!protocol",
    "icmp_type",
    "icmp_code",
    "!icmp_type",
    "src_net",
    "src_nets",
    "!src_nets",
    "src_selector",
    "!src_selector",
    "src_ports",
    "!dst_ports",
    "dst_service",
    "http",
    "selector",
    "types",
    "order",
    "tier",
    "untracked",
    "pre_dnat",
    "apply_on_forward",
    "profile_ids",
];

fn odd_value(dice: &mut Dice) -> Value {
    let all = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(4),
        json!(6),
        json!(300),
        json!(1e300),
        json!([]),
        json!({}),
        json!(""),
        json!("allow"),
        json!("deny"),
        json!("next-tier"),
        json!("a"),
        json!("all()"),
        json!("has("),
        json!("global()"),
        json!("!has(a)"),
        json!("0.0.0.0/0"),
        json!("::/0"),
        json!("10.0.0.1/8"),
        json!("10.0.0.0/33"),
        json!("fd00::1"),
        json!("9:1"),
        json!("0:65535"),
        json!("TCP"),
        json!("udplite"),
        json!("ingress"),
        json!("local"),
        json!("\u{e9}/%2f"),
        json!({ "methods": ["GET"] }),
        json!(["10.0.0.0/8"]),
        json!([80]),
        json!([[]]),
    ];
    all[dice.roll(all.len())].clone()
}
