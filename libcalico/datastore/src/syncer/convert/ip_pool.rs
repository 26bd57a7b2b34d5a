//! `IPPool` → the pool by its CIDR.

use std::sync::Arc;

use libcalico_api::ip_pool::{EncapMode, IPPool};
use libcalico_model::{Key, Value, backend};

use super::{Outputs, parse_net};

pub fn convert(pool: &IPPool) -> Result<Outputs, String> {
    let spec = &pool.spec;
    let cidr = parse_net(spec.cidr.as_deref().unwrap_or_default())?;
    let ipip_mode = mode(spec.ipip_mode);
    let disabled = spec.disabled.unwrap_or_default();
    let value = backend::IpPool {
        cidr,
        ipip_interface: if ipip_mode.is_empty() { String::new() } else { "tunl0".to_owned() },
        ipip_mode,
        vxlan_mode: mode(spec.vxlan_mode),
        masquerade: spec.nat_outgoing.unwrap_or_default(),
        ipam: !disabled,
        disabled,
        disable_bgp_export: spec.disable_bgp_export.unwrap_or_default(),
        assignment_mode: spec
            .assignment_mode
            .map_or("Automatic", |m| match m {
                libcalico_api::ip_pool::AssignmentMode::Automatic => "Automatic",
                libcalico_api::ip_pool::AssignmentMode::Manual => "Manual",
            })
            .to_owned(),
        allowed_uses: spec.allowed_uses.iter().map(|u| u.name().to_owned()).collect(),
    };
    Ok(vec![(Key::IpPool(cidr), Value::IpPool(Arc::new(value)))])
}

fn mode(mode: Option<EncapMode>) -> String {
    match mode {
        None | Some(EncapMode::Never) => "",
        Some(EncapMode::Always) => "always",
        Some(EncapMode::CrossSubnet) => "cross-subnet",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_known_by_its_network_and_keeps_its_modes() {
        let json = br#"{"spec":{"cidr":"10.65.0.0/16","ipipMode":"CrossSubnet","vxlanMode":"Never","natOutgoing":true}}"#;
        let pool: IPPool = serde_json::from_slice(json).unwrap();
        let out = convert(&pool).unwrap();
        assert_eq!(out[0].0.path(), "/calico/v1/ipam/v4/pool/10.65.0.0-16");
        let text = String::from_utf8(out[0].1.to_bytes()).unwrap();
        assert_eq!(
            text,
            r#"{"cidr":"10.65.0.0/16","ipip":"tunl0","ipip_mode":"cross-subnet","vxlan_mode":"","masquerade":true,"ipam":true,"disabled":false,"disableBGPExport":false,"assignment_mode":"Automatic"}"#
        );
        assert!(convert(&IPPool::default()).is_err());

        let json = br#"{"spec":{"cidr":"10.66.0.0/16","allowedUses":["LoadBalancer"]}}"#;
        let out = convert(&serde_json::from_slice(json).unwrap()).unwrap();
        assert!(
            String::from_utf8(out[0].1.to_bytes()).unwrap().contains(r#""allowed_uses":["LoadBalancer"]"#)
        );
    }
}
