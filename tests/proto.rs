//! The checked-in code of the .proto files is what they say. `DOORWARD_REGENERATE=1` writes it anew.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{fs, path::Path};

const FILES: [&str; 2] = ["zitadel/user/v2/user_service.proto", "google/rpc/status.proto"];
const PACKAGES: [&str; 2] = ["zitadel.user.v2.rs", "google.rpc.rs"];

#[test]
fn generated_code_is_what_the_proto_files_say() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let generated = tempfile::tempdir().unwrap();
    let descriptors = protox::compile(FILES, [shared.join("proto")]).unwrap();
    prost_build::Config::new()
        .out_dir(generated.path())
        .skip_debug(["."]) // security 25: passwords and codes are in them
        .compile_fds(descriptors)
        .unwrap();
    for package in PACKAGES {
        let fresh = fs::read_to_string(generated.path().join(package)).unwrap();
        let kept = shared.join("src/dialect/zitadel/proto").join(package);
        if std::env::var_os("DOORWARD_REGENERATE").is_some() {
            fs::write(&kept, &fresh).unwrap();
        }
        let differs = "differs from its .proto: see the head of user_service.proto";
        assert_eq!(fs::read_to_string(&kept).unwrap_or_default(), fresh, "{} {differs}", kept.display());
    }
}
