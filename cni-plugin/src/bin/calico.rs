//! The CNI plugin `calico`, and a copy of it named `calico-ipam` is that one. See `cni_plugin::run`.

fn main() -> std::process::ExitCode {
    cni_plugin::run::main(cni_plugin::run::Plugin::called())
}
