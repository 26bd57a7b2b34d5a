//! Generates the messages and services from the `.proto` files. Needs `protoc` (Debian: protobuf-compiler).

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Byte fields are shared slices: a message that goes to many clients is encoded once.
    tonic_prost_build::configure()
        .bytes(".")
        .compile_protos(&["proto/calico/typha/v1/typha.proto"], &["proto"])?;
    Ok(())
}
