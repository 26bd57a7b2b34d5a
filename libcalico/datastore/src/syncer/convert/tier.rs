//! `Tier` → the tier that Felix orders policies by.

use libcalico_api::tier::Tier;
use libcalico_model::{Key, Value, backend};

use super::Outputs;

pub fn convert(tier: &Tier) -> Outputs {
    let value = backend::Tier {
        order: tier.spec.order,
        default_action: serde_json::to_value(&tier.spec.default_action)
            .ok()
            .and_then(|v| v.as_str().map(str::to_owned)),
    };
    vec![(Key::Tier(tier.metadata.name.clone()), Value::Tier(value))]
}
