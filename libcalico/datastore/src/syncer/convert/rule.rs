//! Policy rules of the API → rules that Felix calculates with: words in lower case, networks parsed, selectors
//! completed by namespace and service accounts.

use libcalico_api::num_or_string::Protocol;
use libcalico_api::rule::{Action, EntityRule, IcmpFields, Rule};
use libcalico_model::backend;

use super::{parse_nets, selector};

/// Rules of one direction of a policy in `namespace` (empty: none). The error names the rule.
pub fn convert_all(rules: &[Rule], namespace: &str, direction: &str) -> Result<Vec<backend::Rule>, String> {
    rules
        .iter()
        .enumerate()
        .map(|(i, r)| convert(r, namespace).map_err(|e| format!("spec.{direction}[{i}]: {e}")))
        .collect()
}

fn convert(rule: &Rule, namespace: &str) -> Result<backend::Rule, String> {
    let (src, dst) = (&rule.source, &rule.destination);
    selector::check(&src.not_selector)?;
    selector::check(&dst.not_selector)?;
    let (icmp_type, icmp_code) = icmp(rule.icmp)?;
    let (not_icmp_type, not_icmp_code) = icmp(rule.not_icmp)?;
    let service = |side: &EntityRule| {
        side.services.as_ref().map(|s| (s.name.clone(), s.namespace.clone())).unwrap_or_default()
    };
    let in_own_namespace = |(name, ns): (String, String)| {
        // A service is named within the policy's namespace unless the rule says another.
        let ns = if ns.is_empty() && !name.is_empty() { namespace.to_owned() } else { ns };
        (name, ns)
    };
    let (src_service, src_service_namespace) = in_own_namespace(service(src));
    let (dst_service, dst_service_namespace) = in_own_namespace(service(dst));
    Ok(backend::Rule {
        action: action(rule.action).to_owned(),
        ip_version: rule.ip_version,
        protocol: rule.protocol.as_ref().map(lower),
        icmp_type,
        icmp_code,
        not_protocol: rule.not_protocol.as_ref().map(lower),
        not_icmp_type,
        not_icmp_code,
        src_nets: parse_nets(&src.nets)?,
        src_selector: selector::peers(src, namespace)?,
        src_ports: src.ports.clone(),
        src_service,
        src_service_namespace,
        dst_nets: parse_nets(&dst.nets)?,
        dst_selector: selector::peers(dst, namespace)?,
        dst_ports: dst.ports.clone(),
        dst_service,
        dst_service_namespace,
        not_src_nets: parse_nets(&src.not_nets)?,
        not_src_selector: src.not_selector.clone(),
        not_src_ports: src.not_ports.clone(),
        not_dst_nets: parse_nets(&dst.not_nets)?,
        not_dst_selector: dst.not_selector.clone(),
        not_dst_ports: dst.not_ports.clone(),
        original_src_selector: src.selector.clone(),
        original_src_namespace_selector: src.namespace_selector.clone(),
        original_dst_selector: dst.selector.clone(),
        original_dst_namespace_selector: dst.namespace_selector.clone(),
        http: rule.http.clone(),
        metadata: rule.metadata.clone(),
        ..backend::Rule::default()
    })
}

fn action(action: Action) -> &'static str {
    match action {
        Action::Allow => "allow",
        Action::Deny => "deny",
        Action::Log => "log",
        Action::Pass => "pass",
    }
}

/// The calculation has protocols' names in lower case.
pub fn lower(protocol: &Protocol) -> Protocol {
    match protocol {
        Protocol::Number(n) => Protocol::Number(*n),
        Protocol::Name(n) => Protocol::Name(n.to_ascii_lowercase()),
    }
}

fn icmp(fields: Option<IcmpFields>) -> Result<(Option<u8>, Option<u8>), String> {
    let byte = |n: Option<i32>, what: &str| {
        n.map(|n| u8::try_from(n).map_err(|_| format!("ICMP {what} {n} is not in 0..255"))).transpose()
    };
    match fields {
        None => Ok((None, None)),
        Some(f) => Ok((byte(f.icmp_type, "type")?, byte(f.code, "code")?)),
    }
}
