//! Any standard input and arguments are a CNI request or one of the specification's errors.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &[u8])| {
    let (command, args, stdin) = input;
    let _ = cni_plugin::request::parse(stdin, |name| match name {
        "CNI_COMMAND" => Some(command.to_owned()),
        "CNI_ARGS" => Some(args.to_owned()),
        "CNI_CONTAINERID" => Some("c0ffee".to_owned()),
        "CNI_NETNS" => Some("/run/netns/fuzz".to_owned()),
        "CNI_IFNAME" => Some("eth0".to_owned()),
        "CNI_PATH" => Some("/opt/cni/bin".to_owned()),
        _ => None,
    });
});
