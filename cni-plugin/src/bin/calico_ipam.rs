//! The IPAM plugin `calico-ipam`, for network plugins that call it by itself. See `cni_plugin::run`.

fn main() -> std::process::ExitCode {
    cni_plugin::run::main(cni_plugin::run::Plugin::CalicoIpam)
}
