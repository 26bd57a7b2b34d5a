//! Limits of a pod, from its annotations: bandwidth, packets, connections, and the mark of its packets.
//!
//! In come annotations, out comes the endpoint's `qosControls` with upstream's names, bounds and defaults, and what was
//! wrong. Pure. A value outside its bounds becomes the bound; one that cannot be read, or that makes no sense without
//! another that is missing, is left out; the rest counts.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Kubernetes' own annotations for bandwidth; Calico's of the same meaning win.
const KUBERNETES: &str = "kubernetes.io/";
const CALICO: &str = "qos.projectcalico.org/";
/// Bits; 4 Gi.
const DEFAULT_BURST: i64 = 4 << 30;
/// Packets.
const DEFAULT_PACKET_BURST: i64 = 5;

/// A limit for one direction: its name behind the direction, smallest and largest value.
struct Limit(&'static str, i64, i64);

/// Bits a second, bits, bits a second, bytes, packets a second, packets, connections.
const LIMITS: [Limit; 7] = [
    Limit("Bandwidth", 1_000, 1_000_000_000_000_000),
    Limit("Burst", 1_000, (u32::MAX as i64) * 8),
    Limit("Peakrate", 1_010, 1_010_000_000_000_000),
    Limit("Minburst", 1_000, 100_000_000),
    Limit("PacketRate", 1, 10_000),
    Limit("PacketBurst", 1, 10_000),
    Limit("MaxConnections", 1, u32::MAX as i64),
];

/// Code points of packets by name (RFC 2474, 2597, 3246, 5865).
const CODE_POINTS: [&str; 22] = [
    "DF", "EF", "VA", "CS0", "CS1", "CS2", "CS3", "CS4", "CS5", "CS6", "CS7", "AF11", "AF12", "AF13", "AF21",
    "AF22", "AF23", "AF31", "AF32", "AF33", "AF41", "AF42",
];

/// Limits of a pod, none where it has none, and what was wrong with its annotations.
#[must_use]
pub fn controls(annotations: &BTreeMap<String, String>) -> (Option<Value>, Vec<String>) {
    let mut all = Map::new();
    let mut wrong = Vec::new();
    for direction in ["ingress", "egress"] {
        all.extend(one_direction(direction, annotations, &mut wrong));
    }
    let name = format!("{CALICO}dscp");
    if let Some(text) = annotations.get(&name) {
        match code_point(text) {
            Some(value) => drop(all.insert("dscp".to_owned(), value)),
            None => {
                wrong.push(format!("{name}: {text:.40?} is no DSCP value (0 to 63, or a name such as AF11)"));
            }
        }
    }
    ((!all.is_empty()).then_some(Value::Object(all)), wrong)
}

fn one_direction(
    direction: &str,
    annotations: &BTreeMap<String, String>,
    wrong: &mut Vec<String>,
) -> Map<String, Value> {
    let mut value = |Limit(name, min, max): &Limit| -> i64 {
        let own = format!("{CALICO}{direction}{name}");
        let kubernetes = format!("{KUBERNETES}{direction}-bandwidth");
        let kubernetes = annotations.get_key_value(&kubernetes).filter(|_| *name == "Bandwidth");
        let Some((key, text)) = annotations.get_key_value(&own).or(kubernetes) else { return 0 };
        match quantity(text) {
            None => {
                wrong.push(format!("{key}: {text:.40?} is no quantity"));
                0
            }
            Some(n) if n < i128::from(*min) || n > i128::from(*max) => {
                wrong.push(format!("{key}: {text:.40} is not between {min} and {max}"));
                if n < i128::from(*min) { *min } else { *max }
            }
            Some(n) => i64::try_from(n).unwrap_or(*max),
        }
    };
    let [bandwidth, mut burst, mut peakrate, mut minburst, rate, mut packet_burst, connections] =
        LIMITS.each_ref().map(&mut value);
    let mut needs = |n: &mut i64, holds: bool, what: &str| {
        if *n != 0 && !holds {
            wrong.push(format!("{direction} {what}"));
            *n = 0;
        }
    };
    needs(&mut burst, bandwidth != 0, "burst needs a bandwidth");
    let above = bandwidth != 0 && bandwidth < peakrate;
    needs(&mut peakrate, above, "peakrate must be greater than the bandwidth");
    needs(&mut minburst, peakrate != 0, "minburst needs a peakrate");
    needs(&mut packet_burst, rate != 0, "packet burst needs a packet rate");
    if bandwidth != 0 && burst == 0 {
        burst = DEFAULT_BURST;
    }
    if rate != 0 && packet_burst == 0 {
        packet_burst = DEFAULT_PACKET_BURST;
    }
    let values = [bandwidth, burst, peakrate, minburst, rate, packet_burst, connections];
    let named = LIMITS.iter().zip(values).filter(|(_, n)| *n != 0);
    named.map(|(Limit(name, ..), n)| (format!("{direction}{name}"), json!(n))).collect()
}

fn code_point(text: &str) -> Option<Value> {
    if let Ok(n) = text.parse::<u8>() {
        return (n < 64).then(|| json!(n));
    }
    (CODE_POINTS.contains(&text) || text == "AF43").then(|| json!(text))
}

/// A quantity of Kubernetes as a whole number, rounded up: `10M`, `1.5Gi`, `1e6`, `500m`.
#[must_use]
pub fn quantity(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (negative, number) = match number.strip_prefix('-') {
        Some(n) => (true, n),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 18 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mantissa: i128 = digits.parse().ok()?;
    let (base, power): (i128, i32) = match suffix {
        "" => (10, 0),
        "n" => (10, -9),
        "u" => (10, -6),
        "m" => (10, -3),
        "k" => (10, 3),
        "M" => (10, 6),
        "G" => (10, 9),
        "T" => (10, 12),
        "P" => (10, 15),
        "E" => (10, 18),
        "Ki" => (1024, 1),
        "Mi" => (1024, 2),
        "Gi" => (1024, 3),
        "Ti" => (1024, 4),
        "Pi" => (1024, 5),
        "Ei" => (1024, 6),
        other => (10, other.strip_prefix(['e', 'E'])?.parse().ok().filter(|n| (-18..=18).contains(n))?),
    };
    let scaled =
        if power >= 0 { mantissa.checked_mul(base.checked_pow(power.unsigned_abs())?)? } else { mantissa };
    let down = if power < 0 { 10i128.checked_pow(power.unsigned_abs())? } else { 1 };
    let divisor = down.checked_mul(10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    let rounded_up = scaled / divisor + i128::from(scaled % divisor != 0);
    Some(if negative { -(scaled / divisor) } else { rounded_up })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(pairs: &[(&str, &str)]) -> (Value, Vec<String>) {
        let map = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let (value, wrong) = controls(&map);
        (value.unwrap_or_default(), wrong)
    }

    #[test]
    fn quantities_are_kubernetes_own() {
        for (text, n) in [
            ("1000", 1000),
            ("10M", 10_000_000),
            ("1.5Gi", 1_610_612_736),
            ("1e6", 1_000_000),
            ("2E3", 2000),
            ("500m", 1),
            ("1.5", 2),
            ("-1.5", -1),
            ("+7k", 7000),
            ("0.5Ki", 512),
        ] {
            assert_eq!(quantity(text), Some(n), "{text}");
        }
        for text in ["", "M", "1 M", "1..2", "--1", "1KB", "1e99", "0x1", "9999999999999999999"] {
            assert_eq!(quantity(text), None, "{text}");
        }
    }

    #[test]
    fn calicos_annotation_wins_and_bursts_have_defaults() {
        let (v, wrong) = of(&[
            ("kubernetes.io/ingress-bandwidth", "1M"),
            ("qos.projectcalico.org/ingressBandwidth", "2M"),
            ("kubernetes.io/egress-bandwidth", "3M"),
            ("qos.projectcalico.org/egressPacketRate", "100"),
            ("qos.projectcalico.org/ingressMaxConnections", "50"),
            ("qos.projectcalico.org/dscp", "AF11"),
        ]);
        assert!(wrong.is_empty(), "{wrong:?}");
        assert_eq!(
            v,
            json!({"ingressBandwidth": 2_000_000, "ingressBurst": 4_294_967_296_i64, "ingressMaxConnections": 50,
                "egressBandwidth": 3_000_000, "egressBurst": 4_294_967_296_i64, "egressPacketRate": 100,
                "egressPacketBurst": 5, "dscp": "AF11"})
        );
    }

    #[test]
    fn what_is_out_of_bounds_or_alone_is_told_and_the_rest_counts() {
        let (v, wrong) = of(&[
            ("qos.projectcalico.org/ingressBandwidth", "10"),
            ("qos.projectcalico.org/egressBurst", "1M"),
            ("qos.projectcalico.org/egressPacketRate", "1M"),
            ("qos.projectcalico.org/ingressPeakrate", "nonsense"),
            ("qos.projectcalico.org/dscp", "64"),
        ]);
        assert_eq!(v["ingressBandwidth"], 1000);
        assert_eq!(v["egressPacketRate"], 10_000);
        assert_eq!(v.get("egressBurst"), None);
        assert_eq!(wrong.len(), 5, "{wrong:?}");
        assert_eq!(of(&[("app", "web")]), (Value::Null, Vec::new()));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,30}", number in "[-+]?[0-9]{0,20}\\.?[0-9]{0,20}([a-zA-Z]{0,2}|[eE]-?[0-9]{0,3})") {
            for t in [&text, &number] {
                let _ = quantity(t);
                let _ = of(&[("qos.projectcalico.org/ingressBandwidth", t), ("qos.projectcalico.org/dscp", t)]);
            }
        }
    }
}
