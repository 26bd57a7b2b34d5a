//! The CNI plugin `calico`. Everything is in the library; see `cni_plugin::run`.

fn main() -> std::process::ExitCode {
    cni_plugin::run::main(cni_plugin::run::Plugin::Calico)
}
